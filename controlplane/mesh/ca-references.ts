/** The ConfigMaps that objects name for the certificates of authorities in them: no other ConfigMap concerns the mesh. */
import { readBackendTlsPolicy } from "./backend-policy.ts";
import { readDestinationRule, type TrafficPolicy } from "./destination-rule.ts";
import { Field, ShapeError } from "./field.ts";
import type { KubeObject } from "./objects.ts";
import { readMeta } from "./read-meta.ts";
import { kindOf } from "./read-objects.ts";

export interface ConfigMapName {
  readonly namespace: string;
  readonly name: string;
}

/** `configmap://name` or `configmap://namespace/name`; undefined for names of Secrets. */
export function configMapOf(credentialName: string, namespace: string): ConfigMapName | undefined {
  const match = /^configmap:\/\/(?:([^/]+)\/)?([^/]+)$/.exec(credentialName);
  return match?.[2] === undefined ? undefined : { namespace: match[1] ?? namespace, name: match[2] };
}

/** Of one object; none where the mesh could not read it. */
export function namedConfigMaps(object: KubeObject): readonly ConfigMapName[] {
  const kind = kindOf(object);
  if (kind !== "BackendTLSPolicy" && kind !== "DestinationRule") return [];
  const root = new Field(object);
  try {
    return kind === "BackendTLSPolicy" ? namedByPolicy(root) : namedByRule(root);
  } catch (thrown) {
    if (thrown instanceof ShapeError) return [];
    throw thrown;
  }
}

function namedByPolicy(object: Field): readonly ConfigMapName[] {
  const { meta, authorities } = readBackendTlsPolicy(readMeta(object), object);
  return authorities
    .filter(({ group, kind }) => group === "" && kind === "ConfigMap")
    .map(({ name }) => ({ namespace: meta.namespace, name }));
}

function namedByRule(object: Field): readonly ConfigMapName[] {
  const { policy, subsets } = readDestinationRule(object.at("spec"));
  return [policy, ...subsets.map((subset) => subset.policy)]
    .flatMap(credentialNames)
    .map((name) => configMapOf(name, object.at("metadata").at("namespace").text()))
    .filter((found) => found !== undefined);
}

const credentialNames = (policy: TrafficPolicy | undefined): readonly string[] =>
  policy === undefined
    ? []
    : [policy, ...policy.ports.values()].flatMap(({ tls }) => (tls === undefined ? [] : [tls.credentialName]));
