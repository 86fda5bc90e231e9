/** Whether one workload may connect to another, and why: by the same code that the node proxies decide with. */
import { systemClock } from "#shared/clock/clock.ts";
import { principalOf, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { hostPort, tryIp, type Ip } from "#shared/net/ip.ts";
import { decide } from "#shared/rbac/decide.ts";
import { policyFromProto } from "#shared/rbac/from-proto.ts";
import { PolicyStore } from "#shared/rbac/policy-store.ts";
import { addressFromProto } from "#shared/workload/from-proto.ts";
import { WorkloadStore } from "#shared/workload/workload-store.ts";
import type { Service, Workload } from "#shared/workload/workload.ts";
import { trustOf } from "#controlplane/translate/authorities.ts";
import type { Collected } from "#controlplane/translate/collected.ts";
import { appliedPolicy } from "#controlplane/translate/envoy/applied-policy.ts";
import { ownRuleOf } from "#controlplane/translate/envoy/destination-rules.ts";
import type { Translation } from "#controlplane/translate/translate.ts";

export interface Answer {
  readonly destination: string;
  readonly allowed: boolean;
  readonly why: string;
  /** `namespace/name` of the policy that settled it. */
  readonly policy?: string;
  /** How the decision came about, one step each. */
  readonly steps: readonly string[];
}

export interface Question {
  /** `namespace/pod`, or the address of something outside the mesh. */
  readonly from: string;
  /** `namespace/pod:port`, `namespace/service:port` or `ip:port`. */
  readonly to: string;
}

/** A question that cannot be answered, with what to ask instead. */
export interface Unanswerable {
  readonly error: string;
}

interface State {
  readonly workloads: readonly Workload[];
  readonly services: readonly Service[];
  readonly store: WorkloadStore;
  readonly policies: PolicyStore;
  readonly collected: Collected;
}

function stateOf({ addresses, authorizations, collected }: Translation): State {
  const workloads: Workload[] = [];
  const services: Service[] = [];
  for (const address of addresses.values()) {
    const read = addressFromProto(address);
    if (!read.ok) continue;
    if (read.value.kind === "workload") workloads.push(read.value.workload);
    else services.push(read.value.service);
  }
  const store = new WorkloadStore({ clock: systemClock });
  store.apply({ workloads, services });
  const policies = new PolicyStore();
  const upserts = [...authorizations.values()].map(policyFromProto).flatMap((read) => (read.ok ? [read.value] : []));
  policies.apply({ upserts, removals: [] });
  return { workloads, services, store, policies, collected };
}

/** One answer for each endpoint that the connection may reach. */
export function explainConnection(translation: Translation, { from, to }: Question): readonly Answer[] | Unanswerable {
  const state = stateOf(translation);
  const source = findSource(state, from);
  if ("error" in source) return source;
  const match = /^(.+):(\d{1,5})$/.exec(to);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port > 65_535) {
    return { error: `"${to}" names no port: write namespace/name:port, such as shop/cart:80` };
  }
  const targets = findTargets(state, match[1].replace(/^\[(.*)\]$/, "$1"), port);
  return "error" in targets ? targets : targets.map((target) => answer(state, source, target));
}

interface Source {
  readonly name: string;
  readonly ip: Ip;
  /** Of a captured workload only: others cannot prove who they are. */
  readonly identity: SpiffeId | undefined;
}

function findSource({ workloads, store }: State, from: string): Source | Unanswerable {
  const ip = tryIp(from);
  const workload = ip === undefined ? byName(workloads, from) : store.workloadByAddress("", ip);
  if (workload === undefined) {
    if (ip !== undefined) return { name: from, ip, identity: undefined };
    return { error: `there is no workload "${from}": write namespace/name of a pod with an address, or an IP address` };
  }
  const address = workload.addresses[0];
  if (address === undefined) return { error: `workload "${from}" has no address` };
  const isCaptured = workload.protocol === "HBONE";
  return { name: nameOf(workload), ip: address, identity: isCaptured ? workload.identity : undefined };
}

interface Target {
  readonly workload: Workload;
  readonly port: number;
  /** The service that was asked for, and at which of its ports. */
  readonly asked?: { readonly service: Service; readonly port: number };
}

