import { ApiError, conflict, notFound } from "./api-error.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { decodeBody, readFieldValidation, type FieldValidation } from "./content.ts";
import { applyJsonPatch, applyMergePatch } from "./json-patch.ts";
import { type DeleteOptions, type KubeObject, type MemoryObjectStore, type Propagation } from "./object-store.ts";
import { present, readCount, readFlag, storageOf, toStored } from "./read-objects.ts";
import type { ResourceInfo, ResourceVersion } from "./resources.ts";
import { fromScale, toScale } from "./scale.ts";
import { child, isObject, numberOf, objectsOf, textOf, type JsonObject } from "./schema.ts";
import { applyConfiguration, trackUpdate, type Manager } from "./server-side-apply.ts";
import { applyStrategicPatch } from "./strategic-merge-patch.ts";
import { versionOf } from "./strategies.ts";
import { unreadableRules } from "./validation-rules.ts";

/** One write as the request describes it. */
export interface WriteRequest {
  readonly info: ResourceInfo;
  readonly version: ResourceVersion;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
  readonly query: URLSearchParams;
  readonly userAgent: string;
}

export interface WriteResult {
  readonly code: 200 | 201;
  readonly object: KubeObject;
  readonly warnings: readonly string[];
}

export interface WriteDependencies {
  readonly store: MemoryObjectStore;
  readonly clock: Clock;
}

export const patchTypes = {
  "application/json-patch+json": "json",
  "application/merge-patch+json": "merge",
  "application/strategic-merge-patch+json": "strategic",
  "application/apply-patch+yaml": "apply",
  "application/apply-patch+json": "apply",
} as const;
export type PatchType = (typeof patchTypes)[keyof typeof patchTypes];

interface Options {
  readonly dryRun: boolean;
  readonly validation: FieldValidation;
  readonly manager: string | undefined;
}

function readOptions({ query, userAgent }: WriteRequest): Options & { manager: string } {
  const dryRun = query.getAll("dryRun").filter((value) => value !== "");
  if (dryRun.some((value) => value !== "All")) {
    throw new ApiError(
      "BadRequest",
      `dryRun: Unsupported value: ${JSON.stringify(dryRun[0])}: supported values: "All"`,
    );
  }
  const manager = query.get("fieldManager") ?? "";
  return {
    dryRun: dryRun.length > 0,
    validation: readFieldValidation(query.get("fieldValidation")),
    manager: manager === "" ? (userAgent.split("/")[0] ?? "unknown").slice(0, 128) : manager,
  };
}

function managerOf(request: WriteRequest, name: string, operation: Manager["operation"], clock: Clock): Manager {
  const { info, version, subresource } = request;
  return {
    name,
    operation,
    apiVersion: info.group === "" ? version.name : `${info.group}/${version.name}`,
    ...(subresource === undefined ? {} : { subresource }),
    time: `${new Date(clock.now()).toISOString().slice(0, 19)}Z`,
  };
}

/** Places the object where the request points, or says why the two disagree. */
function placed(object: JsonObject, { namespace, name, info }: WriteRequest): JsonObject {
  const metadata = child(object, "metadata");
  const ownNamespace = textOf(metadata, "namespace") ?? "";
  const ownName = textOf(metadata, "name") ?? "";
  if (info.namespaced && ownNamespace !== "" && ownNamespace !== namespace) {
    throw new ApiError(
      "BadRequest",
      `the namespace of the provided object does not match the namespace sent on the request`,
    );
  }
  if (name !== undefined && ownName !== "" && ownName !== name) {
    throw new ApiError(
      "BadRequest",
      `the name of the object (${ownName}) does not match the name on the URL (${name})`,
    );
  }
  const { namespace: _ignored, ...rest } = metadata;
  return {
    ...object,
    metadata: {
      ...rest,
      ...(name === undefined ? {} : { name }),
      ...(info.namespaced && namespace !== undefined ? { namespace } : {}),
    },
  };
}

export function createObject(request: WriteRequest, body: unknown, { store, clock }: WriteDependencies): WriteResult {
  const { info, version } = request;
  const { dryRun, validation, manager } = readOptions(request);
  const { object, warnings } = decodeBody(body, info, version, validation);
  const positioned = toStored(placed(object, request) as unknown as KubeObject, info);
  if (
    textOf(positioned.metadata as unknown as JsonObject, "resourceVersion") !== undefined &&
    positioned.metadata.resourceVersion !== ""
  ) {
    throw new ApiError("BadRequest", "resourceVersion should not be set on objects to be created");
  }
  positioned.metadata.managedFields = trackUpdate(
    undefined,
    positioned,
    version.schema,
    managerOf(request, manager, "Update", clock),
  );
  const created = store.create(storageOf(info), positioned, { dryRun });
  return { code: 201, object: present(created, info, version), warnings: [...warnings, ...ruleWarnings(created)] };
}

/** Most warnings that one answer carries. */
const maxWarnings = 20;

