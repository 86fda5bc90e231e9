/** What tokens a request needs, as a tree; evaluated at once where every signature is known, and again when one has become known. */
import type {
  JwtAuthentication,
  JwtRequirement,
} from "#shared/proto/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { verifySignature } from "./key-set.ts";
import { tokensAt, type Location } from "./locations.ts";
import { plainAudience, type Provider } from "./provider.ts";
import { jwt, ok, worse, type JwtStatus } from "./status.ts";
import { parseToken, type Token } from "./token.ts";

export type Requirement =
  | { readonly kind: "provider"; readonly provider: Provider; readonly audiences: ReadonlySet<string> | undefined }
  | { readonly kind: "any" | "all"; readonly members: readonly Requirement[] }
  | { readonly kind: "allow-missing" | "allow-missing-or-failed"; readonly providers: readonly Provider[] }
  | { readonly kind: "nothing" };

const deepest = 16;

export function compileRequirement(
  config: JwtRequirement | undefined,
  providers: ReadonlyMap<string, Provider>,
  path: string,
  problem: Problem,
  used: readonly Provider[] = [...providers.values()],
  depth = 0,
): Requirement {
  const type = config?.requiresType;
  if (depth > deepest) {
    problem(path, "is nested too deeply");
    return { kind: "nothing" };
  }
  const named = (name: string): Provider | undefined => {
    const provider = providers.get(name);
    if (provider === undefined) problem(path, `there is no provider "${name}"`);
    return provider;
  };
  switch (type?.case) {
    case "providerName": {
      const provider = named(type.value);
      return provider === undefined ? { kind: "nothing" } : { kind: "provider", provider, audiences: undefined };
    }
    case "providerAndAudiences": {
      const provider = named(type.value.providerName);
      const audiences = new Set(type.value.audiences.map(plainAudience));
      return provider === undefined ? { kind: "nothing" } : { kind: "provider", provider, audiences };
    }
    case "requiresAny":
    case "requiresAll": {
      const members = type.value.requirements;
      if (members.length < 2) problem(path, "needs at least two requirements");
      // "Missing" is said of the providers beside it.
      const beside = members.flatMap((each) => {
        const name = providerName(each);
        const provider = name === undefined ? undefined : providers.get(name);
        return provider === undefined ? [] : [provider];
      });
      const inner = type.case === "requiresAny" && beside.length > 0 ? beside : used;
      return {
        kind: type.case === "requiresAny" ? "any" : "all",
        members: members.map((each, index) =>
          compileRequirement(each, providers, `${path}.requirements[${index}]`, problem, inner, depth + 1),
        ),
      };
    }
    case "allowMissing":
      return { kind: "allow-missing", providers: used };
    case "allowMissingOrFailed":
      return { kind: "allow-missing-or-failed", providers: used };
    case undefined:
      return { kind: "nothing" };
  }
}

function providerName({ requiresType }: JwtRequirement): string | undefined {
  if (requiresType.case === "providerName") return requiresType.value;
  return requiresType.case === "providerAndAudiences" ? requiresType.value.providerName : undefined;
}

export function requirementsByName(
  config: JwtAuthentication,
  providers: ReadonlyMap<string, Provider>,
  problem: Problem,
): ReadonlyMap<string, Requirement> {
  return new Map(
    Object.entries(config.requirementMap).map(([name, requirement]) => [
      name,
      compileRequirement(requirement, providers, `requirement_map[${name}]`, problem),
    ]),
  );
}

/** A signature has to be checked, or keys to be fetched, first. */
const pending = "pending";

interface Accepted {
  readonly provider: Provider;
  readonly token: Token;
  readonly location: Location;
}

/** The tokens of one request on their way through a requirement. */
export class Evaluation {
  readonly #exchange: Exchange;
  readonly #nowMs: number;
  /** Signatures of this request, by provider and token. */
  readonly #verdicts = new Map<Provider, Map<string, JwtStatus>>();
  #accepted: Accepted[] = [];
  #waiting: Promise<void> | undefined;

  constructor(exchange: Exchange, nowMs: number) {
    this.#exchange = exchange;
    this.#nowMs = nowMs;
  }

  /** Undefined: wait for {@link waiting}, then run again. */
  run(requirement: Requirement): JwtStatus | undefined {
    this.#accepted = [];
    this.#waiting = undefined;
    const status = this.#evaluate(requirement);
    return status === pending ? undefined : status;
  }

