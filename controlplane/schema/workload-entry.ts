import { z } from "zod";
import type { Field } from "./field.ts";
import { age, networkingKind, type KindDefinition } from "./kind.ts";
import { checkHost, checkLabels, isIp, port } from "./scalars.ts";

/** The fields of a WorkloadEntry, which are those of a ServiceEntry's endpoint too. */
export const workloadEntrySpec = z
  .strictObject({
    address: z
      .string()
      .max(256)
      .optional()
      .describe(
        "IP address, DNS name (ServiceEntry with DNS) or unix:///path; without one it is reached through its network's gateway",
      ),
    ports: z.record(z.string(), port).optional().describe("Port names of the service, and the numbers they have here"),
    labels: z
      .record(z.string(), z.string().max(63))
      .optional()
      .describe("By which services, subsets and policies select it"),
    network: z
      .string()
      .max(2048)
      .optional()
      .describe("The network that the address belongs to; that of the mesh if not written"),
    locality: z.string().max(2048).optional().describe("Where it is: region/zone/subzone, for balancing by place"),
    weight: z.int().min(0).max(4_294_967_295).optional().describe("Share of the traffic; 1 if not written"),
    serviceAccount: z.string().max(253).optional().describe("Whose identity the workload has, in its namespace"),
  })
  .describe("Where the workload is, what its ports are, and who it is");

const portNameForm = /^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$/;

export function isUnixAddress(address: string): boolean {
  return address.startsWith("unix://");
}

/** Rules of an endpoint, wherever it stands. */
export function checkWorkloadEntry(entry: Field): void {
  const address = entry.at("address");
  const ports = entry.at("ports");
  const text = address.text ?? "";
  if (text === "") {
    if ((entry.at("network").text ?? "") !== "") {
      entry.warn("has no address: it is reached through the gateway of its network", "make sure that there is one");
    } else entry.error("has neither address nor network", "write the address of the workload");
  } else if (isUnixAddress(text)) {
    const path = text.slice("unix://".length);
    if (!(path.startsWith("/") || path.startsWith("@")) || path.length < 2 || path.endsWith("/")) {
      address.error(`${address.quoted} is not a socket path`, "write it as unix:///run/app.sock or unix://@name");
    }
    if (ports.isSet && !ports.isEmpty) ports.error("a unix socket has no ports", "leave ports out");
  } else if (!isIp(text)) checkHost(address, { wildcardAllowed: false });
  if (ports.keys().length > 128) ports.error(`has ${ports.keys().length} entries`, "write at most 128");
  for (const [name, value] of ports.entries()) {
    if (!portNameForm.test(name) || name.length >= 63) {
      value.error(`"${name}" is not a port name`, 'use letters, digits and "-", fewer than 63');
    }
  }
  checkLabels(entry.at("labels"), 256);
}

export const workloadEntry: KindDefinition = {
  ...networkingKind,
  kind: "WorkloadEntry",
  plural: "workloadentries",
  shortNames: ["we"],
  description: "A workload outside Kubernetes, such as a virtual machine.",
  columns: [age, { name: "Address", type: "string", jsonPath: ".spec.address", description: "Its network address" }],
  spec: workloadEntrySpec,
  isSpecRequired: true,
  check: checkWorkloadEntry,
};
