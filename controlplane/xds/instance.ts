import { parseDurationMs } from "#shared/config/env-reader.ts";
import type { ProxyNode } from "#shared/xds/node-id.ts";
import type { Instance } from "#controlplane/translate/envoy/view.ts";

/** A client as it introduced itself. */
export function instanceOf({ namespace, podName, nodeName = "", ips, metadata, program }: ProxyNode): Instance {
  const suffix = `.${namespace}`;
  const idle = metadata["IDLE_TIMEOUT"];
  return {
    namespace,
    name: podName.endsWith(suffix) ? podName.slice(0, -suffix.length) : podName,
    node: nodeName,
    ips,
    acceptsHttp10: metadata["HTTP10"] === "1" || metadata["HTTP10"] === "true",
    isEnvoy: program === "envoy",
    idleTimeoutMs: typeof idle === "string" ? parseDurationMs(idle) : undefined,
  };
}
