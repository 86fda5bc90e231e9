/** External authorizers of the mesh: `extensionProviders` of Istio's MeshConfig, as far as they decide about requests. */
import { durationMs } from "./duration.ts";
import { ShapeError, type Field } from "./field.ts";

export interface BodyInCheck {
  readonly maxBytes: number;
  readonly allowPartial: boolean;
  readonly asBytes: boolean;
}

interface Authorizer {
  readonly name: string;
  /** `hostname` or `namespace/hostname`. */
  readonly service: string;
  readonly port: number;
  readonly timeoutMs: number;
  readonly failOpen: boolean;
  /** HTTP status as written; empty for 403. */
  readonly statusOnError: string;
  readonly clearRouteCache: boolean;
  readonly body: BodyInCheck | undefined;
}

export type ExtAuthzProvider =
  | (Authorizer & { readonly kind: "grpc" })
  | (Authorizer & {
      readonly kind: "http";
      readonly pathPrefix: string;
      /** Names, `prefix*` or `*suffix`, here and below. */
      readonly requestHeaders: readonly string[];
      readonly additionalHeaders: ReadonlyMap<string, string>;
      readonly upstreamHeadersOnAllow: readonly string[];
      readonly clientHeadersOnDeny: readonly string[];
      readonly clientHeadersOnAllow: readonly string[];
    });

const defaultTimeoutMs = 600_000;

/** Providers for telemetry are not ours to read. */
export function readExtAuthzProviders(list: Field): readonly ExtAuthzProvider[] {
  return list.list().flatMap((provider) => {
    const name = provider.at("name").text();
    const grpc = provider.at("envoyExtAuthzGrpc");
    const http = provider.at("envoyExtAuthzHttp");
    if (grpc.isPresent) return [{ kind: "grpc" as const, ...readAuthorizer(name, grpc) }];
    return http.isPresent ? [readHttp(name, http)] : [];
  });
}

function readHttp(name: string, http: Field): ExtAuthzProvider {
  const included = http.at("includeRequestHeadersInCheck").texts();
  const additional = http.at("includeAdditionalHeadersInCheck");
  return {
    kind: "http",
    ...readAuthorizer(name, http),
    pathPrefix: http.at("pathPrefix").text(),
    // The deprecated name counts only alone.
    requestHeaders: included.length > 0 ? included : http.at("includeHeadersInCheck").texts(),
    additionalHeaders: additional.isPresent ? additional.textMap() : new Map<string, string>(),
    upstreamHeadersOnAllow: http.at("headersToUpstreamOnAllow").texts(),
    clientHeadersOnDeny: http.at("headersToDownstreamOnDeny").texts(),
    clientHeadersOnAllow: http.at("headersToDownstreamOnAllow").texts(),
  };
}

function readAuthorizer(name: string, field: Field): Authorizer {
  const body = field.at("includeRequestBodyInCheck");
  const failOpen = field.at("failOpen");
  const port = field.at("port");
  if (port.port() === 0) throw new ShapeError(port.path, "a port from 1 to 65535", 0);
  return {
    name,
    service: field.at("service").text(),
    port: port.port(),
    timeoutMs: durationMs(field.at("timeout")) ?? defaultTimeoutMs,
    failOpen: failOpen.flag(),
    statusOnError: field.at("statusOnError").text(),
    clearRouteCache: field.at("clearRouteCache").flag(),
    body: body.isPresent
      ? {
          maxBytes: body.at("maxRequestBytes").uint32(),
          allowPartial: body.at("allowPartialMessage").flag(),
          asBytes: body.at("packAsBytes").flag(),
        }
      : undefined,
  };
}
