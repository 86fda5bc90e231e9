import type { KubeObject } from "./object-store.ts";
import { child, isObject, objectsOf, textOf, type JsonObject } from "./schema.ts";
import { defaultCrd } from "./crd-resources.ts";

/*
 * The values that Kubernetes fills in and its users then see in `kubectl get -o yaml`
 * (k8s.io/kubernetes `pkg/apis/<group>/v1/defaults.go`). Every function changes the object that it is given.
 */

const defaultsOf: Readonly<Record<string, (object: KubeObject) => void>> = {
  ConfigMap: () => {},
  CronJob: defaultCronJob,
  CustomResourceDefinition: defaultCrd,
  DaemonSet: defaultDaemonSet,
  Deployment: defaultDeployment,
  Endpoints: (object) => {
    for (const subset of objectsOf(object, "subsets"))
      for (const port of objectsOf(subset, "ports")) set(port, "protocol", "TCP");
  },
  EndpointSlice: (object) => {
    for (const port of objectsOf(object, "ports")) {
      set(port, "name", "");
      set(port, "protocol", "TCP");
    }
  },
  HorizontalPodAutoscaler: (object) => set(child(object, "spec"), "minReplicas", 1),
  Job: defaultJob,
  MutatingWebhookConfiguration: defaultWebhooks,
  Namespace: defaultNamespace,
  NetworkPolicy: defaultNetworkPolicy,
  Pod: (object) => defaultPodSpec(child(object, "spec")),
  ReplicaSet: (object) => defaultWorkload(object),
  RoleBinding: defaultBinding,
  ClusterRoleBinding: defaultBinding,
  Secret: defaultSecret,
  Service: defaultService,
  StatefulSet: defaultStatefulSet,
  ValidatingWebhookConfiguration: defaultWebhooks,
};

/** Fills in what a built-in object leaves out. */
export function applyCoreDefaults(object: KubeObject): void {
  defaultsOf[object.kind]?.(object);
}

function set(object: JsonObject, field: string, value: unknown): void {
  object[field] ??= value;
}

/** The object at `field`, put there if it is missing. */
function within(object: JsonObject, field: string): JsonObject {
  if (!isObject(object[field])) object[field] = {};
  return object[field] as JsonObject;
}

function defaultWorkload(object: KubeObject): JsonObject {
  const spec = within(object, "spec");
  set(spec, "replicas", 1);
  defaultTemplate(spec);
  return spec;
}

function defaultTemplate(spec: JsonObject): void {
  if (!isObject(spec["template"])) return;
  within(spec["template"], "metadata");
  if (isObject(spec["template"]["spec"])) defaultPodSpec(spec["template"]["spec"]);
}

function defaultDeployment(object: KubeObject): void {
  const spec = defaultWorkload(object);
  set(spec, "revisionHistoryLimit", 10);
  set(spec, "progressDeadlineSeconds", 600);
  const strategy = within(spec, "strategy");
  set(strategy, "type", "RollingUpdate");
  if (strategy["type"] !== "RollingUpdate") return;
  const rolling = within(strategy, "rollingUpdate");
  set(rolling, "maxUnavailable", "25%");
  set(rolling, "maxSurge", "25%");
}

function defaultDaemonSet(object: KubeObject): void {
  const spec = within(object, "spec");
  defaultTemplate(spec);
  set(spec, "revisionHistoryLimit", 10);
  const strategy = within(spec, "updateStrategy");
  set(strategy, "type", "RollingUpdate");
  if (strategy["type"] !== "RollingUpdate") return;
  const rolling = within(strategy, "rollingUpdate");
  set(rolling, "maxUnavailable", 1);
  set(rolling, "maxSurge", 0);
}

function defaultStatefulSet(object: KubeObject): void {
  const spec = defaultWorkload(object);
  set(spec, "podManagementPolicy", "OrderedReady");
  set(spec, "revisionHistoryLimit", 10);
  set(spec, "serviceName", "");
  set(spec, "persistentVolumeClaimRetentionPolicy", { whenDeleted: "Retain", whenScaled: "Retain" });
  const strategy = within(spec, "updateStrategy");
  set(strategy, "type", "RollingUpdate");
  if (strategy["type"] === "RollingUpdate") set(within(strategy, "rollingUpdate"), "partition", 0);
}