/** Rules of a new CRD that will not be enforced here: never in silence. */
function ruleWarnings(object: KubeObject): readonly string[] {
  if (object.kind !== "CustomResourceDefinition") return [];
  return objectsOf(child(object, "spec"), "versions")
    .flatMap((version) => unreadableRules(child(child(version, "schema"), "openAPIV3Schema")))
    .slice(0, maxWarnings)
    .map(
      (rule) => `this server does not enforce the validation rule of ${rule.replaceAll(/\s+/gu, " ").slice(0, 200)}`,
    );
}

function currentOf({ info, namespace, name }: WriteRequest, store: MemoryObjectStore): KubeObject {
  const found =
    name === undefined ? undefined : store.get(storageOf(info), info.namespaced ? namespace : undefined, name);
  if (found === undefined) throw notFound(info, name ?? "");
  return found;
}

export function replaceObject(request: WriteRequest, body: unknown, dependencies: WriteDependencies): WriteResult {
  const current = currentOf(request, dependencies.store);
  const { validation } = readOptions(request);
  if (request.subresource === "scale") return writeScale(request, current, body, dependencies);
  const { object, warnings } = decodeBody(body, request.info, request.version, validation);
  const next = toStored(placed(object, request) as unknown as KubeObject, request.info);
  // A replace need not carry the field owners.
  next.metadata.managedFields ??= structuredClone(current.metadata.managedFields ?? []);
  return { code: 200, object: store(request, current, next, dependencies), warnings };
}

/** Notes the field owners and writes; answers the object as the request's version shows it. */
function store(
  request: WriteRequest,
  current: KubeObject,
  next: KubeObject,
  { store, clock }: WriteDependencies,
): KubeObject {
  const { info, version, subresource } = request;
  const { dryRun, manager } = readOptions(request);
  const ownsSet =
    JSON.stringify(next.metadata.managedFields ?? []) !== JSON.stringify(current.metadata.managedFields ?? []);
  const scope = subresource === "status" ? { ...current, metadata: next.metadata, status: next["status"] } : next;
  if (ownsSet)
    next.metadata.managedFields = (next.metadata.managedFields ?? []).filter(
      (entry) => isObject(entry) && isObject(entry["fieldsV1"]),
    );
  else
    next.metadata.managedFields = trackUpdate(
      present(current, info, version),
      scope,
      version.schema,
      managerOf(request, manager, "Update", clock),
    );
  const options = { dryRun, ...(subresource === "status" ? { subresource } : {}) };
  return present(store.update(storageOf(info), next, options), info, version);
}

function writeScale(
  request: WriteRequest,
  current: KubeObject,
  body: unknown,
  dependencies: WriteDependencies,
): WriteResult {
  const paths = request.version.scale;
  if (paths === undefined || !isObject(body)) throw notFound(request.info, request.name ?? "");
  const next = fromScale(current, body, paths);
  const { subresource: _scale, ...whole } = request;
  const written = store({ ...whole, subresource: undefined }, current, next, dependencies);
  return { code: 200, object: toScale(written, paths), warnings: [] };
}

export function patchObject(
  request: WriteRequest,
  type: PatchType,
  patch: unknown,
  dependencies: WriteDependencies,
): WriteResult {
  if (type === "apply") return applyObject(request, patch, dependencies);
  const { info, version, subresource } = request;
  if (type === "strategic" && !info.builtIn) {
    throw new ApiError(
      "UnsupportedMediaType",
      "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
    );
  }
  const current = currentOf(request, dependencies.store);
  const { validation } = readOptions(request);
  if (subresource === "scale") {
    const scale = version.scale === undefined ? undefined : toScale(current, version.scale);
    return writeScale(request, current, applyPatch(scale, patch, type, {}), dependencies);
  }
  const shown = present(current, info, version);
  const patched = applyPatch(shown, patch, type, version);
  if (!isObject(patched)) throw new ApiError("BadRequest", "the patch does not leave an object");
  checkIdentity(patched, shown, request);
  const { object, warnings } = decodeBody(patched, info, version, validation, patch);
  const next = toStored(placed(object, request) as unknown as KubeObject, info);
  const asked = isObject(patch) ? textOf(child(patch, "metadata"), "resourceVersion") : next.metadata.resourceVersion;
  if (asked !== undefined && asked !== current.metadata.resourceVersion) {
    throw conflict(
      info,
      current.metadata.name,
      "the object has been modified; please apply your changes to the latest version and try again",
    );
  }
  return { code: 200, object: store(request, current, next, dependencies), warnings };
}

function applyPatch(
  target: unknown,
  patch: unknown,
  type: Exclude<PatchType, "apply">,
  { schema = {} }: Partial<ResourceVersion>,
): unknown {
  switch (type) {
    case "json":
      return applyJsonPatch(target, patch);
    case "merge":
      if (!isObject(patch)) throw new ApiError("BadRequest", "a merge patch is an object");
      return applyMergePatch(target, patch);
    case "strategic":
      return applyStrategicPatch(target, patch, schema);
  }
}

