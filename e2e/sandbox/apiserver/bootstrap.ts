import { ApiError } from "./api-error.ts";
import type { KubeObject, MemoryObjectStore, NewObject, ResourceId } from "./object-store.ts";
import type { ResourceRegistry } from "./resource-registry.ts";
import { ids } from "./resources.ts";
import { child, textOf } from "./schema.ts";
import type { ServiceAccountTokens } from "./service-account-tokens.ts";
import { crdFinalizer } from "./strategies.ts";

const systemNamespaces = ["default", "kube-system", "kube-public", "kube-node-lease"];
const rbac = "rbac.authorization.k8s.io/v1";

/** Objects that a fresh cluster has. Pods reach this server at `address`, which its certificate names, and `serverPort`. */
export function createFirstObjects(
  store: MemoryObjectStore,
  serverPort: number,
  address: string | undefined,
): { serviceAddress: string } {
  for (const name of systemNamespaces)
    store.create(ids.namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name } });
  for (const [id, object] of roles()) store.create(id, object);
  for (const [name, value] of [
    ["system-cluster-critical", 2_000_000_000],
    ["system-node-critical", 2_000_001_000],
  ] as const) {
    store.create(
      { group: "scheduling.k8s.io", resource: "priorityclasses" },
      { apiVersion: "scheduling.k8s.io/v1", kind: "PriorityClass", metadata: { name }, value },
    );
  }
  const service = store.create(ids.services, {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "kubernetes", namespace: "default", labels: { component: "apiserver", provider: "kubernetes" } },
    spec: {
      ...(address === undefined ? {} : { clusterIP: address }),
      ports: [{ name: "https", port: 443, protocol: "TCP", targetPort: serverPort }],
    },
  });
  return { serviceAddress: textOf(child(service, "spec"), "clusterIP") ?? "" };
}

interface Rule {
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly nonResourceURLs?: readonly string[];
  readonly verbs: readonly string[];
}

const everything: readonly Rule[] = [
  { apiGroups: ["*"], resources: ["*"], verbs: ["*"] },
  { nonResourceURLs: ["*"], verbs: ["*"] },
];
const readVerbs = ["get", "list", "watch"];
const writeVerbs = ["create", "delete", "deletecollection", "patch", "update"];
const userResources: readonly Rule[] = [
  {
    apiGroups: [""],
    resources: [
      "configmaps",
      "endpoints",
      "events",
      "persistentvolumeclaims",
      "pods",
      "pods/log",
      "pods/status",
      "replicationcontrollers",
      "serviceaccounts",
      "services",
      "services/status",
    ],
    verbs: readVerbs,
  },
  { apiGroups: [""], resources: ["namespaces"], verbs: readVerbs },
  { apiGroups: ["apps"], resources: ["*"], verbs: readVerbs },
  {
    apiGroups: ["autoscaling", "batch", "discovery.k8s.io", "networking.k8s.io", "policy"],
    resources: ["*"],
    verbs: readVerbs,
  },
];
const userWrites: readonly Rule[] = [
  {
    apiGroups: [""],
    resources: [
      "configmaps",
      "persistentvolumeclaims",
      "pods",
      "pods/attach",
      "pods/eviction",
      "pods/exec",
      "pods/portforward",
      "secrets",
      "serviceaccounts",
      "services",
    ],
    verbs: [...readVerbs, ...writeVerbs],
  },
  { apiGroups: ["apps", "autoscaling", "batch", "networking.k8s.io", "policy"], resources: ["*"], verbs: writeVerbs },
];

const discoveryPaths = [
  "/api",
  "/api/*",
  "/apis",
  "/apis/*",
  "/healthz",
  "/livez",
  "/openapi",
  "/openapi/*",
  "/readyz",
  "/version",
  "/version/",
];
const publicPaths = ["/healthz", "/livez", "/readyz", "/version", "/version/"];

function roles(): [ResourceId, NewObject][] {
  const role = (name: string, rules: readonly Rule[]): [ResourceId, NewObject] => [
    ids.clusterRoles,
    {
      apiVersion: rbac,
      kind: "ClusterRole",
      metadata: { name, labels: { "kubernetes.io/bootstrapping": "rbac-defaults" } },
      rules,
    },
  ];
  const bind = (name: string, ...groups: readonly string[]): [ResourceId, NewObject] => [
    ids.clusterRoleBindings,
    {
      apiVersion: rbac,
      kind: "ClusterRoleBinding",
      metadata: { name, labels: { "kubernetes.io/bootstrapping": "rbac-defaults" } },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name },
      subjects: groups.map((group) => ({ kind: "Group", apiGroup: "rbac.authorization.k8s.io", name: group })),
    },
  ];
  const reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
  return [
    role("cluster-admin", everything),
    role("view", userResources),
    role("edit", [...userResources, ...userWrites]),
    role("admin", [
      ...userResources,
      ...userWrites,
      {
        apiGroups: ["rbac.authorization.k8s.io"],
        resources: ["rolebindings", "roles"],
        verbs: [...readVerbs, ...writeVerbs],
      },
    ]),
    role("system:auth-delegator", [
      { apiGroups: ["authentication.k8s.io"], resources: ["tokenreviews"], verbs: ["create"] },
      { apiGroups: ["authorization.k8s.io"], resources: ["subjectaccessreviews"], verbs: ["create"] },
    ]),
    role("system:basic-user", [
      { apiGroups: ["authorization.k8s.io"], resources: reviews, verbs: ["create"] },
      { apiGroups: ["authentication.k8s.io"], resources: ["selfsubjectreviews"], verbs: ["create"] },
    ]),
    role("system:discovery", [{ nonResourceURLs: discoveryPaths, verbs: ["get"] }]),
    role("system:public-info-viewer", [{ nonResourceURLs: publicPaths, verbs: ["get"] }]),
    role("system:service-account-issuer-discovery", [
      { nonResourceURLs: ["/.well-known/openid-configuration", "/openid/v1/jwks"], verbs: ["get"] },
    ]),
    bind("cluster-admin", "system:masters"),
    bind("system:basic-user", "system:authenticated"),
    bind("system:discovery", "system:authenticated"),
    bind("system:public-info-viewer", "system:authenticated", "system:unauthenticated"),
    bind("system:service-account-issuer-discovery", "system:serviceaccounts"),
  ];
}

