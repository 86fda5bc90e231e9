import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

/** Who a proxy is, as it tells the control plane. */
export interface XdsNode {
  readonly id: string;
  readonly metadata: JsonObject;
}

export interface ProxyFacts {
  /** `INSTANCE_IP`; what is missing becomes an empty string, the address `1.1.1.1`. */
  readonly instanceIp?: string;
  readonly podName?: string;
  readonly podNamespace?: string;
  readonly nodeName?: string;
  /** `ISTIO_META_*` with the prefix cut off; these override what comes before. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** `ISTIO_METAJSON_*` with the prefix cut off: JSON texts. */
  readonly jsonMetadata?: Readonly<Record<string, string>>;
}

export interface ProxyNodeMessage {
  readonly node: XdsNode;
  /** Names of JSON variables that could not be read. */
  readonly unreadable: readonly string[];
}

/** The node message of a ztunnel, as Istio's own sends it. */
export const ztunnelNode = (facts: ProxyFacts): ProxyNodeMessage => proxyNode("ztunnel", facts);

/** The node message of a waypoint, as Istio's agent makes it for Envoy. */
export function waypointNode(
  facts: ProxyFacts & {
    readonly serviceAccount: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  },
): ProxyNodeMessage {
  const { serviceAccount, labels, annotations = {} } = facts;
  return proxyNode("waypoint", facts, {
    SERVICE_ACCOUNT: serviceAccount,
    LABELS: { ...labels },
    ANNOTATIONS: { ...annotations },
  });
}

function proxyNode(type: "ztunnel" | "waypoint", facts: ProxyFacts, own: JsonObject = {}): ProxyNodeMessage {
  const { instanceIp = "", podName = "", podNamespace = "", nodeName = "" } = facts;
  const ip = instanceIp === "" ? "1.1.1.1" : instanceIp;
  const unreadable: string[] = [];
  const parsed = Object.entries(facts.jsonMetadata ?? {}).flatMap(([name, text]): [string, JsonValue][] => {
    try {
      return [[name, JSON.parse(text) as JsonValue]];
    } catch {
      unreadable.push(name);
      return [];
    }
  });
  const metadata: JsonObject = {
    NAME: podName,
    NAMESPACE: podNamespace,
    INSTANCE_IPS: ip,
    NODE_NAME: nodeName,
    ...own,
    ...facts.metadata,
    ...Object.fromEntries(parsed),
  };
  return {
    node: { id: `${type}~${ip.split(",")[0]}~${podName}.${podNamespace}~${podNamespace}.svc.cluster.local`, metadata },
    unreadable,
  };
}
