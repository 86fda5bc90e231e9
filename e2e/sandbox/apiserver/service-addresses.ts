import { invalid, invalidValue, required, type FieldError } from "./api-error.ts";
import type { KubeObject, WriteOptions } from "./object-store.ts";
import { child, listOf, objectsOf, textOf, type JsonObject } from "./schema.ts";
import type { IpFamily, ServiceAllocator } from "./service-allocator.ts";

/** What a service holds of the cluster's addresses and node ports. */
interface Holding {
  readonly addresses: readonly string[];
  readonly nodePorts: readonly number[];
}

function holdingOf(service: KubeObject | undefined): Holding {
  const spec = child(service, "spec");
  const addresses = listOf(spec, "clusterIPs").filter((address): address is string => typeof address === "string");
  const ports = objectsOf(spec, "ports").flatMap(({ nodePort }) =>
    typeof nodePort === "number" && nodePort > 0 ? [nodePort] : [],
  );
  return { addresses: addresses.filter((address) => address !== "None"), nodePorts: ports };
}

/** Takes addresses and node ports for a service that is created or changed; gives back what it no longer uses. */
export function allocateService(
  service: KubeObject,
  previous: KubeObject | undefined,
  allocator: ServiceAllocator,
  { dryRun = false }: WriteOptions,
): void {
  const spec = child(service, "spec");
  const taken: (() => void)[] = [];
  const errors: FieldError[] = [];
  const before = holdingOf(previous);
  allocateAddresses(spec, before, allocator, taken, errors);
  allocateNodePorts(spec, before, allocator, taken, errors);
  if (dryRun || errors.length > 0) for (const giveBack of taken) giveBack();
  if (errors.length > 0) throw invalid("", "Service", service.metadata.name, errors);
  if (!dryRun) release(difference(before, holdingOf(service)), allocator);
}

export function releaseService(service: KubeObject, allocator: ServiceAllocator): void {
  release(holdingOf(service), allocator);
}

function release({ addresses, nodePorts }: Holding, allocator: ServiceAllocator): void {
  for (const address of addresses) allocator.releaseAddress(address);
  for (const port of nodePorts) allocator.releaseNodePort(port);
}

function difference(before: Holding, after: Holding): Holding {
  return {
    addresses: before.addresses.filter((address) => !after.addresses.includes(address)),
    nodePorts: before.nodePorts.filter((port) => !after.nodePorts.includes(port)),
  };
}

/** A replace that leaves out what the server once chose keeps it. */
export function keepServiceAddresses(service: KubeObject, previous: KubeObject): void {
  const [spec, before] = [child(service, "spec"), child(previous, "spec")];
  if (before["clusterIP"] === undefined || before["type"] === "ExternalName" || spec["type"] === "ExternalName") return;
  if ((textOf(spec, "clusterIP") ?? "") === "") spec["clusterIP"] = before["clusterIP"];
  if (spec["clusterIP"] === before["clusterIP"]) {
    for (const field of ["clusterIPs", "ipFamilies", "ipFamilyPolicy"]) spec[field] ??= structuredClone(before[field]);
  }
  for (const port of objectsOf(spec, "ports")) {
    const old = objectsOf(before, "ports").find(
      (one) => one["port"] === port["port"] && one["protocol"] === port["protocol"],
    );
    if (old?.["nodePort"] !== undefined) port["nodePort"] ??= old["nodePort"];
  }
}

