/**
 * Refusals name what refused them in a header where the author of a policy, or of the Gateway, asked for it. The wish
 * comes as an audit logger of our own that other proxies may leave out (`is_optional`).
 */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import type { RBAC } from "#shared/proto/gen/envoy/config/rbac/v3/rbac_pb.js";
import { TypedStructSchema } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";

export const deniedByHeader = "x-ambit-denied-by";
/** Name of the audit logger, and type of its configuration. */
export const explainLogger = "ambit.dev/explain-denials";

/** Of the policies of one filter: which may be named. */
export interface Explains {
  names(policy: string): boolean;
  /** For a refusal because nothing allowed the request: the policies that could have. */
  readonly allowing: readonly string[];
}

export function explainsFrom(rules: RBAC, path: string, problem: Problem): Explains | undefined {
  let explains: Explains | undefined;
  for (const [index, config] of (rules.auditLoggingOptions?.loggerConfigs ?? []).entries()) {
    const logger = config.auditLogger;
    const any = logger?.typedConfig;
    const struct = any === undefined ? undefined : anyUnpack(any, TypedStructSchema);
    if (logger?.name !== explainLogger || struct === undefined) {
      if (!config.isOptional) {
        problem(`${path}.logger_configs[${index}]`, `the audit logger "${logger?.name ?? ""}" is not supported`);
      }
      continue;
    }
    const listed = struct.value?.["policies"];
    const policies = Array.isArray(listed) ? listed.filter((each) => typeof each === "string") : undefined;
    explains = explainsPolicies(Object.keys(rules.policies), policies);
  }
  return explains;
}

/** `policies` as `namespace/name`; undefined: all. */
function explainsPolicies(rules: readonly string[], policies: readonly string[] | undefined): Explains {
  const named = policies === undefined ? undefined : new Set(policies);
  const all = new Set(rules.map((rule) => policyOf(rule)?.key ?? rule));
  return {
    names: (rule) => named === undefined || named.has(policyOf(rule)?.key ?? rule),
    allowing: [...all].filter((key) => named === undefined || named.has(key)).sort(),
  };
}

/** Reads `ns[shop]-policy[callers]-rule[0]`, as Istio names the rules of policies. */
function policyOf(rule: string): { readonly key: string; readonly index: string } | undefined {
  const found = /ns\[([^\]]*)\]-policy\[([^\]]*)\]-rule\[(\d+)\]$/.exec(rule);
  return found === null ? undefined : { key: `${found[1]}/${found[2]}`, index: found[3] as string };
}

/** Text of the header; undefined where nothing may be told. */
export function deniedBy(explains: Explains, matched: string | undefined): string | undefined {
  if (matched === undefined) {
    return explains.allowing.length === 0 ? undefined : `no rule of ${explains.allowing.join(", ")}`;
  }
  if (!explains.names(matched)) return undefined;
  const policy = policyOf(matched);
  return policy === undefined ? matched : `${policy.key} rule ${policy.index}`;
}
