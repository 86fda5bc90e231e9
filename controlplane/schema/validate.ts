/**
 * Whether an object may take force. All mistakes are found at once: structure by the schema of its kind, meaning by the
 * kind's own rules, whatever the structure.
 */
import { z } from "zod";
import { coreKind, coreKinds } from "./core-kinds.ts";
import { Field } from "./field.ts";
import { configKind, configKinds } from "./kinds.ts";
import { nearest, suggest } from "./nearest.ts";
import { quote, type Problem } from "./problem.ts";
import { anything, checkLabels } from "./scalars.ts";
import { checkStructure } from "./structure.ts";

const metadata = z.looseObject({
  name: z.string().min(1).max(253),
  namespace: z.string().max(63).optional(),
  labels: z.record(z.string(), z.string()).nullable().optional(),
  annotations: z.record(z.string(), z.string()).nullable().optional(),
});

const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** Kinds of Istio and of Gateway API that have no meaning in an ambient mesh, or not yet. */
const ignoredKinds: Readonly<Record<string, string>> = {
  "networking.istio.io/Sidecar": "there are no sidecars here",
  "networking.istio.io/ProxyConfig": "there are no sidecars here",
  "networking.istio.io/Gateway": "write a Gateway of gateway.networking.k8s.io",
  "networking.istio.io/WorkloadGroup": "write WorkloadEntries",
  "extensions.istio.io/WasmPlugin": "it is not supported yet",
  "extensions.istio.io/TrafficExtension": "it is not supported yet",
  "gateway.networking.k8s.io/ListenerSet": "waypoints take no listeners besides their own",
  "gateway.networking.k8s.io/UDPRoute": "the mesh carries TCP",
  "gateway.networking.x-k8s.io/XBackend": "it is not supported yet: write a ServiceEntry",
  "gateway.networking.x-k8s.io/XMesh": "the mesh is configured by the ConfigMap istio",
  "gateway.networking.x-k8s.io/XListenerSet": "waypoints take no listeners besides their own",
};

/** Of the groups whose kinds are all known, those that the mesh does not read. What is neither is a mistake. */
const foreignKinds: Readonly<Record<string, readonly string[]>> = {
  "": [
    "Binding",
    "ComponentStatus",
    "Endpoints",
    "Event",
    "LimitRange",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Secret",
    "ServiceAccount",
    "Config", // a kubeconfig
  ],
  "discovery.k8s.io": [],
};

/** `unread` objects mean nothing to the mesh: Deployments, say. */
export type Checked =
  | { readonly kind: "read"; readonly problems: readonly Problem[] }
  | { readonly kind: "unread"; readonly problems: readonly Problem[] };

const problem = (severity: Problem["severity"], path: Problem["path"], message: string, remedy: string): Problem => ({
  severity,
  path,
  message,
  remedy,
});

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * How much to check: `form` stops at what a schema can say. An API server goes so far by itself; the meaning it leaves
 * to admission.
 */
export type Depth = "form" | "meaning";

export function checkObject(object: unknown, depth: Depth = "meaning"): Checked {
  if (!isRecord(object)) {
    return {
      kind: "read",
      problems: [
        problem("error", [], `expected an object, found ${quote(object)}`, "write apiVersion, kind, metadata"),
      ],
    };
  }
  const { apiVersion, kind } = object;
  if (kind === "MeshConfig" && (apiVersion === undefined || apiVersion === "")) return checkMeshConfig(object);
  const problems: Problem[] = [];
  for (const name of ["apiVersion", "kind"]) {
    if (typeof object[name] === "string" && object[name] !== "") continue;
    problems.push(
      problem("error", [name], "is missing", name === "kind" ? "write it: kind: Service" : "write it: apiVersion: v1"),
    );
  }
  if (typeof apiVersion !== "string" || typeof kind !== "string" || problems.length > 0)
    return { kind: "read", problems };
  const slash = apiVersion.indexOf("/");
  return checkKind(object, {
    group: apiVersion.slice(0, Math.max(slash, 0)),
    version: apiVersion.slice(slash + 1),
    kind,
    depth,
  });
}

const meshConfig = z.strictObject({
  apiVersion: z.string().optional(),
  kind: z.string(),
  metadata: anything.optional(),
  mesh: anything.nullable(),
});

const checkMeshConfig = (object: Readonly<Record<string, unknown>>): Checked => ({
  kind: "read",
  problems: checkStructure(meshConfig, object, []),
});

interface Names {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
}

