/** How a list or map of a built-in type is merged, where it is not replaced as a whole. */
export interface MergeRule {
  /** Strategic merge: elements are the same when they agree in this field. Absent for lists of plain values. */
  readonly mergeKey?: string;
  /** Strategic merge strategy; `merge` where absent. */
  readonly strategy?: string;
  /** Server-side apply: the fields that together identify an element. */
  readonly mapKeys?: readonly string[];
  /** Server-side apply: a list of unique plain values. */
  readonly set?: true;
}

const byName: MergeRule = { mergeKey: "name", mapKeys: ["name"] };
const byType: MergeRule = { mergeKey: "type", mapKeys: ["type"] };

/**
 * From the `patchMergeKey`, `patchStrategy` and `listType` tags of Kubernetes' own API types (k8s.io/api), which the
 * generated client does not carry over. Keys are `Model.field`.
 */
export const mergeRules: Readonly<Record<string, MergeRule>> = {
  "V1ObjectMeta.ownerReferences": { mergeKey: "uid", mapKeys: ["uid"] },
  "V1ObjectMeta.finalizers": { set: true },
  "V1PodSpec.volumes": { ...byName, strategy: "merge,retainKeys" },
  "V1PodSpec.initContainers": byName,
  "V1PodSpec.containers": byName,
  "V1PodSpec.ephemeralContainers": byName,
  "V1PodSpec.imagePullSecrets": byName,
  "V1PodSpec.hostAliases": { mergeKey: "ip", mapKeys: ["ip"] },
  "V1PodSpec.topologySpreadConstraints": { mergeKey: "topologyKey", mapKeys: ["topologyKey", "whenUnsatisfiable"] },
  "V1PodSpec.schedulingGates": byName,
  "V1PodSpec.resourceClaims": { ...byName, strategy: "merge,retainKeys" },
  "V1PodStatus.conditions": byType,
  "V1PodStatus.podIPs": { mergeKey: "ip", mapKeys: ["ip"] },
  "V1Container.ports": { mergeKey: "containerPort", mapKeys: ["containerPort", "protocol"] },
  "V1Container.env": byName,
  "V1Container.volumeMounts": { mergeKey: "mountPath", mapKeys: ["mountPath"] },
  "V1Container.volumeDevices": { mergeKey: "devicePath", mapKeys: ["devicePath"] },
  "V1EphemeralContainer.ports": { mergeKey: "containerPort", mapKeys: ["containerPort", "protocol"] },
  "V1EphemeralContainer.env": byName,
  "V1EphemeralContainer.volumeMounts": { mergeKey: "mountPath", mapKeys: ["mountPath"] },
  "V1EphemeralContainer.volumeDevices": { mergeKey: "devicePath", mapKeys: ["devicePath"] },
  "V1ServiceSpec.ports": { mergeKey: "port", mapKeys: ["port", "protocol"] },
  "V1ServiceStatus.conditions": byType,
  "V1ServiceAccount.secrets": byName,
  "V1NodeSpec.podCIDRs": { set: true },
  "V1NodeStatus.conditions": byType,
  "V1NodeStatus.addresses": byType,
  "V1NamespaceStatus.conditions": byType,
  "V1DeploymentSpec.strategy": { strategy: "retainKeys" },
  "V1DeploymentStatus.conditions": byType,
  "V1ReplicaSetStatus.conditions": byType,
  "V1DaemonSetStatus.conditions": byType,
  "V1StatefulSetStatus.conditions": byType,
  "V1JobStatus.conditions": { mergeKey: "type" },
  "V1PodDisruptionBudgetStatus.conditions": byType,
  "V2HorizontalPodAutoscalerStatus.conditions": byType,
  "V1MutatingWebhookConfiguration.webhooks": byName,
  "V1ValidatingWebhookConfiguration.webhooks": byName,
  "V1CustomResourceDefinitionStatus.conditions": { mapKeys: ["type"] },
  "V1ResourceRequirements.claims": { mapKeys: ["name"] },
};

/** Objects that server-side apply owns and replaces as a whole. */
export const atomicModels: ReadonlySet<string> = new Set([
  "V1LabelSelector",
  "V1ObjectReference",
  "V1LocalObjectReference",
  "V1SecretKeySelector",
  "V1ConfigMapKeySelector",
  "V1ObjectFieldSelector",
  "V1ResourceFieldSelector",
  "V1NodeSelector",
  "V1NodeSelectorTerm",
  "V1TypedLocalObjectReference",
  "V1OwnerReference",
  "V1RoleRef",
  "RbacV1Subject",
  "V1SecretReference",
  "V1ScopeSelector",
]);

/** Maps that server-side apply owns and replaces as a whole. */
export const atomicMaps: ReadonlySet<string> = new Set(["V1ServiceSpec.selector", "V1PodSpec.nodeSelector"]);