function findTargets(state: State, name: string, port: number): readonly Target[] | Unanswerable {
  const { workloads, services, store } = state;
  const ip = tryIp(name);
  const workload = ip === undefined ? byName(workloads, name) : store.workloadByAddress("", ip);
  const service =
    ip === undefined
      ? services.find((each) => `${each.namespace}/${each.name}` === name || each.hostname === name)
      : store.serviceByAddress("", ip)?.service;
  // A name may be both; the port tells which is meant.
  if (service?.ports.has(port) === true) {
    const endpoints = [...(store.serviceByKey(`${service.namespace}/${service.hostname}`)?.endpoints.values() ?? [])];
    const targets = endpoints.flatMap((endpoint) => {
      const target = endpoint.ports.get(port);
      return target === undefined ? [] : [{ workload: endpoint.workload, port: target, asked: { service, port } }];
    });
    return targets.length > 0 ? targets : { error: `service "${name}" has no endpoint for port ${port}` };
  }
  if (workload !== undefined) return [{ workload, port }];
  if (service !== undefined) {
    return { error: `service "${name}" has no port ${port}: it has ${[...service.ports.keys()].join(", ")}` };
  }
  return { error: `nothing in the mesh is called "${name}": write namespace/name of a pod or a service` };
}

const nameOf = ({ namespace, name }: Workload): string => `${namespace}/${name}`;
const byName = (workloads: readonly Workload[], name: string): Workload | undefined =>
  workloads.find((workload) => nameOf(workload) === name);

/** What Gateway API's policies make of the way from the waypoint to the service. */
function tlsSteps({ collected }: State, { service, port }: NonNullable<Target["asked"]>): readonly string[] {
  const info = collected.services.find(({ key }) => key === `${service.namespace}/${service.hostname}`);
  const portInfo = info?.ports.find((each) => each.port === port);
  if (info === undefined || portInfo === undefined) return [];
  const destination = { service: info, port: portInfo, subset: "" };
  const { tlsPolicy } = appliedPolicy({ collected }, ownRuleOf(collected, info), destination);
  if (tlsPolicy === undefined) return [];
  const { namespace, name } = tlsPolicy.meta;
  const what = `BackendTLSPolicy ${namespace}/${name}`;
  const { kind, faults } = trustOf(collected.world, tlsPolicy);
  const why = faults.map(({ message }) => message).join("; ") || "nobody is trusted";
  return kind === "nobody"
    ? [`that waypoint sends nothing to it, for ${what} cannot be met: ${why}`]
    : [`that waypoint speaks TLS to it and expects ${tlsPolicy.subjectAltNames.join(" or ")}, by ${what}`];
}

function answer(state: State, source: Source, { workload, port, asked }: Target): Answer {
  const { policies } = state;
  const ip = workload.addresses[0];
  const destination = `${nameOf(workload)} (${ip === undefined ? workload.hostname : hostPort(ip, port)})`;
  const isCaptured = workload.protocol === "HBONE";
  const steps: string[] = [];
  if (asked?.service.waypoint !== undefined && source.identity !== undefined) {
    const { namespace, name } = asked.service;
    steps.push(
      `traffic to service ${namespace}/${name} passes its waypoint, whose own policies and identity count from there; what follows is a direct connection`,
      ...tlsSteps(state, asked),
    );
  }
  if (!isCaptured || ip === undefined) {
    steps.push(`${nameOf(workload)} is not captured: no policy is enforced there`);
    return { destination, allowed: true, why: "the destination is not in the mesh", steps };
  }
  const how =
    source.identity === undefined
      ? `${source.name} is not captured: it connects in plain text and proves no identity`
      : `${source.name} proves ${principalOf(source.identity)} by mutual TLS`;
  const applying = policies.policiesFor(workload);
  const names = [...applying.deny, ...applying.allow].map(({ key, action }) => `${action} ${key}`);
  steps.push(how, names.length === 0 ? "no policy applies" : `policies that apply: ${names.join(", ")}`);
  const verdict = decide(applying, {
    sourceIp: source.ip,
    ...(source.identity === undefined ? {} : { sourceIdentity: source.identity }),
    destinationIp: ip,
    destinationPort: port,
  });
  const rule = verdict.rule === undefined ? "" : ` (rule ${verdict.rule})`;
  return {
    destination,
    allowed: verdict.allowed,
    why: `${verdict.why}${rule}`,
    ...(verdict.policy === undefined ? {} : { policy: verdict.policy }),
    steps,
  };
}