/** A year: these tokens carry an end because ours all do. */
const secretTokenSeconds = 365 * 86_400;

/** What Kubernetes' controllers put beside a new object and its users wait for: here it is there at once. */
export function companionsOf(
  store: MemoryObjectStore,
  tokens: ServiceAccountTokens,
  caPem: string,
): (id: ResourceId, object: KubeObject) => void {
  return (id, object) => {
    if (id.group !== "") return;
    if (id.resource === "namespaces") furnishNamespace(store, object.metadata.name, caPem);
    if (id.resource === "secrets" && object["type"] === "kubernetes.io/service-account-token")
      fillTokenSecret(store, object, tokens, caPem);
  };
}

/** Makes what every namespace has, where it is missing. */
function furnishNamespace(store: MemoryObjectStore, namespace: string, caPem: string): void {
  if (store.get(ids.serviceAccounts, namespace, defaultAccount) === undefined)
    store.create(ids.serviceAccounts, {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: defaultAccount, namespace },
    });
  if (store.get(ids.configMaps, namespace, rootsConfigMap) === undefined)
    store.create(ids.configMaps, {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: rootsConfigMap, namespace },
      data: { "ca.crt": caPem },
    });
}

const defaultAccount = "default";
const rootsConfigMap = "kube-root-ca.crt";

/** Makes anew what somebody deletes of it, for pods need both. The answer stops it. */
export function refurnishNamespaces(store: MemoryObjectStore, caPem: string): () => void {
  const stops = [
    { id: ids.serviceAccounts, name: defaultAccount },
    { id: ids.configMaps, name: rootsConfigMap },
  ].map(({ id, name }) =>
    store.subscribe(id, ({ type, object }) => {
      const { namespace = "" } = object.metadata;
      if (type !== "DELETED" || object.metadata.name !== name) return;
      const home = store.get(ids.namespaces, undefined, namespace);
      if (home !== undefined && home.metadata.deletionTimestamp === undefined)
        furnishNamespace(store, namespace, caPem);
    }),
  );
  return () => {
    for (const stop of stops) stop();
  };
}

function fillTokenSecret(
  store: MemoryObjectStore,
  secret: KubeObject,
  tokens: ServiceAccountTokens,
  caPem: string,
): void {
  const { namespace, name, uid, annotations = {} } = secret.metadata;
  const account = store.get(ids.serviceAccounts, namespace, annotations["kubernetes.io/service-account.name"] ?? "");
  if (account === undefined) return;
  const { token } = tokens.issue(account, {
    audiences: [],
    expirationSeconds: secretTokenSeconds,
    bound: { kind: "Secret", name, uid },
  });
  const encode = (text: string) => Buffer.from(text).toString("base64");
  const filled = structuredClone(secret);
  filled.metadata.annotations = { ...annotations, "kubernetes.io/service-account.uid": account.metadata.uid };
  filled["data"] = {
    ...child(secret, "data"),
    token: encode(token),
    "ca.crt": encode(caPem),
    namespace: encode(namespace ?? ""),
  };
  store.update(ids.secrets, filled);
}

/** Empties the resource of a CRD that is being deleted, then lets the CRD go. The answer stops it. */
export function cleanUpCrds(store: MemoryObjectStore, registry: ResourceRegistry): () => void {
  const stops = new Set<() => void>();
  const stop = store.subscribe(ids.crds, ({ type, object }) => {
    if (type !== "MODIFIED" || object.metadata.deletionTimestamp === undefined) return;
    if (object.metadata.finalizers?.includes(crdFinalizer) !== true) return;
    const [plural = "", ...group] = object.metadata.name.split(".");
    const id = { group: group.join("."), resource: plural };
    if (registry.find(id) === undefined) return;
    let unsubscribe = () => {};
    const release = () => {
      if (store.list(id).length > 0) return;
      unsubscribe();
      stops.delete(unsubscribe);
      dropCrdFinalizer(store, object.metadata.name);
    };
    unsubscribe = store.subscribe(id, (event) => {
      if (event.type === "DELETED") release();
    });
    stops.add(unsubscribe);
    for (const { metadata } of store.list(id)) deleteQuietly(store, id, metadata.namespace, metadata.name);
    release();
  });
  return () => {
    stop();
    for (const end of stops) end();
  };
}

function deleteQuietly(store: MemoryObjectStore, id: ResourceId, namespace: string | undefined, name: string): void {
  try {
    store.delete(id, namespace, name);
  } catch (error) {
    if (!(error instanceof ApiError) || error.reason !== "NotFound") throw error; // gone already is as good
  }
}

function dropCrdFinalizer(store: MemoryObjectStore, name: string): void {
  const crd = store.get(ids.crds, undefined, name);
  if (crd === undefined) return;
  const next = structuredClone(crd);
  next.metadata.finalizers = objectlessFinalizers(crd);
  if (next.metadata.finalizers.length === 0) delete next.metadata.finalizers;
  store.update(ids.crds, next);
}

const objectlessFinalizers = ({ metadata }: KubeObject) =>
  (metadata.finalizers ?? []).filter((one) => one !== crdFinalizer);