function allocateAddresses(
  spec: JsonObject,
  before: Holding,
  allocator: ServiceAllocator,
  taken: (() => void)[],
  errors: FieldError[],
): void {
  if (spec["type"] === "ExternalName") {
    for (const field of ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"])
      delete spec[field];
    return;
  }
  const wanted = listOf(spec, "clusterIPs").map(String);
  const first = textOf(spec, "clusterIP") ?? "";
  if (wanted.length === 0 && first !== "") wanted.push(first);
  const headless = wanted[0] === "None";
  const families = chooseFamilies(spec, headless ? [] : wanted, headless, allocator, errors);
  spec["ipFamilies"] = families;
  spec["ipFamilyPolicy"] ??= families.length > 1 ? "RequireDualStack" : "SingleStack";
  if (headless) {
    spec["clusterIP"] = "None";
    spec["clusterIPs"] = ["None"];
    return;
  }
  const addresses = families.flatMap((family, at) => {
    const asked = wanted[at];
    if (asked !== undefined && before.addresses.includes(asked)) return [asked];
    const address = allocator.allocateAddress(family, asked);
    if (address === undefined) {
      errors.push(
        invalidValue(
          "spec.clusterIPs",
          wanted,
          asked === undefined
            ? "no address of the range is free"
            : "provided IP is not in the valid range or is already allocated",
        ),
      );
      return [];
    }
    taken.push(() => allocator.releaseAddress(address));
    return [address];
  });
  if (addresses.length === 0) return;
  spec["clusterIP"] = addresses[0];
  spec["clusterIPs"] = addresses;
}

function chooseFamilies(
  spec: JsonObject,
  wanted: readonly string[],
  headless: boolean,
  allocator: ServiceAllocator,
  errors: FieldError[],
): readonly IpFamily[] {
  const asked = listOf(spec, "ipFamilies") as IpFamily[];
  const fromAddresses = wanted.map((address): IpFamily => (address.includes(":") ? "IPv6" : "IPv4"));
  const preferred = [...new Set([...asked, ...fromAddresses, ...allocator.families])];
  const selectorless = headless && Object.keys(child(spec, "selector")).length === 0;
  // Without a selector nobody can tell which families the endpoints will have: Kubernetes then assumes both.
  if (selectorless && spec["ipFamilyPolicy"] === undefined && asked.length === 0)
    return [...new Set<IpFamily>([...preferred, "IPv4", "IPv6"])];
  const unavailable = asked.find((family) => !allocator.families.includes(family) && !selectorless);
  if (unavailable !== undefined) {
    errors.push(invalidValue("spec.ipFamilies[0]", unavailable, "not configured on this cluster"));
    return [];
  }
  switch (spec["ipFamilyPolicy"]) {
    case "RequireDualStack":
      if (allocator.families.length < 2 && !selectorless) {
        errors.push(
          invalidValue(
            "spec.ipFamilyPolicy",
            "RequireDualStack",
            "this cluster is not configured for dual-stack services",
          ),
        );
      }
      return preferred;
    case "PreferDualStack":
      return preferred.filter((family) => allocator.families.includes(family));
    default: {
      const count = Math.max(1, asked.length, fromAddresses.length);
      return preferred.slice(0, count);
    }
  }
}

function allocateNodePorts(
  spec: JsonObject,
  before: Holding,
  allocator: ServiceAllocator,
  taken: (() => void)[],
  errors: FieldError[],
): void {
  const needsPorts =
    spec["type"] === "NodePort" || (spec["type"] === "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] !== false);
  for (const [at, port] of objectsOf(spec, "ports").entries()) {
    const asked = port["nodePort"];
    if (!needsPorts) {
      if (asked !== undefined && before.nodePorts.includes(asked as number)) delete port["nodePort"];
      continue;
    }
    const wanted = typeof asked === "number" && asked > 0 ? asked : undefined;
    if (wanted !== undefined && before.nodePorts.includes(wanted)) continue;
    const given = allocator.allocateNodePort(wanted);
    if (given === undefined) {
      const path = `spec.ports[${at}].nodePort`;
      errors.push(
        wanted === undefined
          ? required(path, "no node port is free")
          : invalidValue(path, wanted, "provided port is already allocated or not in the valid range"),
      );
      continue;
    }
    port["nodePort"] = given;
    taken.push(() => allocator.releaseNodePort(given));
  }
}
