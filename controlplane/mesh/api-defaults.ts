/**
 * What an API server would have added to objects that users write, for sources without one: defaults, uids, creation
 * times, and addresses of Services. Pure: the same objects in the same order give the same result.
 */
import { createHash } from "node:crypto";
import { isIP } from "node:net";
import { ipFromBytes } from "#shared/net/ip.ts";
import type { KubeObject } from "./objects.ts";
import { kindOf, kinds } from "./read-objects.ts";

type Plain = Readonly<Record<string, unknown>>;

const isPlain = (value: unknown): value is Plain =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const plain = (value: unknown): Plain => (isPlain(value) ? value : {});
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const texts = (value: unknown): readonly string[] => list(value).filter((item) => typeof item === "string");

export interface WrittenObject {
  readonly object: KubeObject;
  /** Created at least a second after what stands before it. */
  readonly isLater?: boolean;
}

/** When the first object without a time was created; the others follow a millisecond apart, in their order. */
const epochMs = Date.UTC(2026, 0, 1);

export function withApiDefaults(written: readonly WrittenObject[]): readonly KubeObject[] {
  const addresses = new ClusterIps(written.map(({ object }) => object));
  let createdMs = epochMs;
  return written.map(({ object, isLater = false }) => {
    createdMs = isLater ? (Math.floor(createdMs / 1000) + 1) * 1000 : createdMs + 1;
    const kind = kindOf(object);
    if (kind === undefined) return object;
    const named = { ...object, metadata: defaultMeta(object, kinds[kind].isNamespaced, createdMs) };
    return withFieldDefaults(named, addresses);
  });
}

/**
 * The defaults beside names and age.
 *
 * @param before the version before, whose addresses a Service keeps
 */
export function withFieldDefaults<T extends KubeObject>(object: T, addresses: ClusterIps, before?: KubeObject): T {
  const spec = object["spec"];
  if (spec !== undefined && !isPlain(spec)) return object;
  const kind = kindOf(object);
  if (kind === "Namespace") return withNameLabel(object);
  if (kind === "Pod") return { ...object, spec: { serviceAccountName: "default", ...spec } };
  return kind === "Service" ? defaultService(object, addresses, writtenIps(plain(before?.["spec"]))) : object;
}

/** By it selectors find a namespace. */
function withNameLabel<T extends KubeObject>(object: T): T {
  const meta = plain(object.metadata);
  const labels = meta["labels"] ?? undefined;
  if (labels !== undefined && !isPlain(labels)) return object;
  return { ...object, metadata: { ...meta, labels: { ...labels, "kubernetes.io/metadata.name": meta["name"] } } };
}

function defaultMeta(object: KubeObject, isNamespaced: boolean, createdMs: number): Plain {
  const meta = plain(object.metadata);
  const name = meta["name"];
  const namespace = isNamespaced ? (meta["namespace"] ?? "default") : undefined;
  return {
    creationTimestamp: new Date(createdMs).toISOString(),
    generation: 1,
    uid: standInUid([object.kind, namespace, name].map((part) => JSON.stringify(part) ?? "").join("/")),
    ...meta,
    ...(namespace === undefined ? {} : { namespace }),
  };
}

function standInUid(key: string): string {
  const hex = createHash("sha256").update(key).digest("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

function defaultService<T extends KubeObject>(object: T, addresses: ClusterIps, kept: readonly string[]): T {
  const spec = plain(object["spec"]);
  const ports = Array.isArray(spec["ports"])
    ? { ports: spec["ports"].map((port: unknown) => (isPlain(port) ? defaultPort(port) : port)) }
    : {};
  if (spec["type"] === "ExternalName") return { ...object, spec: { ...spec, ...ports } };
  const meta = plain(object.metadata);
  return {
    ...object,
    spec: {
      type: "ClusterIP",
      internalTrafficPolicy: "Cluster",
      ...spec,
      ...ports,
      ...addressing(spec, addresses, { key: `${String(meta["namespace"])}/${String(meta["name"])}`, kept }),
    },
  };
}

const defaultPort = (port: Plain): Plain => ({ protocol: "TCP", targetPort: port["port"], ...port });

interface Claim {
  readonly key: string;
  /** Addresses that the Service has already. */
  readonly kept: readonly string[];
}

function addressing(spec: Plain, addresses: ClusterIps, claim: Claim): Plain {
  const given = writtenIps(spec);
  const policy = spec["ipFamilyPolicy"];
  const isDual = policy === "PreferDualStack" || policy === "RequireDualStack";
  if (given.includes("None")) {
    const hasSelector = Object.keys(plain(spec["selector"])).length > 0;
    // Without a selector nobody knows the families of the endpoints, so Kubernetes promises both.
    const both = isDual || (policy === undefined && !hasSelector);
    return { clusterIPs: ["None"], ipFamilies: spec["ipFamilies"] ?? (both ? ["IPv4", "IPv6"] : ["IPv4"]) };
  }
  const wanted = texts(spec["ipFamilies"]);
  const [first = given[0] === undefined ? "IPv4" : familyOf(given[0])] = wanted;
  const second = wanted[1] ?? (isDual ? (first === "IPv4" ? "IPv6" : "IPv4") : undefined);
  const ipFamilies = second === undefined ? [first] : [first, second];
  const clusterIPs = ipFamilies.map((family, index) => given[index] ?? addresses.take(family, claim));
  return {
    clusterIP: clusterIPs[0],
    clusterIPs: given.length > clusterIPs.length ? given : clusterIPs,
    ipFamilies: given.length > clusterIPs.length ? given.map(familyOf) : ipFamilies,
  };
}

function writtenIps(spec: Plain): readonly string[] {
  const several = texts(spec["clusterIPs"]);
  if (several.length > 0) return several;
  return typeof spec["clusterIP"] === "string" && spec["clusterIP"] !== "" ? [spec["clusterIP"]] : [];
}

const familyOf = (ip: string): string => (isIP(ip) === 6 ? "IPv6" : "IPv4");

/** Addresses for Services that name none: 10.96.0.0/12 and fd00:10:96::/112, by a hash of the name. */
export class ClusterIps {
  private readonly used: Set<string>;

  /** @param objects what exists; only its Services matter */
  constructor(objects: Iterable<KubeObject>) {
    this.used = new Set(
      [...objects].filter(({ kind }) => kind === "Service").flatMap((object) => writtenIps(plain(object["spec"]))),
    );
  }

  take(family: string, { key, kept }: Claim): string {
    const own = kept.find((ip) => isIP(ip) !== 0 && familyOf(ip) === family);
    if (own !== undefined) return own;
    for (let attempt = 0; ; attempt++) {
      const digest = createHash("sha256").update(`${key}#${attempt}`).digest();
      const bytes =
        family === "IPv6"
          ? [0xfd, 0, 0, 0x10, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, digest[0] ?? 0, digest[1] ?? 0]
          : [10, 96 + ((digest[0] ?? 0) & 0x0f), digest[1] ?? 0, digest[2] ?? 0];
      const ip = ipFromBytes(Uint8Array.from(bytes));
      // After so many collisions the range is as good as full, and an address twice is better than none.
      if (ip === undefined || (this.used.has(ip) && attempt < 1000)) continue;
      this.used.add(ip);
      return ip;
    }
  }
}
