/** What is made for a Gateway of a waypoint class: ServiceAccount, Deployment and Service, as Istio's template makes them. Pure. */
import type { Gateway, Labels, Meta } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import {
  gatewayNameLabel,
  gatewayServiceAccountAnnotation,
  managedLabel,
  nameOverrideAnnotation,
  networkLabel,
  serviceTypeAnnotation,
} from "#controlplane/translate/annotations.ts";
import { controllerOf, meshController, waypointManagedValue } from "#controlplane/translate/gateway-classes.ts";
import type { TranslateOptions } from "#controlplane/translate/options.ts";
import { isOwned } from "#controlplane/translate/revision.ts";

/** An object as it is applied. */
export interface AppliedObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly ownerReferences: readonly unknown[];
  };
  readonly [field: string]: unknown;
}

/** What one Gateway asks to be run for it. */
export interface WantedWaypoint {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly className: string;
  readonly objects: readonly AppliedObject[];
  /** ConfigMap in its namespace with changes to these objects (`spec.infrastructure.parametersRef`). */
  readonly parameters: string | undefined;
}

export interface WaypointSettings {
  /** Image of a waypoint's container. */
  readonly image: string;
  /** `host:port` of this control plane, for configuration and certificates. */
  readonly controlPlaneAddress: string;
}

const statusPort = 15_021;
const controllerVersionAnnotation = "gateway.istio.io/controller-version";
/** As Istio writes it: an older control plane then leaves the objects of a newer one alone. */
const controllerVersion = 5;

/** Not for what is made from a Gateway: they say how to make it, or who wrote it last. */
const notCopied: ReadonlySet<string> = new Set([
  "kubectl.kubernetes.io/last-applied-configuration",
  nameOverrideAnnotation,
  gatewayServiceAccountAnnotation,
  controllerVersionAnnotation,
]);

export function wantedWaypoints(
  world: WorldView,
  options: TranslateOptions,
  settings: WaypointSettings,
): readonly WantedWaypoint[] {
  const network = world.get("Namespace", "", options.systemNamespace)?.meta.labels.get(networkLabel);
  return world
    .all("Gateway")
    .filter((gateway) => isRun(world, gateway, options))
    .map((gateway) => waypointFor(world, gateway, network, options, settings));
}

/** Whether this control plane runs something for it: its class is ours, its revision too, and it names no other service. */
function isRun(world: WorldView, gateway: Gateway, options: TranslateOptions): boolean {
  const { meta, requestedAddresses } = gateway;
  if (meta.isDeleting || controllerOf(world, gateway) !== meshController) return false;
  if (!isOwned(world, meta, options)) return false;
  const version = Number(meta.annotations.get(controllerVersionAnnotation) ?? controllerVersion);
  if (!(version <= controllerVersion)) return false;
  const [first, ...more] = requestedAddresses;
  return first === undefined || (more.length === 0 && first.type === "IPAddress");
}

const without = (map: Labels, hidden: ReadonlySet<string>): Record<string, string> =>
  Object.fromEntries([...map].filter(([name]) => !hidden.has(name)));

