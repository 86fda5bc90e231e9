/** The ConfigMaps that objects name for the certificates of authorities in them: no other ConfigMap concerns the mesh. */
import { readBackendTlsPolicy } from "./backend-policy.ts";
import { readDestinationRule, type TrafficPolicy } from "./destination-rule.ts";
import { Field, ShapeError } from "./field.ts";
import type { KubeObject } from "./objects.ts";
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
  const root = new Field(object);
  try {
    switch (kindOf(object)) {
      case "BackendTLSPolicy": {
        const { meta, authorities } = readBackendTlsPolicy(root);
        return authorities
          .filter(({ group, kind }) => group === "" && kind === "ConfigMap")
          .map(({ name }) => ({ namespace: meta.namespace, name }));
      }
      case "DestinationRule": {
        const namespace = root.at("metadata").at("namespace").text();
        const { policy, subsets } = readDestinationRule(root.at("spec"));
        return [policy, ...subsets.map((subset) => subset.policy)]
          .flatMap(credentialNames)
          .map((name) => configMapOf(name, namespace))
          .filter((found) => found !== undefined);
      }
      default:
        return [];
    }
  } catch (thrown) {
    if (thrown instanceof ShapeError) return [];
    throw thrown;
  }
}

const credentialNames = (policy: TrafficPolicy | undefined): readonly string[] =>
  policy === undefined
    ? []
    : [policy, ...policy.ports.values()].flatMap(({ tls }) => (tls === undefined ? [] : [tls.credentialName]));
