import type { ResourceId } from "./object-store.ts";
import { refTo } from "./core-schemas.ts";
import type { Schema } from "./schema.ts";

export interface PrinterColumn {
  readonly name: string;
  readonly type: string;
  readonly format?: string;
  readonly description?: string;
  readonly priority?: number;
  readonly jsonPath: string;
}

export interface ScalePaths {
  readonly specReplicasPath: string;
  readonly statusReplicasPath: string;
  readonly labelSelectorPath?: string;
}

/** One served version of a resource. */
export interface ResourceVersion {
  readonly name: string;
  readonly schema: Schema;
  readonly hasStatus: boolean;
  readonly scale?: ScalePaths;
  /** Only CRDs bring their own; the columns of the built-in kinds are code. */
  readonly columns?: readonly PrinterColumn[];
  readonly selectableFields?: readonly string[];
  readonly deprecation?: string;
}

/** All that discovery, storage and the request path must know about a resource. */
export interface ResourceInfo extends ResourceId {
  readonly kind: string;
  readonly listKind: string;
  readonly singular: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly verbs: readonly string[];
  readonly hasGeneration: boolean;
  readonly builtIn: boolean;
  /** Served versions, the preferred one first. */
  readonly versions: readonly ResourceVersion[];
  readonly storageVersion: string;
  /** Subresources beyond `status` and `scale`, with the kind that they exchange. */
  readonly subresources: Readonly<Record<string, Subresource>>;
}

export interface Subresource {
  readonly kind: string;
  readonly group?: string;
  readonly version?: string;
  readonly verbs: readonly string[];
}

export const allVerbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] as const;

interface Options {
  readonly short?: readonly string[];
  readonly categories?: readonly string[];
  readonly cluster?: true;
  readonly status?: true;
  readonly scale?: true;
  readonly generation?: true;
  readonly verbs?: readonly string[];
  readonly subresources?: Readonly<Record<string, Subresource>>;
}

const replicasScale: ScalePaths = {
  specReplicasPath: ".spec.replicas",
  statusReplicasPath: ".status.replicas",
  labelSelectorPath: ".status.selector",
};

function builtIn(group: string, version: string, resource: string, model: string, options: Options = {}): ResourceInfo {
  const kind = model.replace(/^(?:[A-Z][a-z]+)?V\d+/u, "");
  return {
    group,
    resource,
    kind,
    listKind: `${kind}List`,
    singular: kind.toLowerCase(),
    namespaced: options.cluster !== true,
    shortNames: options.short ?? [],
    categories: options.categories ?? [],
    verbs: options.verbs ?? allVerbs,
    hasGeneration: options.generation === true,
    builtIn: true,
    versions: [
      {
        name: version,
        schema: refTo(model),
        hasStatus: options.status === true,
        ...(options.scale === true ? { scale: replicasScale } : {}),
      },
    ],
    storageVersion: version,
    subresources: options.subresources ?? {},
  };
}

const all = ["all"];
const apiExtensions = ["api-extensions"];
const createOnly = { verbs: ["create"] };
const stream = { verbs: ["create", "get"] };

const podSubresources: Readonly<Record<string, Subresource>> = {
  attach: { kind: "PodAttachOptions", ...stream },
  binding: { kind: "Binding", verbs: ["create"] },
  ephemeralcontainers: { kind: "Pod", verbs: ["get", "patch", "update"] },
  eviction: { kind: "Eviction", group: "policy", version: "v1", verbs: ["create"] },
  exec: { kind: "PodExecOptions", ...stream },
  log: { kind: "Pod", verbs: ["get"] },
  portforward: { kind: "PodPortForwardOptions", ...stream },
};

