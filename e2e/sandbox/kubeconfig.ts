import { chmodSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { stringify } from "yaml";
import type { KubeAccess } from "./kube-client.ts";

/** Writes a kubeconfig that only its owner may read, in one step. */
export function writeKubeconfig(path: string, name: string, { server, caPem, token }: KubeAccess): void {
  const context = `sandbox-${name}`;
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      { name: context, cluster: { server, "certificate-authority-data": Buffer.from(caPem).toString("base64") } },
    ],
    users: [{ name: context, user: { token } }],
    contexts: [{ name: context, context: { cluster: context, user: context } }],
    "current-context": context,
  };
  mkdirSync(dirname(path), { recursive: true });
  const draft = `${path}.new`;
  writeFileSync(draft, stringify(config), { mode: 0o600 });
  chmodSync(draft, 0o600);
  renameSync(draft, path);
}