function checkIdentity(patched: JsonObject, current: KubeObject, { info }: WriteRequest): void {
  const { name, uid } = child(patched, "metadata");
  if (name !== current.metadata.name)
    throw new ApiError("BadRequest", `metadata.name of a ${info.kind} may not be changed`);
  if (uid !== undefined && uid !== "" && uid !== current.metadata.uid) {
    throw conflict(
      info,
      current.metadata.name,
      `Precondition failed: UID in precondition: ${JSON.stringify(uid)}, UID in object meta: ${current.metadata.uid}`,
    );
  }
}

function applyObject(request: WriteRequest, patch: unknown, dependencies: WriteDependencies): WriteResult {
  const { info, version, query, name } = request;
  const { dryRun, validation } = readOptions(request);
  const managerName = query.get("fieldManager") ?? "";
  if (managerName === "") {
    throw new ApiError(
      "Invalid",
      'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
      {
        causes: [
          {
            reason: "FieldValueRequired",
            message: "Required value: is required for apply patch",
            field: "fieldManager",
          },
        ],
      },
    );
  }
  const { object: config, warnings } = decodeBody(patch, info, version, validation, patch);
  const wanted = placed(config, request);
  if (isObject(wanted["metadata"]) && wanted["metadata"]["managedFields"] !== undefined) {
    throw new ApiError("BadRequest", "metadata.managedFields must be nil");
  }
  const manager = managerOf(request, managerName, "Apply", dependencies.clock);
  const current = dependencies.store.get(storageOf(info), info.namespaced ? request.namespace : undefined, name ?? "");
  if (current === undefined && request.subresource !== undefined) throw notFound(info, name ?? "");
  if (current === undefined && textOf(child(wanted, "metadata"), "uid") !== undefined) {
    throw conflict(
      info,
      name ?? "",
      "uid mismatch: the provided object specified uid, and no existing object was found",
    );
  }
  const live = current === undefined ? undefined : present(current, info, version);
  const force = readFlag(query, "force");
  const applied = applyConfiguration(live, wanted, version.schema, manager, force);
  const next = toStored(applied.object as unknown as KubeObject, info);
  next.metadata = { ...next.metadata, managedFields: [...applied.managedFields] };
  if (current === undefined) {
    const created = dependencies.store.create(storageOf(info), next, { dryRun });
    return { code: 201, object: present(created, info, version), warnings };
  }
  const given = textOf(child(wanted, "metadata"), "resourceVersion");
  next.metadata.resourceVersion = given ?? current.metadata.resourceVersion;
  const options = { dryRun, ...(request.subresource === "status" ? { subresource: "status" } : {}) };
  return {
    code: 200,
    object: present(dependencies.store.update(storageOf(info), next, options), info, version),
    warnings,
  };
}

/** The options of a delete, from its body or its query. */
export function readDeleteOptions(body: unknown, query: URLSearchParams): DeleteOptions {
  const options = isObject(body) ? body : {};
  const grace = numberOf(options, "gracePeriodSeconds") ?? readCount(query, "gracePeriodSeconds");
  const orphans = options["orphanDependents"] === true || readFlag(query, "orphanDependents");
  const propagation =
    textOf(options, "propagationPolicy") ?? query.get("propagationPolicy") ?? (orphans ? "Orphan" : undefined);
  if (propagation !== undefined && !["Background", "Foreground", "Orphan"].includes(propagation)) {
    throw new ApiError(
      "Invalid",
      `DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: ${JSON.stringify(propagation)}: supported values: "Background", "Foreground", "Orphan"`,
    );
  }
  const preconditions = child(options, "preconditions");
  const dryRun = Array.isArray(options["dryRun"])
    ? options["dryRun"].includes("All")
    : query.getAll("dryRun").includes("All");
  const uid = textOf(preconditions, "uid");
  const resourceVersion = textOf(preconditions, "resourceVersion");
  return {
    dryRun,
    ...(grace === undefined ? {} : { gracePeriodSeconds: grace }),
    ...(propagation === undefined ? {} : { propagation: propagation as Propagation }),
    preconditions: {
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    },
  };
}

/** Deletes; the answer is the object while something still holds it, and a `Status` once it is gone. */
export function deleteObject(
  request: WriteRequest,
  body: unknown,
  { store }: Pick<WriteDependencies, "store">,
): JsonObject {
  const { info, namespace } = request;
  const current = currentOf(request, store);
  const options = readDeleteOptions(body, request.query);
  const left = store.delete(storageOf(info), info.namespaced ? namespace : undefined, current.metadata.name, options);
  const version = versionOf(current, info) ?? request.version;
  const isGone = store.findByUid(current.metadata.uid) === undefined || options.dryRun === true;
  if (!isGone) return present(left, info, version);
  const { name, uid } = current.metadata;
  const details = { name, ...(info.group === "" ? {} : { group: info.group }), kind: info.resource, uid };
  return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", details };
}
