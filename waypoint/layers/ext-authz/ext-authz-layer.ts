/** Asks an external service whether a request may pass: `envoy.filters.http.ext_authz`. */
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import {
  ExtAuthzPerRouteSchema,
  ExtAuthzSchema,
  type BufferSettings,
  type ExtAuthz,
} from "#shared/proto/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import type { Logger } from "#shared/observe/logger.ts";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { Layer, LayerContext, LayerKind, LayerResult, RequestBody } from "#waypoint/layers/layer.ts";
import { recordMetadata } from "#waypoint/layers/metadata.ts";
import { compileStrings } from "#waypoint/matching/string-matcher.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { compileMetadata, type HasMetadata } from "#waypoint/matching/value-matcher.ts";
import { isChosen, readRuntimeFraction, type Fraction } from "#waypoint/routing/match/fraction.ts";
import type { Authorizer, Check, HeaderChoice } from "./check.ts";
import { compileTarget, GrpcAuthorizer } from "./grpc-authorizer.ts";
import { HttpAuthorizer } from "./http-authorizer.ts";
import { editHeaders, editQuery, editRequest, type HeaderEdit, type Verdict } from "./verdict.ts";

interface RouteConfig {
  readonly disabled: boolean;
  readonly contextExtensions: Readonly<Record<string, string>>;
  /** Undefined: as configured; false: the body is not told. */
  readonly body: BufferSettings | false | undefined;
}

export const extAuthzLayer: LayerKind = {
  type: ExtAuthzSchema.typeName,
  compile(name, any, context) {
    const config = anyUnpack(any, ExtAuthzSchema);
    if (config === undefined) return undefined;
    reportUnknownFields(config, context.problem);
    return new ExtAuthzLayer(name, config, context);
  },
  routeTypes: {
    [ExtAuthzPerRouteSchema.typeName]: (any: Any, { problem }: LayerContext): RouteConfig | undefined => {
      const config = anyUnpack(any, ExtAuthzPerRouteSchema);
      if (config === undefined) return undefined;
      reportUnknownFields(config, problem);
      const { override } = config;
      if (override.case === "disabled") return { disabled: override.value, contextExtensions: {}, body: undefined };
      if (override.case !== "checkSettings") {
        problem("override", "must be disabled: true or check_settings");
        return undefined;
      }
      const { contextExtensions, disableRequestBodyBuffering, withRequestBody } = override.value;
      return { disabled: false, contextExtensions, body: disableRequestBodyBuffering ? false : withRequestBody };
    },
  },
};

const metadataName = "envoy.filters.http.ext_authz";

class ExtAuthzLayer implements Layer {
  readonly name: string;
  readonly #authorizer: Authorizer;
  readonly #isEnabled: ((subject: HasMetadata) => boolean) | undefined;
  readonly #fraction: Fraction;
  readonly #deniesWhereDisabled: boolean;
  readonly #body: BufferSettings | undefined;
  readonly #config: ExtAuthz;
  readonly #log: Logger;
  /** Of requests that passed: what their answers shall say. */
  readonly #answers = new WeakMap<Exchange, readonly HeaderEdit[]>();

  constructor(name: string, config: ExtAuthz, context: LayerContext) {
    const { problem } = context;
    this.name = name;
    this.#config = config;
    this.#log = context.log;
    this.#authorizer = compileAuthorizer(config, context);
    this.#isEnabled =
      config.filterEnabledMetadata && compileMetadata(config.filterEnabledMetadata, "filter_enabled_metadata", problem);
    this.#fraction = readRuntimeFraction(config.filterEnabled, "filter_enabled", problem);
    this.#deniesWhereDisabled = config.denyAtDisable?.defaultValue === true;
    this.#body = config.withRequestBody;
    if (config.withRequestBody?.maxRequestBytes === 0) {
      problem("with_request_body.max_request_bytes", "must be above 0");
    }
  }

