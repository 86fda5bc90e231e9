/** An authorizer that is asked with the request's own method and path: 200 allows, 5xx is an error, all else denies. */
import type { JsonObject } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { HttpService } from "#shared/proto/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { explain } from "#shared/errors/mesh-error.ts";
import { Headers } from "#waypoint/http/headers.ts";
import { toBytes } from "#waypoint/http/latin1.ts";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import type { TextTest } from "#waypoint/matching/regex.ts";
import { compileStrings } from "#waypoint/matching/string-matcher.ts";
import type { Clusters } from "#waypoint/upstream/clusters.ts";
import { callHttp, type HttpAnswer } from "#waypoint/upstream/http-call.ts";
import { partialBodyHeader, type Authorizer, type Check, type HeaderChoice } from "./check.ts";
import type { HeaderEdit, Verdict } from "./verdict.ts";

const defaultTimeoutMs = 200;
/** Of an answer, which goes to the client where it denies. */
const mostBytes = 1024 * 1024;

/** Framing and hops are each connection's own. */
const hopByHop: ReadonlySet<string> = new Set([
  "connection",
  "content-length",
  "host",
  "keep-alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);
/** Told to clients with the headers that the configuration names. */
const toldAlways: ReadonlySet<string> = new Set(["www-authenticate", "location", "content-type"]);

export class HttpAuthorizer implements Authorizer {
  readonly #cluster: string;
  readonly #timeoutMs: number;
  readonly #pathPrefix: string;
  readonly #choice: HeaderChoice;
  readonly #added: readonly (readonly [name: string, value: string])[];
  readonly #toUpstream: TextTest | undefined;
  readonly #toUpstreamAppended: TextTest | undefined;
  readonly #toClientOnDeny: TextTest | undefined;
  readonly #toClientOnAllow: TextTest | undefined;
  readonly #toMetadata: TextTest | undefined;
  readonly #clusters: Clusters;

  constructor(config: HttpService, choice: HeaderChoice, path: string, { problem, clusters }: LayerContext) {
    const uri = config.serverUri;
    const target = uri?.httpUpstreamType;
    if (target?.case !== "cluster" || target.value === "") problem(`${path}.server_uri.cluster`, "must not be empty");
    if (config.pathPrefix !== "" && !config.pathPrefix.startsWith("/")) {
      problem(`${path}.path_prefix`, `"${config.pathPrefix}" does not begin with a slash`);
    }
    const request = config.authorizationRequest;
    const response = config.authorizationResponse;
    const names = (list: Parameters<typeof compileStrings>[0], field: string): TextTest | undefined =>
      compileStrings(list, `${path}.${field}`, problem);
    const older = names(request?.allowedHeaders?.patterns, "authorization_request.allowed_headers");
    this.#cluster = target?.case === "cluster" ? target.value : "";
    this.#timeoutMs = uri?.timeout === undefined ? defaultTimeoutMs : durationMs(uri.timeout);
    this.#pathPrefix = config.pathPrefix;
    this.#choice = { ...choice, allowed: choice.allowed ?? older };
    this.#added = (request?.headersToAdd ?? []).map(({ key, value }) => [key.toLowerCase(), toBytes(value)] as const);
    this.#toUpstream = names(
      response?.allowedUpstreamHeaders?.patterns,
      "authorization_response.allowed_upstream_headers",
    );
    this.#toUpstreamAppended = names(
      response?.allowedUpstreamHeadersToAppend?.patterns,
      "authorization_response.allowed_upstream_headers_to_append",
    );
    this.#toClientOnDeny = names(
      response?.allowedClientHeaders?.patterns,
      "authorization_response.allowed_client_headers",
    );
    this.#toClientOnAllow = names(
      response?.allowedClientHeadersOnSuccess?.patterns,
      "authorization_response.allowed_client_headers_on_success",
    );
    this.#toMetadata = names(
      response?.dynamicMetadataFromHeaders?.patterns,
      "authorization_response.dynamic_metadata_from_headers",
    );
    this.#clusters = clusters;
  }

  async ask(check: Check): Promise<Verdict> {
    const { request, connection } = check.exchange;
    try {
      const body = check.body?.bytes.length === 0 ? undefined : check.body?.bytes;
      const answer = await callHttp(this.#clusters, {
        cluster: this.#cluster,
        timeoutMs: this.#timeoutMs,
        maxAnswerBytes: mostBytes,
        connection,
        body,
        head: {
          method: request.method,
          scheme: request.scheme,
          authority: request.authority,
          path: `${this.#pathPrefix}${request.path}`,
          headers: this.#headers(check, body),
        },
      });
      return this.#verdict(answer);
    } catch (error) {
      return { kind: "error", why: explain(error) };
    }
  }

  #headers({ exchange, body: told }: Check, body: Buffer | undefined): Headers {
    const { allowed, disallowed } = this.#choice;
    const headers = new Headers();
    for (const [name, value] of exchange.request.headers) {
      if (hopByHop.has(name) || disallowed?.(name) === true) continue;
      if (name === "authorization" || allowed?.(name) === true) headers.append(name, value);
    }
    headers.append("content-length", String(body?.length ?? 0));
    if (told !== undefined) headers.append(partialBodyHeader, String(!told.isComplete));
    for (const [name, value] of this.#added) headers.set(name, value);
    return headers;
  }

  #verdict({ status, headers, body }: HttpAnswer): Verdict {
    if (status >= 500) return { kind: "error", why: `it answered with status ${status}` };
    const pick = (test: TextTest | undefined, action: HeaderEdit["action"]): HeaderEdit[] =>
      test === undefined
        ? []
        : [...headers].flatMap(([name, value]) => (!hopByHop.has(name) && test(name) ? [{ action, name, value }] : []));
    const metadata = this.#metadata(headers);
    if (status !== 200) {
      const told = this.#toClientOnDeny;
      return {
        kind: "denied",
        status: status >= 200 ? status : 403,
        // Where nothing is chosen the client gets all of it.
        edits: pick(told === undefined ? () => true : (name) => toldAlways.has(name) || told(name), "add"),
        body: body.toString("latin1"),
        metadata,
      };
    }
    return {
      kind: "allowed",
      requestEdits: [...onlyFirstSets(pick(this.#toUpstream, "set")), ...pick(this.#toUpstreamAppended, "append")],
      removed: [],
      responseEdits: pick(this.#toClientOnAllow, "add"),
      query: [],
      metadata,
    };
  }

  #metadata(headers: Headers): JsonObject | undefined {
    const test = this.#toMetadata;
    if (test === undefined) return undefined;
    const found = [...headers].filter(([name]) => test(name));
    return found.length === 0 ? undefined : Object.fromEntries(found);
  }
}

/** Several values of one header: the first takes the place of the client's, the others follow. */
function onlyFirstSets(edits: readonly HeaderEdit[]): readonly HeaderEdit[] {
  const seen = new Set<string>();
  return edits.map((edit) => {
    if (seen.has(edit.name)) return { ...edit, action: "add" };
    seen.add(edit.name);
    return edit;
  });
}
