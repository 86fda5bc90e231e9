import type { JsonObject } from "@bufbuild/protobuf";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { tryIp } from "#shared/net/ip.ts";

export const proxyTypes = ["sidecar", "router", "waypoint", "ztunnel", "agentgateway"] as const;
export type ProxyType = (typeof proxyTypes)[number];

/** A client of xDS as it introduced itself; nothing here is proven yet. */
export interface ProxyNode {
  readonly id: string;
  readonly type: ProxyType;
  readonly ips: readonly string[];
  /** `pod.namespace`. */
  readonly podName: string;
  /** Whose configuration it asks for. */
  readonly namespace: string;
  readonly serviceAccount?: string;
  readonly nodeName?: string;
  readonly metadata: JsonObject;
  /** The program, as `user_agent_name` says. */
  readonly program?: string;
}

/** Pod name and namespace have at most 253 and 63 characters, and the namespace stands in it twice. */
const longestId = 1_024;
/** Kept for as long as the client is connected. Labels and annotations of a pod have 256 KiB at most. */
const longestMetadata = 512 * 1_024;

/**
 * Reads `type~ip~pod.namespace~domain` and the metadata beside it.
 *
 * @throws MeshError RESOURCE_MALFORMED naming the part that is wrong
 */
export function parseProxyNode(id: string, metadata: JsonObject = {}, program = ""): ProxyNode {
  const refuse = (why: string) =>
    new MeshError("RESOURCE_MALFORMED", `Cannot use node id ${JSON.stringify(id.slice(0, 200))}: ${why}`);
  if (id === "") throw refuse("it is empty");
  if (id.length > longestId) throw refuse(`it is longer than ${longestId} characters`);
  const parts = id.split("~");
  const [typeText = "", ip = "", podName = "", domain = ""] = parts;
  if (parts.length !== 4) throw refuse(`it has ${parts.length} parts instead of type~ip~name.namespace~domain`);
  const type = proxyTypes.find((known) => known === typeText);
  if (type === undefined) throw refuse(`the type is none of ${proxyTypes.join(", ")}`);
  const ips = ipsOf(metadata, ip);
  const malformed = ips.find((text) => tryIp(text) === undefined);
  if (ips.length === 0 || malformed !== undefined)
    throw refuse(`"${(malformed ?? ip).slice(0, 200)}" is no IP address`);
  if (JSON.stringify(metadata).length > longestMetadata)
    throw refuse(`its metadata is longer than ${longestMetadata} characters`);
  const nodeName = textOf(metadata, "NODE_NAME");
  const serviceAccount = textOf(metadata, "SERVICE_ACCOUNT");
  return {
    id,
    type,
    ips,
    podName,
    namespace: textOf(metadata, "NAMESPACE") ?? domain.split(".")[0] ?? "",
    ...(nodeName === undefined ? {} : { nodeName }),
    ...(serviceAccount === undefined ? {} : { serviceAccount }),
    metadata,
    ...(program === "" ? {} : { program }),
  };
}

/** A comma list in metadata goes before the id's own part. */
function ipsOf(metadata: JsonObject, ip: string): readonly string[] {
  const listed = textOf(metadata, "INSTANCE_IPS");
  const texts = listed === undefined ? [ip] : listed.split(",").map((text) => text.trim());
  return texts.filter((text) => text !== "");
}

function textOf(metadata: JsonObject, name: string): string | undefined {
  const value = metadata[name];
  return typeof value === "string" && value !== "" ? value : undefined;
}
