/** AuthorizationPolicies of a chain as RBAC filters: AUDIT, DENY and ALLOW, each one filter. */
import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import { TypedStructSchema } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";
import {
  RBAC_Action,
  RBAC_AuditLoggingOptions_AuditCondition as AuditCondition,
  type RBACSchema,
} from "#shared/proto/gen/envoy/config/rbac/v3/rbac_pb.js";
import { RBACSchema as HttpRbacSchema } from "#shared/proto/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { RBACSchema as NetworkRbacSchema } from "#shared/proto/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import type { AuthorizationPolicy } from "#controlplane/mesh/objects.ts";
import { trustDomainsOf } from "#controlplane/mesh/mesh-config.ts";
import { dryRunAnnotation, explainDenialsAnnotation, parseFlag } from "#controlplane/translate/annotations.ts";
import type { EnvoyContext } from "#controlplane/translate/envoy/context.ts";
import { pack } from "#controlplane/translate/envoy/messages.ts";
import type { PolicyScope } from "./attributes.ts";
import { convertRule, neverPolicy, type PolicyInit } from "./rbac-rules.ts";
import { httpFilter, networkFilter, type Chain, type HttpFilterInit, type NetworkFilterInit } from "./filters.ts";

export type RbacInit = Exclude<MessageInitShape<typeof RBACSchema>, { $typeName: string }>;

/** Envoy's name of a rule; logs, metadata and the header of refusals say it. */
export const ruleName = ({ meta }: AuthorizationPolicy, index: number): string =>
  `ns[${meta.namespace}]-policy[${meta.name}]-rule[${index}]`;

const actions = { AUDIT: RBAC_Action.LOG, DENY: RBAC_Action.DENY, ALLOW: RBAC_Action.ALLOW } as const;

export const scopeOf = ({ meshConfig }: EnvoyContext, { meta }: AuthorizationPolicy): PolicyScope => ({
  namespace: meta.namespace,
  trustDomains: trustDomainsOf(meshConfig),
});

/** The rules of one policy by their names. */
export function policyRules(
  context: EnvoyContext,
  policy: AuthorizationPolicy,
  chain: Chain,
  prefix = "",
): readonly (readonly [name: string, rule: PolicyInit])[] {
  if (policy.rules.length === 0) return [[`${prefix}${ruleName(policy, 0)}`, neverPolicy]];
  const scope = scopeOf(context, policy);
  return policy.rules.flatMap((rule, index) => {
    const { policy: converted } = convertRule(rule, policy, chain, scope);
    return converted === undefined ? [] : [[`${prefix}${ruleName(policy, index)}`, converted] as const];
  });
}

const isDryRun = ({ meta }: AuthorizationPolicy): boolean =>
  parseFlag(meta.annotations.get(dryRunAnnotation) ?? "") ?? false;

const wantsExplanation = ({ annotations }: { readonly annotations: ReadonlyMap<string, string> }): boolean =>
  parseFlag(annotations.get(explainDenialsAnnotation) ?? "") ?? false;

interface Rules {
  readonly enforced: RbacInit | undefined;
  readonly shadow: RbacInit | undefined;
  readonly prefix: string;
}

/** Undefined where no policy has the action. */
function rulesOf(
  context: EnvoyContext,
  policies: readonly AuthorizationPolicy[],
  action: keyof typeof actions,
  chain: Chain,
): Rules | undefined {
  const ours = policies.filter((policy) => policy.action === action);
  const [real, dry] = [ours.filter((policy) => !isDryRun(policy)), ours.filter(isDryRun)];
  if (ours.length === 0) return undefined;
  const rbac = (list: readonly AuthorizationPolicy[]): RbacInit | undefined =>
    list.length === 0
      ? undefined
      : {
          action: actions[action],
          policies: Object.fromEntries(list.flatMap((policy) => policyRules(context, policy, chain))),
        };
  const enforced = rbac(real);
  const asked = chain === "http" && action !== "AUDIT" ? explanation(context, real) : {};
  return {
    enforced: enforced && { ...enforced, ...asked },
    shadow: rbac(dry),
    prefix: dry.length === 0 ? "" : `istio_dry_run_${action.toLowerCase()}_`,
  };
}

/**
 * Where a policy or the Gateway is annotated, refusals say what refused them. It is written as an audit logger of ours,
 * which other proxies leave out.
 */
function explanation(
  { world, waypoint }: EnvoyContext,
  policies: readonly AuthorizationPolicy[],
): Pick<RbacInit, "auditLoggingOptions"> {
  const gateway = world.get("Gateway", waypoint.namespace, waypoint.name);
  const isForAll = gateway !== undefined && wantsExplanation(gateway.meta);
  const asking = policies.filter(({ meta }) => wantsExplanation(meta));
  if (!isForAll && asking.length === 0) return {};
  const value: JsonObject = isForAll ? {} : { policies: asking.map(({ meta }) => `${meta.namespace}/${meta.name}`) };
  const name = explainDenialsAnnotation;
  return {
    auditLoggingOptions: {
      auditCondition: AuditCondition.ON_DENY,
      loggerConfigs: [
        {
          isOptional: true,
          auditLogger: {
            name,
            typedConfig: pack(TypedStructSchema, { typeUrl: `type.googleapis.com/${name}`, value }),
          },
        },
      ],
    },
  };
}

const httpRbac = "envoy.filters.http.rbac";
const networkRbac = "envoy.filters.network.rbac";
const order = ["AUDIT", "DENY", "ALLOW"] as const;

export function httpAuthorization(
  context: EnvoyContext,
  policies: readonly AuthorizationPolicy[],
): readonly HttpFilterInit[] {
  return order.flatMap((action) => {
    const rules = rulesOf(context, policies, action, "http");
    return rules === undefined ? [] : [httpFilter(httpRbac, pack(HttpRbacSchema, rbacFields(rules)))];
  });
}

export function networkAuthorization(
  context: EnvoyContext,
  policies: readonly AuthorizationPolicy[],
): readonly NetworkFilterInit[] {
  return order.flatMap((action) => {
    const rules = rulesOf(context, policies, action, "tcp");
    if (rules === undefined) return [];
    return [networkFilter(networkRbac, pack(NetworkRbacSchema, { ...rbacFields(rules), statPrefix: "tcp." }))];
  });
}

const rbacFields = ({ enforced, shadow, prefix }: Rules) => ({
  ...(enforced === undefined ? {} : { rules: enforced }),
  ...(shadow === undefined ? {} : { shadowRules: shadow }),
  shadowRulesStatPrefix: prefix,
});