function waypointFor(
  world: WorldView,
  gateway: Gateway,
  network: string | undefined,
  options: TranslateOptions,
  settings: WaypointSettings,
): WantedWaypoint {
  const { meta, className, infrastructure, parametersRef } = gateway;
  const name = meta.annotations.get(nameOverrideAnnotation) ?? meta.name;
  const serviceAccount = waypointServiceAccount(meta);
  // Where the user says what to put on them, that; otherwise what stands on the Gateway.
  const userLabels = without(infrastructure?.labels ?? meta.labels, notCopied);
  const userAnnotations = without(infrastructure?.annotations ?? meta.annotations, notCopied);
  const labels: Record<string, string> = {
    ...userLabels,
    [gatewayNameLabel]: meta.name,
    "gateway.networking.k8s.io/gateway-class-name": className,
    [managedLabel]: waypointManagedValue,
    ...(network === undefined || network === "" ? {} : { [networkLabel]: userLabels[networkLabel] ?? network }),
  };
  const metadata = (objectName: string): AppliedObject["metadata"] => ({
    name: objectName,
    namespace: meta.namespace,
    labels,
    ...(Object.keys(userAnnotations).length > 0 ? { annotations: userAnnotations } : {}),
    ownerReferences: [{ apiVersion: "gateway.networking.k8s.io/v1", kind: "Gateway", name: meta.name, uid: meta.uid }],
  });
  const objects: AppliedObject[] = [
    { apiVersion: "v1", kind: "ServiceAccount", metadata: metadata(serviceAccount) },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: metadata(name),
      // No replicas: users scale it, and so does an autoscaler.
      spec: {
        selector: { matchLabels: { [gatewayNameLabel]: meta.name } },
        template: {
          metadata: {
            labels: {
              ...labels,
              "sidecar.istio.io/inject": "false",
              "istio.io/dataplane-mode": "none",
              "service.istio.io/canonical-name": name,
              "service.istio.io/canonical-revision": "latest",
            },
            annotations: {
              "istio.io/rev": options.revision === "" ? "default" : options.revision,
              "prometheus.io/path": "/stats/prometheus",
              "prometheus.io/port": "15020",
              "prometheus.io/scrape": "true",
              ...userAnnotations,
            },
          },
          spec: podSpec(world, meta, { name, serviceAccount, network }, options, settings),
        },
      },
    },
    service(gateway, metadata(name)),
  ];
  const parameters = parametersRef?.kind === "ConfigMap" && parametersRef.group === "" ? parametersRef.name : undefined;
  return { namespace: meta.namespace, name: meta.name, uid: meta.uid, className, objects, parameters };
}

/** Whose identity a waypoint has. */
export const waypointServiceAccount = (meta: Meta): string =>
  meta.annotations.get(gatewayServiceAccountAnnotation) ?? meta.name;

const fieldEnv = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });

function podSpec(
  world: WorldView,
  meta: Meta,
  names: { readonly name: string; readonly serviceAccount: string; readonly network: string | undefined },
  options: TranslateOptions,
  { image, controlPlaneAddress }: WaypointSettings,
) {
  const { name, serviceAccount, network } = names;
  const { trustDomain, trustDomainAliases } = world.meshConfig;
  return {
    serviceAccountName: serviceAccount,
    terminationGracePeriodSeconds: 30,
    containers: [
      {
        name: "istio-proxy",
        image: meta.annotations.get("sidecar.istio.io/proxyImage") ?? image,
        args: [
          "proxy",
          "waypoint",
          "--domain",
          `${meta.namespace}.svc.${options.domain}`,
          "--serviceCluster",
          `${serviceAccount}.${meta.namespace}`,
          "--proxyLogLevel",
          meta.annotations.get("sidecar.istio.io/logLevel") ?? "info",
        ],
        ports: [
          { name: "metrics", containerPort: 15_020, protocol: "TCP" },
          { name: "status-port", containerPort: statusPort, protocol: "TCP" },
          { name: "http-envoy-prom", containerPort: 15_090, protocol: "TCP" },
        ],
        env: [
          { name: "XDS_ADDRESS", value: controlPlaneAddress },
          { name: "CA_ADDRESS", value: controlPlaneAddress },
          { name: "TRUST_DOMAIN", value: trustDomain },
          ...(trustDomainAliases.length === 0
            ? []
            : [{ name: "TRUST_DOMAIN_ALIASES", value: trustDomainAliases.join(",") }]),
          { name: "CLUSTER_DOMAIN", value: options.domain },
          { name: "ISTIO_META_CLUSTER_ID", value: options.clusterId },
          { name: "ISTIO_META_NETWORK", value: network ?? "" },
          { name: "ISTIO_META_WORKLOAD_NAME", value: name },
          {
            name: "ISTIO_META_OWNER",
            value: `kubernetes://apis/apps/v1/namespaces/${meta.namespace}/deployments/${name}`,
          },
          { name: "ISTIO_META_GATEWAY_NAME", value: meta.name },
          { name: "TERMINATION_GRACE_PERIOD_SECONDS", value: "30" },
          fieldEnv("POD_NAME", "metadata.name"),
          fieldEnv("POD_NAMESPACE", "metadata.namespace"),
          fieldEnv("NODE_NAME", "spec.nodeName"),
          fieldEnv("INSTANCE_IP", "status.podIP"),
          fieldEnv("HOST_IP", "status.hostIP"),
          fieldEnv("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        ],
        startupProbe: {
          httpGet: { path: "/healthz/ready", port: statusPort },
          initialDelaySeconds: 1,
          periodSeconds: 1,
          failureThreshold: 30,
        },
        readinessProbe: {
          httpGet: { path: "/healthz/ready", port: statusPort },
          periodSeconds: 15,
          failureThreshold: 4,
        },
        resources: { requests: { cpu: "100m", memory: "128Mi" }, limits: { cpu: "2", memory: "1Gi" } },
        securityContext: {
          runAsUser: 1337,
          runAsGroup: 1337,
          runAsNonRoot: true,
          privileged: false,
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
          // With it the pod may run in namespaces of the Pod Security Standard "restricted".
          seccompProfile: { type: "RuntimeDefault" },
        },
        volumeMounts: [
          { name: "istiod-ca-cert", mountPath: "/var/run/secrets/istio" },
          { name: "istio-token", mountPath: "/var/run/secrets/tokens" },
          { name: "istio-podinfo", mountPath: "/etc/istio/pod" },
          { name: "tmp", mountPath: "/tmp" },
        ],
      },
    ],
    volumes: [
      {
        name: "istio-token",
        projected: {
          sources: [{ serviceAccountToken: { path: "istio-token", audience: "istio-ca", expirationSeconds: 43_200 } }],
        },
      },
      { name: "istiod-ca-cert", configMap: { name: "istio-ca-root-cert" } },
      {
        name: "istio-podinfo",
        downwardAPI: {
          items: [
            { path: "labels", fieldRef: { fieldPath: "metadata.labels" } },
            { path: "annotations", fieldRef: { fieldPath: "metadata.annotations" } },
          ],
        },
      },
      { name: "tmp", emptyDir: {} },
    ],
  };
}

function service(gateway: Gateway, metadata: AppliedObject["metadata"]): AppliedObject {
  const ports = new Map<number, AppliedPort>();
  ports.set(statusPort, { name: "status-port", port: statusPort, appProtocol: "tcp" });
  for (const { name, port, protocol } of gateway.listeners) {
    if (ports.has(port)) continue;
    const taken = [...ports.values()].map((each) => each.name);
    ports.set(port, { name: portName(name, port, taken), port, appProtocol: protocol.toLowerCase() });
  }
  const type = gateway.meta.annotations.get(serviceTypeAnnotation) ?? "ClusterIP";
  const address = type === "LoadBalancer" ? gateway.requestedAddresses[0]?.value : undefined;
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      ...metadata,
      // A caller's own zone first: a waypoint is one more hop.
      annotations: { "networking.istio.io/traffic-distribution": "PreferClose", ...metadata.annotations },
    },
    spec: {
      type,
      ipFamilyPolicy: "PreferDualStack",
      selector: { [gatewayNameLabel]: gateway.meta.name },
      ports: [...ports.values()].map((port) => ({ ...port, protocol: "TCP" })),
      ...(address === undefined || address === "" ? {} : { loadBalancerIP: address }),
    },
  };
}

const longestPortName = 63;

/** A listener's name may be longer than that of a port, and hold dots; two may become one by that. */
function portName(listener: string, port: number, taken: readonly string[]): string {
  const name = listener.replaceAll(".", "-").slice(0, longestPortName);
  if (!taken.includes(name)) return name;
  const suffix = `-${port}`;
  return `${name.slice(0, longestPortName - suffix.length)}${suffix}`;
}

interface AppliedPort {
  readonly name: string;
  readonly port: number;
  readonly appProtocol: string;
}
