/**
 * The kinds of Kubernetes itself that the mesh reads, as far as it reads them. An API server checks them whole; in a
 * folder of files this is the only check.
 */
import { z } from "zod";
import { anything, intOrString, port } from "./scalars.ts";

const address = z.string().min(1);

const containerPort = z.looseObject({
  containerPort: port,
  name: z.string().optional(),
  protocol: z.enum(["TCP", "UDP", "SCTP"]).optional(),
});
const container = z.looseObject({
  name: z.string().min(1),
  ports: z.array(containerPort).optional(),
  restartPolicy: z.string().optional(),
});
const conditions = z
  .array(z.looseObject({ type: z.string(), status: z.enum(["True", "False", "Unknown"]) }))
  .optional();

const pod = {
  spec: z.looseObject({
    nodeName: z.string().optional(),
    serviceAccountName: z.string().optional(),
    hostNetwork: z.boolean().optional(),
    containers: z.array(container).optional(),
    initContainers: z.array(container).optional(),
  }),
  status: z
    .looseObject({
      phase: z.enum(["Pending", "Running", "Succeeded", "Failed", "Unknown"]).optional(),
      podIP: z.string().optional(),
      podIPs: z.array(z.looseObject({ ip: address })).optional(),
      conditions,
    })
    .optional(),
};

const service = {
  spec: z.looseObject({
    type: z.enum(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]).optional(),
    clusterIP: z.string().optional(),
    clusterIPs: z.array(z.string()).optional(),
    ipFamilies: z.array(z.enum(["IPv4", "IPv6"])).optional(),
    selector: z.record(z.string(), z.string()).optional(),
    ports: z
      .array(
        z.looseObject({
          name: z.string().optional(),
          port,
          targetPort: intOrString.optional(),
          protocol: z.enum(["TCP", "UDP", "SCTP"]).optional(),
          appProtocol: z.string().optional(),
        }),
      )
      .optional(),
    internalTrafficPolicy: z.enum(["Cluster", "Local"]).optional(),
    trafficDistribution: z.string().optional(),
    publishNotReadyAddresses: z.boolean().optional(),
    externalName: z.string().optional(),
  }),
  status: anything.optional(),
};

const endpointSlice = {
  addressType: z.enum(["IPv4", "IPv6", "FQDN"]),
  endpoints: z
    .array(
      z.looseObject({
        addresses: z.array(address).min(1),
        conditions: z
          .looseObject({
            ready: z.boolean().optional(),
            serving: z.boolean().optional(),
            terminating: z.boolean().optional(),
          })
          .optional(),
        targetRef: z
          .looseObject({
            kind: z.string().optional(),
            namespace: z.string().optional(),
            name: z.string().optional(),
            uid: z.string().optional(),
          })
          .optional(),
      }),
    )
    .nullable()
    .optional(),
  ports: z
    .array(
      z.looseObject({
        name: z.string().optional(),
        port: port.optional(),
        protocol: z.enum(["TCP", "UDP", "SCTP"]).optional(),
      }),
    )
    .nullable()
    .optional(),
};

interface CoreKind {
  readonly group: string;
  readonly kind: string;
  readonly plural: string;
  readonly version: string;
  readonly isNamespaced: boolean;
  /** The fields beside apiVersion, kind and metadata. */
  readonly fields: Readonly<Record<string, z.core.$ZodType>>;
}

const status = { status: anything.optional() };

export const coreKinds: readonly CoreKind[] = [
  {
    group: "",
    kind: "Namespace",
    plural: "namespaces",
    version: "v1",
    isNamespaced: false,
    fields: { spec: anything.optional(), ...status },
  },
  {
    group: "",
    kind: "Node",
    plural: "nodes",
    version: "v1",
    isNamespaced: false,
    fields: { spec: anything.optional(), ...status },
  },
  { group: "", kind: "Pod", plural: "pods", version: "v1", isNamespaced: true, fields: pod },
  { group: "", kind: "Service", plural: "services", version: "v1", isNamespaced: true, fields: service },
  {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    version: "v1",
    isNamespaced: true,
    fields: endpointSlice,
  },
  {
    group: "",
    kind: "ConfigMap",
    plural: "configmaps",
    version: "v1",
    isNamespaced: true,
    fields: {
      data: z.record(z.string(), z.string()).optional(),
      binaryData: z.record(z.string(), z.string()).optional(),
      immutable: z.boolean().optional(),
    },
  },
  {
    group: "",
    kind: "Secret",
    plural: "secrets",
    version: "v1",
    isNamespaced: true,
    fields: {
      type: z.string().optional(),
      data: z.record(z.string(), z.base64()).nullable().optional(),
      stringData: z.record(z.string(), z.string()).optional(),
      immutable: z.boolean().optional(),
    },
  },
];

const byKey = new Map(coreKinds.map((definition) => [`${definition.group}/${definition.kind}`, definition]));

export const coreKind = (group: string, kind: string): CoreKind | undefined => byKey.get(`${group}/${kind}`);