function defaultJob(object: KubeObject): void {
  const spec = within(object, "spec");
  defaultTemplate(spec);
  set(spec, "completions", 1);
  set(spec, "parallelism", 1);
  set(spec, "backoffLimit", 6);
  set(spec, "completionMode", "NonIndexed");
  set(spec, "suspend", false);
  const labels = {
    "batch.kubernetes.io/controller-uid": object.metadata.uid,
    "batch.kubernetes.io/job-name": object.metadata.name,
  };
  if (spec["selector"] !== undefined || !isObject(spec["template"])) return;
  spec["selector"] = { matchLabels: { "batch.kubernetes.io/controller-uid": object.metadata.uid } };
  const metadata = within(spec["template"], "metadata");
  metadata["labels"] = { ...child(metadata, "labels"), ...labels };
}

function defaultCronJob(object: KubeObject): void {
  const spec = within(object, "spec");
  set(spec, "concurrencyPolicy", "Allow");
  set(spec, "suspend", false);
  set(spec, "successfulJobsHistoryLimit", 3);
  set(spec, "failedJobsHistoryLimit", 1);
}

function defaultNamespace(object: KubeObject): void {
  set(within(object, "spec"), "finalizers", ["kubernetes"]);
  set(within(object, "status"), "phase", "Active");
  object.metadata.labels = { ...object.metadata.labels, "kubernetes.io/metadata.name": object.metadata.name };
}

function defaultNetworkPolicy(object: KubeObject): void {
  const spec = within(object, "spec");
  set(spec, "policyTypes", spec["egress"] === undefined ? ["Ingress"] : ["Ingress", "Egress"]);
}

function defaultBinding(object: KubeObject): void {
  const group = "rbac.authorization.k8s.io";
  if (isObject(object["roleRef"])) set(object["roleRef"], "apiGroup", group);
  for (const subject of objectsOf(object, "subjects")) {
    if (subject["kind"] === "User" || subject["kind"] === "Group") set(subject, "apiGroup", group);
  }
}

/** `stringData` is for writing only: it becomes `data`. */
function defaultSecret(object: KubeObject): void {
  set(object, "type", "Opaque");
  const text = object["stringData"];
  if (!isObject(text)) return;
  const encoded = Object.entries(text).map(([key, value]) => [key, Buffer.from(String(value)).toString("base64")]);
  object["data"] = { ...child(object, "data"), ...Object.fromEntries(encoded) };
  delete object["stringData"];
}

function defaultWebhooks(object: KubeObject): void {
  for (const webhook of objectsOf(object, "webhooks")) {
    set(webhook, "failurePolicy", "Fail");
    set(webhook, "matchPolicy", "Equivalent");
    set(webhook, "namespaceSelector", {});
    set(webhook, "objectSelector", {});
    set(webhook, "timeoutSeconds", 10);
    if (object.kind === "MutatingWebhookConfiguration") set(webhook, "reinvocationPolicy", "Never");
    const { service } = child(webhook, "clientConfig");
    if (isObject(service)) set(service, "port", 443);
    for (const rule of objectsOf(webhook, "rules")) set(rule, "scope", "*");
  }
}

/** What does not need an address; those come from the allocator. */
function defaultService(object: KubeObject): void {
  const spec = within(object, "spec");
  set(spec, "type", "ClusterIP");
  set(spec, "sessionAffinity", "None");
  if (spec["sessionAffinity"] === "ClientIP") {
    set(within(within(spec, "sessionAffinityConfig"), "clientIP"), "timeoutSeconds", 10_800);
  }
  for (const port of objectsOf(spec, "ports")) {
    set(port, "protocol", "TCP");
    if (port["targetPort"] === undefined || port["targetPort"] === 0) port["targetPort"] = port["port"];
  }
  if (spec["type"] !== "ExternalName") set(spec, "internalTrafficPolicy", "Cluster");
  if (spec["type"] === "NodePort" || spec["type"] === "LoadBalancer") set(spec, "externalTrafficPolicy", "Cluster");
  if (spec["type"] === "LoadBalancer") set(spec, "allocateLoadBalancerNodePorts", true);
  set(within(object, "status"), "loadBalancer", {});
}