  onRequest(exchange: Exchange, body: RequestBody): LayerResult | Promise<LayerResult> {
    if (this.#isEnabled !== undefined && !this.#isEnabled(exchange)) return undefined;
    const own = exchange.route?.layerConfigs.get(this.name) as RouteConfig | undefined;
    if (own?.disabled === true) return undefined;
    if (!isChosen(this.#fraction, Math.random())) {
      return this.#deniesWhereDisabled ? this.#errorReply() : undefined;
    }
    return this.#check(exchange, body, own);
  }

  onResponse(exchange: Exchange, head: ResponseHead): void {
    const edits = this.#answers.get(exchange);
    if (edits !== undefined) editHeaders(head.headers, edits);
  }

  async #check(exchange: Exchange, body: RequestBody, own: RouteConfig | undefined): Promise<LayerResult> {
    const wanted = own?.body ?? this.#body;
    let told: Check["body"];
    if (wanted !== undefined && wanted !== false && !exchange.stream.endsWithHead) {
      told = await body.peek(wanted.maxRequestBytes);
      if (!told.isComplete && !wanted.allowPartialMessage) {
        return { status: 413, body: "Payload Too Large", details: "request_payload_too_large" };
      }
    }
    const verdict = await this.#authorizer.ask({
      exchange,
      body: told,
      contextExtensions: own?.contextExtensions ?? {},
    });
    return this.#follow(exchange, verdict);
  }

  #follow(exchange: Exchange, verdict: Verdict): LayerResult {
    if (verdict.kind === "error") {
      this.#log.warn({ layer: this.name, error: verdict.why }, "the external authorizer did not decide");
      if (!this.#config.failureModeAllow) return this.#errorReply();
      if (this.#config.failureModeAllowHeaderAdd) {
        exchange.request.headers.set("x-envoy-auth-failure-mode-allowed", "true");
      }
      return undefined;
    }
    if (verdict.metadata !== undefined) recordMetadata(exchange, metadataName, verdict.metadata);
    if (verdict.kind === "denied") return denial(verdict);
    const { requestEdits, removed, responseEdits, query } = verdict;
    editRequest(exchange.request, requestEdits, removed);
    editQuery(exchange.request, query);
    if (responseEdits.length > 0) this.#answers.set(exchange, responseEdits);
    const edited = requestEdits.length + removed.length + query.length > 0;
    if (this.#config.clearRouteCache && edited) exchange.route = undefined;
    return undefined;
  }

  #errorReply(): LocalReply {
    const code: number = this.#config.statusOnError?.code ?? 0;
    return { status: code === 0 ? 403 : code, details: "ext_authz_error", flag: "UAEX" };
  }
}

function denial({ status, edits, body }: Extract<Verdict, { kind: "denied" }>): LocalReply {
  const headers = new Headers();
  for (const { action, name, value } of edits) {
    if (name.startsWith(":")) continue;
    if (action === "set") headers.set(name, value);
    else headers.append(name, value);
  }
  return { status, body, headers, details: "ext_authz_denied", flag: "UAEX" };
}

function compileAuthorizer(config: ExtAuthz, context: LayerContext): Authorizer {
  const { problem } = context;
  const choice: HeaderChoice = {
    allowed: compileStrings(config.allowedHeaders?.patterns, "allowed_headers", problem),
    disallowed: compileStrings(config.disallowedHeaders?.patterns, "disallowed_headers", problem),
  };
  const unsupported: readonly (readonly [boolean, string])[] = [
    [config.typedMetadataContextNamespaces.length > 0, "typed_metadata_context_namespaces"],
    [config.routeTypedMetadataContextNamespaces.length > 0, "route_typed_metadata_context_namespaces"],
    [config.bootstrapMetadataLabelsKey !== "", "bootstrap_metadata_labels_key"],
    [config.decoderHeaderMutationRules !== undefined, "decoder_header_mutation_rules"],
  ];
  for (const [isSet, field] of unsupported) if (isSet) problem(field, "is not supported");
  switch (config.services.case) {
    case "httpService":
      return new HttpAuthorizer(config.services.value, choice, "http_service", context);
    case undefined:
      problem("services", "has neither grpc_service nor http_service");
      break;
    case "grpcService":
  }
  const service = config.services.case === "grpcService" ? config.services.value : undefined;
  return new GrpcAuthorizer(
    compileTarget(service, "grpc_service", problem),
    {
      ...choice,
      packsBytes: config.withRequestBody?.packAsBytes === true,
      rawHeaders: config.encodeRawHeaders,
      metadataNamespaces: config.metadataContextNamespaces,
      routeMetadataNamespaces: config.routeMetadataContextNamespaces,
      includesTlsSession: config.includeTlsSession,
    },
    context,
  );
}
