import { z } from "zod";
import { checkSelector } from "./attachment.ts";
import type { Field } from "./field.ts";
import { age, networkingKind, type KindDefinition } from "./kind.ts";
import { suggest } from "./nearest.ts";
import { checkExportTo, checkHost, checkUnique, dnsLabel, isIp, port } from "./scalars.ts";
import { tryCidr } from "#shared/net/cidr.ts";
import { checkWorkloadEntry, isUnixAddress, workloadEntrySpec } from "./workload-entry.ts";

const resolutions = ["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] as const;

const spec = z
  .strictObject({
    hosts: z
      .array(z.string().min(1))
      .min(1)
      .max(256)
      .describe("The names of the service, each a service of its own; *.example.com for all such names"),
    addresses: z
      .array(z.string().min(1).max(64))
      .max(256)
      .optional()
      .describe(
        "Virtual addresses, or ranges with NONE and STATIC; if not written they are given automatically, except with NONE, and stand in status.addresses",
      ),
    ports: z
      .array(
        z.strictObject({
          number: port.describe("Number by which it is called"),
          name: dnsLabel.describe("Name of the port; endpoints and targets may name it"),
          protocol: z
            .string()
            .max(256)
            .optional()
            .describe("HTTP, HTTPS, HTTP2, GRPC, TLS, TCP …; detected if not written"),
          targetPort: z
            .int()
            .min(0)
            .max(65_535)
            .optional()
            .describe("The port of the endpoints; its number if not written"),
        }),
      )
      .max(256)
      .optional()
      .describe("The ports of the service"),
    location: z
      .enum(["MESH_EXTERNAL", "MESH_INTERNAL"])
      .optional()
      .describe(
        "MESH_INTERNAL: its workloads have identities of the mesh. MESH_EXTERNAL (if not written): they have none",
      ),
    resolution: z
      .enum(resolutions)
      .optional()
      .describe(
        "How endpoints are found: NONE (if not written) where the client dials, STATIC by their addresses, DNS and DNS_ROUND_ROBIN by resolving names, to all addresses or one at a time, DYNAMIC_DNS by the name that each request asks for",
      ),
    endpoints: z
      .array(workloadEntrySpec)
      .max(4096)
      .optional()
      .describe("The workloads behind it; with DNS the hosts themselves if not written. Excludes workloadSelector"),
    workloadSelector: z
      .strictObject({
        labels: z
          .record(z.string(), z.string().max(63))
          .optional()
          .describe("Labels that they must have, all of them; none: every one"),
      })
      .optional()
      .describe("Pods and WorkloadEntries of this namespace that serve it"),
    exportTo: z
      .array(z.string())
      .optional()
      .describe('Namespaces that see it: ".", "*", "~" or names; in an ambient mesh all do'),
    subjectAltNames: z
      .array(z.string())
      .optional()
      .describe("Names that its certificates may carry, where a DestinationRule originates TLS and names none"),
  })
  .describe("Its names and ports, and where it is found");

const protocols = ["HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "MYSQL", "REDIS", "TCP", "TLS", "UDP"];
const httpOrTls = new Set(["HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "TLS"]);

type Resolution = (typeof resolutions)[number];

function checkHosts(hosts: readonly Field[], resolution: Resolution): void {
  for (const host of hosts) {
    if (host.text === "*") host.error('"*" is every host', "name the service, or a suffix such as *.example.com");
    else checkHost(host);
    const isWildcard = host.text?.startsWith("*") ?? false;
    if (isWildcard && host.text !== "*" && !host.text?.startsWith("*.")) {
      host.warn(`${host.quoted} is a partial wildcard`, 'write a whole label: "*.example.com"');
    }
    if (resolution === "DYNAMIC_DNS" && host.text !== undefined && !isWildcard) {
      host.error(`DYNAMIC_DNS hosts must be wildcards: ${host.quoted} is not`, "use resolution DNS for a single name");
    }
  }
  checkUnique(hosts, (host) => host);
}

function checkAddresses(addresses: Field, resolution: Resolution): void {
  if (resolution === "DYNAMIC_DNS" && addresses.items().length > 0) {
    addresses.error("DYNAMIC_DNS takes no addresses", "leave them out");
  }
  for (const address of addresses.items()) {
    const text = address.text ?? "";
    if (text === "") continue;
    if (tryCidr(text) === undefined) {
      address.error(`${address.quoted} is not an IP address or range`, "write it as 10.0.0.7 or 10.0.0.0/8");
    } else if (text.includes("/") && resolution !== "NONE" && resolution !== "STATIC") {
      address.error(
        `${address.quoted} is a range, which resolution ${resolution} does not take`,
        "write single addresses",
      );
    }
  }
}

const protocolOf = (portField: Field): string => (portField.at("protocol").text ?? "").toUpperCase();

function checkPorts(spec: Field, resolution: Resolution): void {
  const ports = spec.at("ports").items();
  checkUnique(ports, (each) => each.at("number"));
  checkUnique(ports, (each) => each.at("name"));
  for (const each of ports) {
    const protocol = protocolOf(each);
    if (protocol !== "" && !protocols.includes(protocol)) {
      each
        .at("protocol")
        .error(`unknown protocol ${each.at("protocol").quoted}`, suggest(protocol, protocols, "write one of"));
    }
    if (resolution === "DYNAMIC_DNS" && !["", "HTTP", "HTTP2", "GRPC", "TLS"].includes(protocol)) {
      each.at("protocol").error(`DYNAMIC_DNS cannot serve ${protocol}`, "write HTTP, HTTP2, GRPC or TLS");
    }
    const isOpaque = protocol !== "" && !httpOrTls.has(protocol);
    if (isOpaque && resolution !== "NONE" && spec.at("hosts").items().length > 1) {
      each.error(`several hosts cannot share the ${protocol} port`, "write one ServiceEntry for each host");
    }
  }
}

/** Callers of a TCP port are told apart by the address that they dial, and there is none where nobody gives one. */
function checkReach(spec: Field, object: Field, resolution: Resolution): void {
  const label = object.at("metadata").at("labels").at("networking.istio.io/enable-autoallocate-ip").text;
  const isGiven = resolution !== "NONE" && label?.toLowerCase() !== "false";
  if (isGiven || spec.at("addresses").items().length > 0) return;
  for (const each of spec.at("ports").items()) {
    const protocol = protocolOf(each);
    if (protocol !== "" && protocol !== "TCP") continue;
    const why = resolution === "NONE" ? "resolution NONE gives none" : "a label switches automatic ones off";
    each.warn(
      `${protocol === "" ? "a port without protocol" : "a TCP port"} needs an address, and ${why}`,
      "write addresses, or the protocol if it is HTTP or TLS",
    );
  }
}

function checkEndpoints(spec: Field, resolution: Resolution): void {
  const endpoints = spec.at("endpoints").items();
  if (endpoints.length > 0 && spec.has("workloadSelector")) {
    spec.at("endpoints").error("excludes workloadSelector, which is written too", "keep one of them");
  }
  if (resolution === "NONE" && endpoints.length > 0) {
    spec.at("endpoints").error("resolution NONE takes no endpoints", "leave them out, or use resolution STATIC");
  }
  if (resolution === "NONE" && spec.has("workloadSelector")) {
    spec.at("workloadSelector").warn("has no effect with resolution NONE", "use resolution STATIC");
  }
  if (resolution === "DYNAMIC_DNS" && endpoints.length > 0) {
    spec.at("endpoints").error("resolution DYNAMIC_DNS takes no endpoints", "leave them out");
  }
  if (resolution === "DNS_ROUND_ROBIN" && endpoints.length > 1) {
    spec
      .at("endpoints")
      .error(`resolution DNS_ROUND_ROBIN takes one endpoint, found ${endpoints.length}`, "use resolution DNS");
  }
  if (resolution.startsWith("DNS") && endpoints.length === 0 && !spec.has("workloadSelector")) {
    for (const host of spec.at("hosts").items()) {
      if (host.text?.startsWith("*"))
        host.error(`${host.quoted} cannot be resolved`, "write endpoints, or a whole name");
    }
  }
  const names = new Set(
    spec
      .at("ports")
      .items()
      .map((each) => each.at("name").text),
  );
  for (const endpoint of endpoints) checkEndpoint(endpoint, { resolution, names, portCount: names.size });
}

function checkEndpoint(
  endpoint: Field,
  { resolution, names, portCount }: { resolution: Resolution; names: ReadonlySet<unknown>; portCount: number },
): void {
  checkWorkloadEntry(endpoint);
  const address = endpoint.at("address");
  const text = address.text ?? "";
  if (resolution === "STATIC" && text !== "" && !isIp(text) && !isUnixAddress(text)) {
    address.error(`${address.quoted} is not an IP address`, "write one, or use resolution DNS");
  }
  if (isUnixAddress(text) && resolution !== "STATIC") {
    address.error("a unix socket needs resolution STATIC", "write resolution: STATIC");
  } else if (isUnixAddress(text) && portCount !== 1) {
    address.error(`a unix socket serves exactly one port, the entry has ${portCount}`, "write one port");
  }
  for (const [name, value] of endpoint.at("ports").entries()) {
    if (!names.has(name)) value.error(`"${name}" is no port of this entry`, `ports are ${[...names].join(", ")}`);
  }
}

function check(spec: Field, object: Field): void {
  const written = spec.at("resolution").text;
  const resolution = resolutions.find((each) => each === written) ?? "NONE";
  checkHosts(spec.at("hosts").items(), resolution);
  checkAddresses(spec.at("addresses"), resolution);
  checkPorts(spec, resolution);
  checkReach(spec, object, resolution);
  checkEndpoints(spec, resolution);
  checkSelector(spec.at("workloadSelector"), "labels");
  const namespace = object.at("metadata").at("namespace").text ?? "";
  checkExportTo(spec.at("exportTo"), namespace, { nobodyAllowed: true });
}

export const serviceEntry: KindDefinition = {
  ...networkingKind,
  kind: "ServiceEntry",
  plural: "serviceentries",
  shortNames: ["se"],
  description: "A service that Kubernetes does not know: outside the cluster, or of workloads outside it.",
  columns: [
    { name: "Hosts", type: "string", jsonPath: ".spec.hosts", description: "The names of the service" },
    { name: "Location", type: "string", jsonPath: ".spec.location", description: "Within the mesh or outside" },
    { name: "Resolution", type: "string", jsonPath: ".spec.resolution", description: "How endpoints are found" },
    age,
  ],
  spec,
  isSpecRequired: true,
  check,
};