  get waiting(): Promise<void> {
    return this.#waiting ?? Promise.resolve();
  }

  /** The request is told what its tokens said. */
  apply(): void {
    for (const { provider, token, location } of this.#accepted) provider.accept(this.#exchange, token, location);
  }

  #evaluate(requirement: Requirement): JwtStatus | typeof pending {
    switch (requirement.kind) {
      case "nothing":
        return ok;
      case "provider":
        return this.#byProvider(requirement.provider, requirement.audiences);
      case "allow-missing": {
        const status = this.#byAnyOf(requirement.providers);
        return status === jwt.missing ? ok : status;
      }
      case "allow-missing-or-failed": {
        const status = this.#byAnyOf(requirement.providers);
        return status === pending ? pending : ok;
      }
      case "all":
        for (const member of requirement.members) {
          const status = this.#evaluate(member);
          if (status !== ok) return status;
        }
        return ok;
      case "any": {
        let worst: JwtStatus = jwt.missing;
        for (const member of requirement.members) {
          const before = this.#accepted.length;
          const status = this.#evaluate(member);
          if (status === ok || status === pending) return status;
          this.#accepted.length = before;
          worst = worse(worst, status);
        }
        return worst;
      }
    }
  }

  /** Every token in the places of this provider must be valid. */
  #byProvider(provider: Provider, audiences: ReadonlySet<string> | undefined): JwtStatus | typeof pending {
    let status: JwtStatus = jwt.missing;
    for (const location of provider.locations) {
      if (this.#isTaken(location)) continue;
      for (const raw of tokensAt(this.#exchange.request, location)) {
        const found = this.#check(provider, raw, location, audiences);
        if (found !== ok) return found;
        status = ok;
      }
    }
    return status;
  }

  /** Every token in the places of these providers must be valid for one of them that looks there. */
  #byAnyOf(providers: readonly Provider[]): JwtStatus | typeof pending {
    let status: JwtStatus = jwt.missing;
    const seen = new Set<string>();
    for (const { locations } of providers) {
      for (const location of locations) {
        if (seen.has(location.key) || this.#isTaken(location)) continue;
        seen.add(location.key);
        for (const raw of tokensAt(this.#exchange.request, location)) {
          const found = this.#checkAny(providers, raw, location);
          if (found !== ok) return found;
          status = ok;
        }
      }
    }
    return status;
  }

  #checkAny(providers: readonly Provider[], raw: string, location: Location): JwtStatus | typeof pending {
    let worst: JwtStatus = jwt.missing;
    for (const provider of providers) {
      if (!provider.locations.some(({ key }) => key === location.key)) continue;
      const found = this.#check(provider, raw, location, undefined);
      if (found === ok || found === pending) return found;
      worst = worse(worst, found);
    }
    return worst;
  }

  /** A token that was accepted, and will be taken out of the request, is not there for the next provider. */
  #isTaken(location: Location): boolean {
    return this.#accepted.some((each) => each.location.key === location.key && each.provider.takes);
  }

  #check(
    provider: Provider,
    raw: string,
    location: Location,
    audiences: ReadonlySet<string> | undefined,
  ): JwtStatus | typeof pending {
    const known = provider.recall(raw);
    const token = known ?? parseToken(raw);
    if (typeof token === "string") return token;
    const claims = provider.checkClaims(token, this.#nowMs, audiences);
    if (claims !== ok) return claims;
    const signature = known === undefined ? this.#signature(provider, token) : ok;
    if (signature === ok) this.#accepted.push({ provider, token, location });
    return signature;
  }

  #signature(provider: Provider, token: Token): JwtStatus | typeof pending {
    const verdict = this.#verdicts.get(provider)?.get(token.raw);
    if (verdict !== undefined) return verdict;
    this.#waiting ??= this.#verify(provider, token);
    return pending;
  }

  async #verify(provider: Provider, token: Token): Promise<void> {
    const keys = provider.keys.current ?? (await provider.keys.fetch());
    const status = keys === undefined ? jwt.fetchFailed : await verifySignature(token, keys);
    if (status === ok && keys !== undefined) provider.remember(token, keys);
    let verdicts = this.#verdicts.get(provider);
    if (verdicts === undefined) this.#verdicts.set(provider, (verdicts = new Map()));
    verdicts.set(token.raw, status);
  }
}
