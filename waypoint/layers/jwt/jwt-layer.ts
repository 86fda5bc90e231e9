/** Authentication of requests by JSON Web Tokens: `envoy.filters.http.jwt_authn`. */
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import {
  JwtAuthenticationSchema,
  PerRouteConfigSchema,
  type JwtAuthentication,
} from "#shared/proto/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { Layer, LayerContext, LayerKind, LayerResult } from "#waypoint/layers/layer.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { compileMatch, type CompiledMatch } from "#waypoint/routing/route-match.ts";
import { pathOnly } from "#waypoint/routing/route-table.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { mayFetchFrom, type MayFetch } from "./remote-keys.ts";
import { Provider } from "./provider.ts";
import { compileRequirement, Evaluation, requirementsByName, type Requirement } from "./requirement.ts";
import { jwt, ok, type JwtStatus } from "./status.ts";

interface Rule {
  readonly match: CompiledMatch;
  readonly requirement: Requirement;
}

/** For one route: nothing at all, or another requirement. */
type RouteConfig = { readonly disabled: true } | { readonly requirement: string };

/** @param mayFetch which hosts may be asked for keys; tests ask their own */
export function jwtLayerKind(mayFetch: MayFetch): LayerKind {
  return {
    type: JwtAuthenticationSchema.typeName,
    compile(name, any, context) {
      const config = anyUnpack(any, JwtAuthenticationSchema);
      if (config === undefined) return undefined;
      reportUnknownFields(config, context.problem);
      return new JwtLayer(name, config, context, mayFetch);
    },
    routeTypes: {
      [PerRouteConfigSchema.typeName]: (any: Any, { problem }: LayerContext): RouteConfig | undefined => {
        const specifier = anyUnpack(any, PerRouteConfigSchema)?.requirementSpecifier;
        if (specifier?.case === "disabled" && specifier.value) return { disabled: true };
        if (specifier?.case === "requirementName") return { requirement: specifier.value };
        problem("requirement_specifier", "must be disabled: true or a requirement_name");
        return undefined;
      },
    },
  };
}

export const jwtLayer = jwtLayerKind(mayFetchFrom);

const nothing: Requirement = { kind: "nothing" };
/** Each wait settles one signature or one fetch; no request needs more. */
const mostWaits = 64;

class JwtLayer implements Layer {
  readonly name: string;
  readonly #rules: readonly Rule[];
  readonly #named: ReadonlyMap<string, Requirement>;
  readonly #providers: readonly Provider[];
  readonly #bypassesPreflight: boolean;
  readonly #stripsFailure: boolean;
  readonly #clock: Clock;

  constructor(name: string, config: JwtAuthentication, context: LayerContext, mayFetch: MayFetch) {
    const { problem } = context;
    this.name = name;
    const providers = new Map(
      Object.entries(config.providers)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, each]) => [key, new Provider(key, each, `providers[${key}]`, context, mayFetch)] as const),
    );
    this.#providers = [...providers.values()];
    this.#named = requirementsByName(config, providers, problem);
    this.#rules = config.rules.map(({ match, requirementType }, index) => {
      const path = `rules[${index}]`;
      return {
        match: compileMatch(match, `${path}.match`, problem),
        requirement:
          requirementType.case === "requirementName"
            ? this.#byName(requirementType.value, path, problem)
            : compileRequirement(requirementType.value, providers, `${path}.requires`, problem),
      };
    });
    if (config.filterStateRules !== undefined) problem("filter_state_rules", "are not supported: use rules");
    this.#bypassesPreflight = config.bypassCorsPreflight;
    this.#stripsFailure = config.stripFailureResponse;
    this.#clock = context.clock;
  }

  onRequest(exchange: Exchange): LayerResult | Promise<LayerResult> {
    if (this.#bypassesPreflight && isPreflight(exchange)) return undefined;
    const requirement = this.#requirementOf(exchange);
    if (requirement === undefined) return this.#refuse(exchange, jwt.missing);
    if (requirement.kind === "nothing") return undefined;
    for (const provider of this.#providers) provider.sanitize(exchange);
    const evaluation = new Evaluation(exchange, this.#clock.now());
    const status = evaluation.run(requirement);
    if (status === undefined) return this.#wait(exchange, evaluation, requirement);
    return this.#finish(exchange, evaluation, status);
  }

  async #wait(exchange: Exchange, evaluation: Evaluation, requirement: Requirement): Promise<LayerResult> {
    for (let waits = 0; waits < mostWaits; waits++) {
      await evaluation.waiting;
      const status = evaluation.run(requirement);
      if (status !== undefined) return this.#finish(exchange, evaluation, status);
    }
    return this.#refuse(exchange, jwt.verificationFails);
  }

  #finish(exchange: Exchange, evaluation: Evaluation, status: JwtStatus): LayerResult {
    if (status !== ok) return this.#refuse(exchange, status);
    evaluation.apply();
    return undefined;
  }

  #byName(name: string, path: string, problem: LayerContext["problem"]): Requirement {
    const requirement = this.#named.get(name);
    if (requirement === undefined) problem(`${path}.requirement_name`, `there is no requirement "${name}"`);
    return requirement ?? nothing;
  }

  /** Undefined: the route asks for one that does not exist, and nobody may pass. */
  #requirementOf(exchange: Exchange): Requirement | undefined {
    const own = exchange.route?.layerConfigs.get(this.name) as RouteConfig | undefined;
    if (own !== undefined) return "disabled" in own ? nothing : this.#named.get(own.requirement);
    const path = pathOnly(exchange.request.path);
    for (const { match, requirement } of this.#rules) if (match.matches(exchange, path)) return requirement;
    return nothing;
  }

  #refuse({ request }: Exchange, status: JwtStatus): LocalReply {
    const details = `jwt_authn_access_denied{${status.replace(/\s/g, "_")}}`;
    const code = status === jwt.audienceNotAllowed ? 403 : 401;
    if (this.#stripsFailure) return { status: code, details };
    const uri = `${request.scheme}://${request.authority}${request.path.slice(0, longestPath)}`;
    const realm = uri.replace(/["\\]/g, encodeURIComponent);
    const error = status === jwt.missing ? "" : ', error="invalid_token"';
    return {
      status: code,
      body: status,
      details,
      headers: new Headers(["www-authenticate", `Bearer realm="${realm}"${error}`]),
    };
  }
}

/** Of a path in a realm, as Envoy cuts it. */
const longestPath = 256;

function isPreflight({ request }: Exchange): boolean {
  return (
    request.method === "OPTIONS" &&
    (request.headers.get("origin") ?? "") !== "" &&
    (request.headers.get("access-control-request-method") ?? "") !== ""
  );
}
