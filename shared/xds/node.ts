import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

/** Who a proxy is, as it tells the control plane. */
export interface XdsNode {
  readonly id: string;
  readonly metadata: JsonObject;
}

export interface ZtunnelFacts {
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

/** The node message of a ztunnel, as Istio's own sends it, and the names of JSON variables that could not be read. */
export function ztunnelNode(facts: ZtunnelFacts): { readonly node: XdsNode; readonly unreadable: readonly string[] } {
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
    ...facts.metadata,
    ...Object.fromEntries(parsed),
  };
  return {
    node: { id: `ztunnel~${ip}~${podName}.${podNamespace}~${podNamespace}.svc.cluster.local`, metadata },
    unreadable,
  };
}