export function defaultPodSpec(spec: JsonObject): void {
  set(spec, "restartPolicy", "Always");
  set(spec, "terminationGracePeriodSeconds", 30);
  set(spec, "dnsPolicy", "ClusterFirst");
  set(spec, "securityContext", {});
  set(spec, "schedulerName", "default-scheduler");
  const account = textOf(spec, "serviceAccountName") ?? textOf(spec, "serviceAccount");
  if (account !== undefined) {
    spec["serviceAccountName"] = account;
    spec["serviceAccount"] = account;
  }
  const containers = [...objectsOf(spec, "initContainers"), ...objectsOf(spec, "containers")];
  for (const container of containers) defaultContainer(container, spec["hostNetwork"] === true);
  for (const volume of objectsOf(spec, "volumes")) defaultVolume(volume);
}

function defaultContainer(container: JsonObject, hostNetwork: boolean): void {
  set(container, "terminationMessagePath", "/dev/termination-log");
  set(container, "terminationMessagePolicy", "File");
  set(container, "resources", {});
  set(container, "imagePullPolicy", isLatest(textOf(container, "image") ?? "") ? "Always" : "IfNotPresent");
  for (const port of objectsOf(container, "ports")) {
    set(port, "protocol", "TCP");
    if (hostNetwork) set(port, "hostPort", port["containerPort"]);
  }
  for (const variable of objectsOf(container, "env")) {
    const { fieldRef } = child(variable, "valueFrom");
    if (isObject(fieldRef)) set(fieldRef, "apiVersion", "v1");
    const { resourceFieldRef } = child(variable, "valueFrom");
    if (isObject(resourceFieldRef)) set(resourceFieldRef, "divisor", "0");
  }
  for (const name of ["livenessProbe", "readinessProbe", "startupProbe"]) {
    if (isObject(container[name])) defaultProbe(container[name]);
  }
  for (const hook of ["postStart", "preStop"]) {
    const { httpGet } = child(child(container, "lifecycle"), hook);
    if (isObject(httpGet)) defaultHttpGet(httpGet);
  }
  const { limits } = child(container, "resources");
  if (isObject(limits)) {
    const requests = within(within(container, "resources"), "requests");
    for (const [resource, amount] of Object.entries(limits)) set(requests, resource, amount);
  }
}

/** An image without a tag, or with `:latest`, may change under its name. */
function isLatest(image: string): boolean {
  if (image.includes("@")) return false;
  const tag = /:([^/]+)$/u.exec(image)?.[1];
  return tag === undefined || tag === "latest";
}

function defaultProbe(probe: JsonObject): void {
  set(probe, "timeoutSeconds", 1);
  set(probe, "periodSeconds", 10);
  set(probe, "successThreshold", 1);
  set(probe, "failureThreshold", 3);
  if (isObject(probe["httpGet"])) defaultHttpGet(probe["httpGet"]);
  if (isObject(probe["grpc"])) set(probe["grpc"], "service", "");
}

function defaultHttpGet(action: JsonObject): void {
  set(action, "path", "/");
  set(action, "scheme", "HTTP");
}

/** `rw-r--r--`, as Kubernetes writes it: in decimal. */
const readableByAll = 0o644;

function defaultVolume(volume: JsonObject): void {
  const sources = Object.keys(volume).filter((field) => field !== "name");
  if (sources.length === 0) volume["emptyDir"] = {};
  for (const source of ["secret", "configMap", "downwardAPI", "projected"]) {
    if (isObject(volume[source])) set(volume[source], "defaultMode", readableByAll);
  }
  if (isObject(volume["hostPath"])) set(volume["hostPath"], "type", "");
  defaultDownward(child(volume, "downwardAPI"));
  for (const source of objectsOf(child(volume, "projected"), "sources")) {
    if (isObject(source["serviceAccountToken"])) set(source["serviceAccountToken"], "expirationSeconds", 3600);
    defaultDownward(child(source, "downwardAPI"));
  }
}

function defaultDownward(source: JsonObject): void {
  for (const item of objectsOf(source, "items")) {
    if (isObject(item["fieldRef"])) set(item["fieldRef"], "apiVersion", "v1");
  }
}
