import { z } from "zod";
import { checkSelector, workloadSelector } from "./attachment.ts";
import type { Field } from "./field.ts";
import { age, securityKind, type KindDefinition } from "./kind.ts";

const mtls = z.strictObject({
  mode: z
    .enum(["UNSET", "DISABLE", "PERMISSIVE", "STRICT"])
    .optional()
    .describe(
      "STRICT refuses plain text, PERMISSIVE takes it too, as DISABLE does: tunnels are never refused. UNSET (if not written) goes by the namespace, then the mesh, then PERMISSIVE",
    ),
});

const spec = z
  .strictObject({
    selector: workloadSelector
      .optional()
      .describe(
        "The pods of this namespace that it applies to; all if not written, in the root namespace of all namespaces",
      ),
    mtls: mtls.optional().describe("The mode of all ports"),
    portLevelMtls: z
      .record(z.string(), mtls)
      .meta({ description: "Modes of single ports of the pod, by number; needs a selector", minProperties: 1 })
      .optional(),
  })
  .meta({
    description: "Which pods, and whether they take plain text",
    "x-kubernetes-validations": [
      {
        rule: "!has(self.portLevelMtls) || (has(self.selector) && has(self.selector.matchLabels) && size(self.selector.matchLabels) > 0)",
        message: "portLevelMtls requires selector.matchLabels",
      },
    ],
  });

function check(spec: Field): void {
  checkSelector(spec.at("selector"));
  const ports = spec.at("portLevelMtls");
  if (!ports.isSet) return;
  const labels = spec.at("selector").at("matchLabels");
  if (!labels.isSet || labels.isEmpty) {
    ports.error("needs selector.matchLabels", "name the pods whose ports these are");
  }
  if (ports.isEmpty) ports.error("must not be empty", "write a port, or leave the field out");
  for (const [port, entry] of ports.entries()) {
    if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535) {
      entry.error(`"${port}" is not a port`, "write a number from 1 to 65535");
    }
  }
}

export const peerAuthentication: KindDefinition = {
  ...securityKind,
  kind: "PeerAuthentication",
  plural: "peerauthentications",
  shortNames: ["pa"],
  description: "Whether pods accept plain text besides mutual TLS.",
  columns: [{ name: "Mode", type: "string", jsonPath: ".spec.mtls.mode", description: "The mTLS mode" }, age],
  spec,
  check,
};
