/** Worlds for tests, written in few words. */
import type { JsonValue } from "@bufbuild/protobuf";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { defaultOptions, type TranslateOptions } from "./options.ts";
import { servedForm, type ServedForm } from "./served-form.ts";
import type { StatusUpdate } from "./status.ts";
import { translate, type Translation } from "./translate.ts";

type Json = Readonly<Record<string, unknown>>;

interface Naming {
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

/** `object("v1", "Pod", "shop/cart", { spec })`; the namespace is left out for cluster-scoped kinds. */
export function object(apiVersion: string, kind: string, path: string, body: Json = {}, meta: Naming = {}): KubeObject {
  const slash = path.indexOf("/");
  const names = slash < 0 ? { name: path } : { namespace: path.slice(0, slash), name: path.slice(slash + 1) };
  return { apiVersion, kind, metadata: { ...names, ...meta }, ...body };
}

export const namespace = (name: string, meta: Naming = {}): KubeObject => object("v1", "Namespace", name, {}, meta);

let lastIp = 0;
/** A captured pod that is ready. `labels` are `{ app: <name> }` unless given. */
export function pod(
  path: string,
  { spec = {}, status = {}, ...meta }: Naming & { spec?: Json; status?: Json } = {},
): KubeObject {
  lastIp = (lastIp + 1) % 65_536;
  return object(
    "v1",
    "Pod",
    path,
    {
      spec: { containers: [], ...spec },
      status: {
        phase: "Running",
        podIP: `10.244.${lastIp >> 8}.${lastIp & 255}`,
        conditions: [{ type: "Ready", status: "True" }],
        ...status,
      },
    },
    { labels: { app: path.split("/")[1] ?? "" }, annotations: { "ambient.istio.io/redirection": "enabled" }, ...meta },
  );
}

export const service = (path: string, spec: Json, meta: Naming = {}): KubeObject =>
  object(
    "v1",
    "Service",
    path,
    { spec: { clusterIP: "10.96.0.1", ports: [{ name: "http", port: 80 }], ...spec } },
    meta,
  );

export const serviceEntry = (path: string, spec: Json, meta: Naming = {}): KubeObject =>
  object(
    "networking.istio.io/v1",
    "ServiceEntry",
    path,
    { spec: { hosts: ["a.example.com"], addresses: ["240.1.0.1"], resolution: "STATIC", ...spec } },
    meta,
  );

export const workloadEntry = (path: string, spec: Json, meta: Naming = {}): KubeObject =>
  object("networking.istio.io/v1", "WorkloadEntry", path, { spec: { address: "192.0.2.1", ...spec } }, meta);

export const slice = (path: string, of: string, body: Json, meta: Naming = {}): KubeObject =>
  object(
    "discovery.k8s.io/v1",
    "EndpointSlice",
    path,
    { addressType: "IPv4", endpoints: [], ports: [{ name: "http", port: 8080 }], ...body },
    { labels: { "kubernetes.io/service-name": of }, ...meta },
  );

export const policy = (path: string, spec: Json, meta: Naming = {}): KubeObject =>
  object("security.istio.io/v1", "AuthorizationPolicy", path, { spec }, meta);

export const peerAuthentication = (path: string, spec: Json, meta: Naming = {}): KubeObject =>
  object("security.istio.io/v1", "PeerAuthentication", path, { spec }, meta);

const hbone = { name: "mesh", port: 15_008, protocol: "HBONE" };

/** A waypoint of somebody else's class, with its address as its controller wrote it. */
export function waypoint(
  path: string,
  { spec = {}, status = {}, ...meta }: Naming & { spec?: Json; status?: Json } = {},
): KubeObject {
  return object(
    "gateway.networking.k8s.io/v1",
    "Gateway",
    path,
    {
      spec: { gatewayClassName: "theirs", listeners: [hbone], ...spec },
      status: { addresses: [{ type: "Hostname", value: `${path.replace("/", "-")}.example.com` }], ...status },
    },
    meta,
  );
}

export const meshConfig = (mesh: Json): KubeObject => ({ kind: "MeshConfig", mesh });

export function serve(objects: readonly KubeObject[], options: Partial<TranslateOptions> = {}): Served {
  const world = new World();
  for (const each of withApiDefaults(objects.map((written) => ({ object: written })))) world.upsert(each);
  return new Served(translate(world, { ...defaultOptions, ...options }), world);
}

/** What is served, looked up by name. Fields that are zero are absent, as in protobuf's JSON. */
export class Served {
  readonly form: ServedForm;
  readonly updates: readonly StatusUpdate[];
  readonly world: World;

  constructor(translation: Translation, world: World) {
    this.form = servedForm(translation);
    this.updates = translation.statuses;
    this.world = world;
  }

  get names(): readonly string[] {
    return this.form.addresses.map(({ name }) => name);
  }

  workload(name: string): Json {
    return this.address(name)["workload"] as Json;
  }

  pod(path: string): Json {
    return this.workload(`Kubernetes//Pod/${path}`);
  }

  service(name: string): Json {
    return this.address(name)["service"] as Json;
  }

  authorization(name: string): Json | undefined {
    return this.form.authorizations.find((each) => each.name === name)?.resource as Json | undefined;
  }

  get authorizationNames(): readonly string[] {
    return this.form.authorizations.map(({ name }) => name);
  }

  /** `type=status/reason` of each condition. */
  conditions(kind: string, path: string): readonly string[] {
    const found = this.form.status.find((each) => each.kind === kind && `${each.namespace}/${each.name}` === path);
    return (found?.status.conditions ?? []).map(({ type, status, reason }) => `${type}=${status}/${reason}`);
  }

  private address(name: string): Json {
    const found = this.form.addresses.find((each) => each.name === name);
    if (found === undefined) throw new TypeError(`"${name}" is not served: ${this.names.join(", ")}`);
    return found.resource as Exclude<JsonValue, null> as Json;
  }
}