/** Every built-in resource. Some are stored for their users only: nothing in the sandbox acts on a PodDisruptionBudget. */
// prettier-ignore
export const builtInResources: readonly ResourceInfo[] = [
  builtIn("", "v1", "configmaps", "V1ConfigMap", { short: ["cm"] }),
  builtIn("", "v1", "endpoints", "V1Endpoints", { short: ["ep"] }),
  builtIn("", "v1", "events", "CoreV1Event", { short: ["ev"] }),
  builtIn("", "v1", "limitranges", "V1LimitRange", { short: ["limits"] }),
  builtIn("", "v1", "namespaces", "V1Namespace", { cluster: true, short: ["ns"], status: true,
    verbs: allVerbs.filter((verb) => verb !== "deletecollection"),
    subresources: { finalize: { kind: "Namespace", verbs: ["update"] } } }),
  builtIn("", "v1", "nodes", "V1Node", { cluster: true, short: ["no"], status: true }),
  builtIn("", "v1", "persistentvolumeclaims", "V1PersistentVolumeClaim", { short: ["pvc"], status: true }),
  builtIn("", "v1", "persistentvolumes", "V1PersistentVolume", { cluster: true, short: ["pv"], status: true }),
  builtIn("", "v1", "pods", "V1Pod", { short: ["po"], categories: all, status: true, subresources: podSubresources }),
  builtIn("", "v1", "replicationcontrollers", "V1ReplicationController", { short: ["rc"], categories: all, status: true, scale: true, generation: true }),
  builtIn("", "v1", "resourcequotas", "V1ResourceQuota", { short: ["quota"], status: true }),
  builtIn("", "v1", "secrets", "V1Secret"),
  builtIn("", "v1", "serviceaccounts", "V1ServiceAccount", { short: ["sa"], subresources: {
    token: { kind: "TokenRequest", group: "authentication.k8s.io", version: "v1", verbs: ["create"] } } }),
  builtIn("", "v1", "services", "V1Service", { short: ["svc"], categories: all, status: true }),
  builtIn("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "V1MutatingWebhookConfiguration", { cluster: true, categories: apiExtensions, generation: true }),
  builtIn("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "V1ValidatingAdmissionPolicy", { cluster: true, categories: apiExtensions, generation: true, status: true }),
  builtIn("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings", "V1ValidatingAdmissionPolicyBinding", { cluster: true, categories: apiExtensions, generation: true }),
  builtIn("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "V1ValidatingWebhookConfiguration", { cluster: true, categories: apiExtensions, generation: true }),
  builtIn("apiextensions.k8s.io", "v1", "customresourcedefinitions", "V1CustomResourceDefinition", { cluster: true, short: ["crd", "crds"], categories: apiExtensions, status: true, generation: true }),
  builtIn("apps", "v1", "controllerrevisions", "V1ControllerRevision"),
  builtIn("apps", "v1", "daemonsets", "V1DaemonSet", { short: ["ds"], categories: all, status: true, generation: true }),
  builtIn("apps", "v1", "deployments", "V1Deployment", { short: ["deploy"], categories: all, status: true, scale: true, generation: true }),
  builtIn("apps", "v1", "replicasets", "V1ReplicaSet", { short: ["rs"], categories: all, status: true, scale: true, generation: true }),
  builtIn("apps", "v1", "statefulsets", "V1StatefulSet", { short: ["sts"], categories: all, status: true, scale: true, generation: true }),
  builtIn("authentication.k8s.io", "v1", "selfsubjectreviews", "V1SelfSubjectReview", { cluster: true, ...createOnly }),
  builtIn("authentication.k8s.io", "v1", "tokenreviews", "V1TokenReview", { cluster: true, ...createOnly }),
  builtIn("authorization.k8s.io", "v1", "localsubjectaccessreviews", "V1LocalSubjectAccessReview", createOnly),
  builtIn("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "V1SelfSubjectAccessReview", { cluster: true, ...createOnly }),
  builtIn("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "V1SelfSubjectRulesReview", { cluster: true, ...createOnly }),
  builtIn("authorization.k8s.io", "v1", "subjectaccessreviews", "V1SubjectAccessReview", { cluster: true, ...createOnly }),
  builtIn("autoscaling", "v2", "horizontalpodautoscalers", "V2HorizontalPodAutoscaler", { short: ["hpa"], categories: all, status: true }),
  builtIn("batch", "v1", "cronjobs", "V1CronJob", { short: ["cj"], categories: all, status: true, generation: true }),
  builtIn("batch", "v1", "jobs", "V1Job", { categories: all, status: true, generation: true }),
  builtIn("coordination.k8s.io", "v1", "leases", "V1Lease"),
  builtIn("discovery.k8s.io", "v1", "endpointslices", "V1EndpointSlice", { generation: true }),
  builtIn("events.k8s.io", "v1", "events", "EventsV1Event", { short: ["ev"] }),
  builtIn("networking.k8s.io", "v1", "ingressclasses", "V1IngressClass", { cluster: true, generation: true }),
  builtIn("networking.k8s.io", "v1", "ingresses", "V1Ingress", { short: ["ing"], status: true, generation: true }),
  builtIn("networking.k8s.io", "v1", "networkpolicies", "V1NetworkPolicy", { short: ["netpol"], generation: true }),
  builtIn("policy", "v1", "poddisruptionbudgets", "V1PodDisruptionBudget", { short: ["pdb"], status: true, generation: true }),
  builtIn("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "V1ClusterRoleBinding", { cluster: true }),
  builtIn("rbac.authorization.k8s.io", "v1", "clusterroles", "V1ClusterRole", { cluster: true }),
  builtIn("rbac.authorization.k8s.io", "v1", "rolebindings", "V1RoleBinding"),
  builtIn("rbac.authorization.k8s.io", "v1", "roles", "V1Role"),
  builtIn("scheduling.k8s.io", "v1", "priorityclasses", "V1PriorityClass", { cluster: true, short: ["pc"], generation: true }),
  builtIn("storage.k8s.io", "v1", "storageclasses", "V1StorageClass", { cluster: true, short: ["sc"] }),
];

/** The identities that code uses by name. */
export const ids = {
  clusterRoleBindings: { group: "rbac.authorization.k8s.io", resource: "clusterrolebindings" },
  clusterRoles: { group: "rbac.authorization.k8s.io", resource: "clusterroles" },
  configMaps: { group: "", resource: "configmaps" },
  crds: { group: "apiextensions.k8s.io", resource: "customresourcedefinitions" },
  deployments: { group: "apps", resource: "deployments" },
  endpointSlices: { group: "discovery.k8s.io", resource: "endpointslices" },
  events: { group: "", resource: "events" },
  namespaces: { group: "", resource: "namespaces" },
  nodes: { group: "", resource: "nodes" },
  pods: { group: "", resource: "pods" },
  replicaSets: { group: "apps", resource: "replicasets" },
  roleBindings: { group: "rbac.authorization.k8s.io", resource: "rolebindings" },
  roles: { group: "rbac.authorization.k8s.io", resource: "roles" },
  secrets: { group: "", resource: "secrets" },
  serviceAccounts: { group: "", resource: "serviceaccounts" },
  services: { group: "", resource: "services" },
  validatingWebhooks: { group: "admissionregistration.k8s.io", resource: "validatingwebhookconfigurations" },
} as const satisfies Record<string, ResourceId>;