function checkKind(
  object: Readonly<Record<string, unknown>>,
  { group, version, kind, depth }: Names & { readonly depth: Depth },
): Checked {
  const definition = configKind(group, kind);
  const core = coreKind(group, kind);
  if (definition === undefined && core === undefined) return checkUnknownKind({ group, version, kind });
  const versions = definition?.versions ?? [core?.version ?? version];
  const problems: Problem[] = [];
  if (!versions.includes(version)) {
    const choices = versions.map((each) => (group === "" ? each : `${group}/${each}`));
    problems.push(
      problem("error", ["apiVersion"], `${kind} has no version "${version}"`, `write one of ${choices.join(", ")}`),
    );
  }
  const isNamespaced = definition?.isNamespaced ?? core?.isNamespaced ?? true;
  problems.push(...checkMetadata(object, isNamespaced));
  problems.push(...checkStructure(schemaOf(group, kind), object, []));
  if (definition !== undefined && depth === "meaning") {
    const root = new Field(object, [], problems);
    definition.check(root.at("spec"), root);
    if (kind !== "AuthorizationPolicy") checkNoDryRun(root);
  }
  return { kind: "read", problems: distinct(problems) };
}

function checkNoDryRun(object: Field): void {
  const dryRun = object.at("metadata").at("annotations").at("istio.io/dry-run");
  if (dryRun.isSet) {
    dryRun.error("only an AuthorizationPolicy has a dry run: the object would be in force", "leave the annotation out");
  }
}

const schemas = new Map<string, z.core.$ZodType>();

/** Of whole objects of a kind that is known. Built once: zod compiles a schema when it is first used. */
function schemaOf(group: string, kind: string): z.core.$ZodType {
  const key = `${group}/${kind}`;
  const known = schemas.get(key);
  if (known !== undefined) return known;
  const definition = configKind(group, kind);
  const fields = coreKind(group, kind)?.fields ?? {
    spec: definition?.isSpecRequired ? definition.spec : z.optional(z.nullable(definition?.spec ?? anything)),
    status: anything.nullable().optional(),
  };
  const schema = z.strictObject({ apiVersion: z.string(), kind: z.string(), metadata: z.unknown(), ...fields });
  schemas.set(key, schema);
  return schema;
}

function checkMetadata(object: Readonly<Record<string, unknown>>, isNamespaced: boolean): readonly Problem[] {
  const problems: Problem[] = [...checkStructure(metadata, object["metadata"], ["metadata"])];
  const meta = new Field(object, [], problems).at("metadata");
  const name = meta.at("name");
  const namespace = meta.at("namespace");
  if (name.text !== undefined && name.text !== "" && !subdomain.test(name.text)) {
    name.error(`${name.quoted} is not a name`, 'use lower-case letters, digits, "-" and "."');
  }
  if (
    isNamespaced &&
    namespace.text !== undefined &&
    namespace.text !== "" &&
    !/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(namespace.text)
  ) {
    namespace.error(`${namespace.quoted} is not a namespace`, 'use lower-case letters, digits and "-"');
  }
  if (!isNamespaced && (namespace.text ?? "") !== "") {
    namespace.error("the kind belongs to no namespace", "leave it out");
  }
  checkLabels(meta.at("labels"));
  return problems;
}

/** A mistyped kind of a group that the mesh reads must not pass for a foreign one. */
function checkUnknownKind({ group, kind }: Names): Checked {
  const ignored = ignoredKinds[`${group}/${kind}`];
  if (ignored !== undefined) {
    return { kind: "unread", problems: [problem("warning", ["kind"], `${kind} has no effect in this mesh`, ignored)] };
  }
  const own = configKinds.filter((definition) => definition.group === group).map((definition) => definition.kind);
  if (own.length > 0) {
    const remedy = suggest(kind, own, "kinds are");
    return { kind: "read", problems: [problem("error", ["kind"], `${group} has no kind "${kind}"`, remedy)] };
  }
  const elsewhere = configKinds.find((definition) => definition.kind === kind);
  const meant = elsewhere && `did you mean ${elsewhere.group}/${elsewhere.versions[0] ?? ""}?`;
  if (elsewhere !== undefined && meant !== undefined && nearest(group, [elsewhere.group]) !== undefined) {
    return { kind: "read", problems: [problem("error", ["apiVersion"], `"${group}" has no kind "${kind}"`, meant)] };
  }
  const foreign = foreignKinds[group];
  if (foreign !== undefined && !foreign.includes(kind) && !kind.endsWith("List")) {
    const known = coreKinds.filter((core) => core.group === group).map((core) => core.kind);
    const remedy = meant ?? suggest(kind, known, "kinds that the mesh reads are");
    return { kind: "read", problems: [problem("error", ["kind"], `there is no kind "${kind}"`, remedy)] };
  }
  return { kind: "unread", problems: [] };
}

/** A rule and the schema may find the same mistake; the first report stands. */
function distinct(problems: readonly Problem[]): readonly Problem[] {
  const seen = new Set<string>();
  return problems.filter(({ path, severity, message }) => {
    const place = JSON.stringify(path);
    const key = /empty|missing|\(null\)/.test(message) ? `${place} absent` : `${place} ${severity} ${message}`;
    return !seen.has(key) && seen.add(key);
  });
}
