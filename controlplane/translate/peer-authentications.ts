/**
 * PeerAuthentications as DENY policies for node proxies: a connection without an identity is plaintext. What is in force
 * for a workload and what is published for a policy are two decisions, and Istio's disagree in a few cases; both are
 * kept exactly as they are there, because proxies of either control plane must behave alike.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  Action,
  AuthorizationSchema,
  Scope,
  type Authorization,
  type GroupSchema,
  type RulesSchema,
} from "#shared/proto/gen/security/authorization_pb.js";
import type { MtlsMode, PeerAuthentication } from "#controlplane/mesh/objects.ts";
import { isOlder } from "./status.ts";

const staticStrictName = "istio_converted_static_strict";
const convertedPrefix = "converted_peer_authentication_";

type RulesInit = MessageInitShape<typeof RulesSchema>;

const anyIdentity = { matchType: { case: "presence", value: {} } } as const;
const unauthenticated: RulesInit = { matches: [{ notPrincipals: [anyIdentity] }] };
const otherThan = (port: number): RulesInit => ({ matches: [{ notDestinationPorts: [port] }] });

const hasSelector = ({ selector }: PeerAuthentication): boolean => selector !== undefined && selector.size > 0;

const older = (a: PeerAuthentication | undefined, b: PeerAuthentication): PeerAuthentication =>
  a === undefined || isOlder(b.meta, a.meta) ? b : a;

/** The oldest policy without a selector of each namespace. */
export type NamespacePolicies = ReadonlyMap<string, PeerAuthentication>;

export function namespacePolicies(all: readonly PeerAuthentication[]): NamespacePolicies {
  const byNamespace = new Map<string, PeerAuthentication>();
  for (const policy of all) {
    if (hasSelector(policy)) continue;
    byNamespace.set(policy.meta.namespace, older(byNamespace.get(policy.meta.namespace), policy));
  }
  return byNamespace;
}

/** Denies whoever has no identity; workloads in STRICT mode refer to it. Published once any policy exists. */
export function staticStrictPolicy(rootNamespace: string): Authorization {
  return create(AuthorizationSchema, {
    name: staticStrictName,
    namespace: rootNamespace,
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.DENY,
    groups: [{ rules: [unauthenticated] }],
  });
}

const convertedName = ({ meta }: PeerAuthentication): string => `${convertedPrefix}${meta.name}`;

const plaintextAllowed = (mode: MtlsMode): boolean => mode === "PERMISSIVE" || mode === "DISABLE";

/** The policy published for a PeerAuthentication with port exceptions; undefined where it needs none. */
export function convertPeerAuthentication(
  policy: PeerAuthentication,
  parents: NamespacePolicies,
  rootNamespace: string,
): Authorization | undefined {
  const { meta, mode, ports } = policy;
  if (meta.namespace === rootNamespace || policy.selector === undefined || ports.size === 0) return undefined;
  const groups = portGroups(mode, ports, {
    namespace: parents.get(meta.namespace)?.mode,
    mesh: parents.get(rootNamespace)?.mode,
  });
  if (groups.length === 0) return undefined;
  return create(AuthorizationSchema, {
    name: convertedName(policy),
    namespace: meta.namespace,
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.DENY,
    groups,
  });
}

interface ParentModes {
  /** undefined: there is no such policy. */
  readonly namespace: MtlsMode | undefined;
  readonly mesh: MtlsMode | undefined;
}

function portGroups(
  mode: MtlsMode,
  ports: ReadonlyMap<number, MtlsMode>,
  parent: ParentModes,
): MessageInitShape<typeof GroupSchema>[] {
  // A namespace policy hides the mesh policy here even where it is UNSET: the fail-open case of Istio.
  const parentStrict = (parent.namespace ?? parent.mesh) === "STRICT";
  // Here it does not, and the rule is written once more.
  const meshStrict = (parent.namespace ?? "UNSET") === "UNSET" && parent.mesh === "STRICT";
  const ascending = [...ports].sort(([a], [b]) => a - b);
  const strictPorts = ascending.filter(([, each]) => each === "STRICT" && !coveredByParent(mode, parent));
  const exempt =
    mode === "STRICT" || (mode === "UNSET" && parentStrict)
      ? ascending.filter(([, each]) => plaintextAllowed(each)).map(([port]) => otherThan(port))
      : [];
  const groups = strictPorts.map(([port]) => ({
    rules: [{ matches: [{ notPrincipals: [anyIdentity], destinationPorts: [port] }] }],
  }));
  if (exempt.length === 0) return groups;
  const rules = [
    ...(mode === "STRICT" ? [unauthenticated] : []),
    ...exempt,
    ...(parentStrict || meshStrict ? [unauthenticated] : []),
  ];
  return [...groups, { rules }];
}

/** Whether a STRICT port says nothing new. The last case looks past the policy's own mode, as in Istio. */
function coveredByParent(mode: MtlsMode, { namespace = "UNSET", mesh }: ParentModes): boolean {
  return (
    mode === "STRICT" || (mode === "UNSET" && namespace === "STRICT") || (namespace === "UNSET" && mesh === "STRICT")
  );
}

/**
 * The policies that a workload refers to. `selecting` are those whose selector matches it, of its own namespace.
 */
export function peerAuthenticationKeys(
  selecting: readonly PeerAuthentication[],
  parents: NamespacePolicies,
  workloadNamespace: string,
  rootNamespace: string,
): readonly string[] {
  let strict = false;
  for (const parent of [parents.get(rootNamespace), parents.get(workloadNamespace)]) {
    if (parent !== undefined && parent.mode !== "UNSET") strict = parent.mode === "STRICT";
  }
  const policy = selecting.reduce<PeerAuthentication | undefined>(older, undefined);
  if (policy === undefined) return keys(strict, undefined, rootNamespace);
  if (policy.mode !== "UNSET") strict = policy.mode === "STRICT";
  const modes = [...policy.ports.values()];
  if (!strict) {
    return keys(false, modes.includes("STRICT") ? policy : undefined, rootNamespace);
  }
  // Under a strict parent Istio looks for PERMISSIVE only: a DISABLE port alone is no exception.
  const excepted = policy.mode === "STRICT" ? modes.some(plaintextAllowed) : modes.includes("PERMISSIVE");
  return keys(!excepted, excepted ? policy : undefined, rootNamespace);
}

function keys(strict: boolean, converted: PeerAuthentication | undefined, rootNamespace: string): readonly string[] {
  return [
    ...(strict ? [`${rootNamespace}/${staticStrictName}`] : []),
    ...(converted === undefined ? [] : [`${converted.meta.namespace}/${convertedName(converted)}`]),
  ];
}
