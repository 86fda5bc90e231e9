import { forbidden } from "./api-error.ts";
import { randomSuffix, type KubeObject, type ObjectStore } from "./object-store.ts";
import { ids } from "./resources.ts";
import { child, objectsOf, textOf, type JsonObject } from "./schema.ts";

export const accountMountPath = "/var/run/secrets/kubernetes.io/serviceaccount";

/** Seconds: an hour and a bit, as Kubernetes asks for; kubelets renew it at 80 % of its life. */
const accountTokenSeconds = 3607;

/** What Kubernetes' admission plug-ins add to a new pod: service account, token volume, tolerations, first status. */
export function admitPod(pod: KubeObject, store: Pick<ObjectStore, "get">): void {
  const spec = child(pod, "spec");
  const { name, namespace } = pod.metadata;
  const accountName = textOf(spec, "serviceAccountName") ?? "default";
  spec["serviceAccountName"] = accountName;
  spec["serviceAccount"] = accountName;
  const account = store.get(ids.serviceAccounts, namespace, accountName);
  if (account === undefined) {
    const place = `${namespace ?? ""}/${accountName}`;
    throw forbidden(
      ids.pods,
      name,
      `error looking up service account ${place}: serviceaccount "${accountName}" not found`,
    );
  }
  spec["imagePullSecrets"] ??= structuredClone(account["imagePullSecrets"]);
  if (spec["imagePullSecrets"] === undefined) delete spec["imagePullSecrets"];
  if ((spec["automountServiceAccountToken"] ?? account["automountServiceAccountToken"] ?? true) === true)
    mountToken(spec);
  addTolerations(spec);
  spec["priority"] ??= 0;
  spec["preemptionPolicy"] ??= "PreemptLowerPriority";
  spec["enableServiceLinks"] ??= true;
  pod["status"] = { phase: "Pending", qosClass: qosClassOf(spec) };
}

function mountToken(spec: JsonObject): void {
  const containers = [...objectsOf(spec, "initContainers"), ...objectsOf(spec, "containers")];
  const bare = containers.filter((container) =>
    objectsOf(container, "volumeMounts").every((mount) => mount["mountPath"] !== accountMountPath),
  );
  if (bare.length === 0) return;
  const name = `kube-api-access-${randomSuffix()}`;
  for (const container of bare) {
    container["volumeMounts"] = [
      ...objectsOf(container, "volumeMounts"),
      { name, readOnly: true, mountPath: accountMountPath },
    ];
  }
  const namespaceFile = { path: "namespace", fieldRef: { apiVersion: "v1", fieldPath: "metadata.namespace" } };
  spec["volumes"] = [
    ...objectsOf(spec, "volumes"),
    {
      name,
      projected: {
        sources: [
          { serviceAccountToken: { expirationSeconds: accountTokenSeconds, path: "token" } },
          { configMap: { name: "kube-root-ca.crt", items: [{ key: "ca.crt", path: "ca.crt" }] } },
          { downwardAPI: { items: [namespaceFile] } },
        ],
        defaultMode: 0o644,
      },
    },
  ];
}

function addTolerations(spec: JsonObject): void {
  const tolerations = objectsOf(spec, "tolerations");
  const added = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
    .filter((key) => !tolerations.some((one) => tolerates(one, key)))
    .map((key) => ({ key, operator: "Exists", effect: "NoExecute", tolerationSeconds: 300 }));
  spec["tolerations"] = [...tolerations, ...added];
}

function tolerates(toleration: JsonObject, key: string): boolean {
  const effect = textOf(toleration, "effect") ?? "";
  if (effect !== "" && effect !== "NoExecute") return false;
  return toleration["key"] === key || ((textOf(toleration, "key") ?? "") === "" && toleration["operator"] === "Exists");
}

/** Guaranteed when every container limits cpu and memory to what it requests, best effort when none asks for any. */
function qosClassOf(spec: JsonObject): "Guaranteed" | "Burstable" | "BestEffort" {
  const containers = [...objectsOf(spec, "initContainers"), ...objectsOf(spec, "containers")].map((one) =>
    child(one, "resources"),
  );
  const asks = (resources: JsonObject) =>
    [child(resources, "requests"), child(resources, "limits")].some(
      (amounts) => "cpu" in amounts || "memory" in amounts,
    );
  if (!containers.some(asks)) return "BestEffort";
  const isGuaranteed = containers.every((resources) =>
    ["cpu", "memory"].every((name) => {
      const limit = child(resources, "limits")[name];
      return limit !== undefined && (child(resources, "requests")[name] ?? limit) === limit;
    }),
  );
  return isGuaranteed ? "Guaranteed" : "Burstable";
}
