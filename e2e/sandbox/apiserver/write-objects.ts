import type { AdmissionWebhooks } from "./admission-webhooks.ts";
import { ApiError, conflict, invalid, invalidValue, notFound } from "./api-error.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { decodeBody, readFieldValidation, type FieldValidation } from "./content.ts";
import { decodeObject } from "./decode-object.ts";
import { applyJsonPatch, applyMergePatch } from "./json-patch.ts";
import {
  withoutEmpty,
  type DeleteOptions,
  type KubeObject,
  type MemoryObjectStore,
  type NewObject,
  type Propagation,
} from "./object-store.ts";
import { present, readCount, readFlag, storageOf, toStored } from "./read-objects.ts";
import type { ResourceInfo, ResourceVersion } from "./resources.ts";
import { fromScale, toScale } from "./scale.ts";
import { child, isObject, numberOf, objectsOf, textOf, type JsonObject } from "./schema.ts";
import type { User } from "./service-account-tokens.ts";
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
  readonly user: User;
}

export interface WriteResult {
  readonly code: 200 | 201;
  readonly object: KubeObject;
  readonly warnings: readonly string[];
}

export interface WriteDependencies {
  readonly store: MemoryObjectStore;
  readonly clock: Clock;
  readonly webhooks: AdmissionWebhooks;
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
    manager: manager === "" ? (userAgent.split("/")[0] || "unknown").slice(0, 128) : manager,
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

export async function createObject(
  request: WriteRequest,
  body: unknown,
  dependencies: WriteDependencies,
): Promise<WriteResult> {
  const { info, version } = request;
  const { validation, manager } = readOptions(request);
  const { object, warnings } = decodeBody(body, info, version, validation);
  const positioned = toStored(placed(object, request) as unknown as KubeObject, info);
  if (
    textOf(positioned.metadata as unknown as JsonObject, "resourceVersion") !== undefined &&
    positioned.metadata.resourceVersion !== ""
  ) {
    throw new ApiError("BadRequest", "resourceVersion should not be set on objects to be created");
  }
  positioned.metadata = withoutEmpty(positioned.metadata);
  positioned.metadata.managedFields = trackUpdate(
    undefined,
    positioned,
    version.schema,
    managerOf(request, manager, "Update", dependencies.clock),
  );
  const created = await storeNew(request, positioned, dependencies);
  return {
    code: 201,
    object: present(created.object, info, version),
    warnings: [...warnings, ...created.warnings, ...ruleWarnings(created.object), ...hookWarnings(created.object)],
  };
}

/** What is stored, and what webhooks said of it. */
interface Stored {
  readonly object: KubeObject;
  readonly warnings: readonly string[];
}

/** Webhooks see the object as it will be stored, and what they have seen is stored. */
async function storeNew(
  request: WriteRequest,
  object: NewObject,
  { store, webhooks }: WriteDependencies,
): Promise<Stored> {
  const { info, version, namespace, subresource, user } = request;
  const { dryRun, manager } = readOptions(request);
  const id = storageOf(info);
  const kind = { operation: "CREATE", info, version, subresource } as const;
  if (!webhooks.mayConcern(kind)) return { object: store.create(id, object, { dryRun }), warnings: [] };
  const prepared = store.create(id, object, { dryRun: true });
  const { name, uid } = prepared.metadata;
  const warnings = await webhooks.review({
    ...kind,
    namespace,
    name,
    object: prepared,
    old: undefined,
    user,
    dryRun,
    manager,
  });
  const named = { ...object, metadata: { ...object.metadata, name } };
  return { object: store.create(id, named, { dryRun, uid }), warnings };
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

/** Never in silence. */
const hookWarnings = ({ kind }: KubeObject): readonly string[] =>
  kind === "MutatingWebhookConfiguration" ? ["this server calls validating webhooks only"] : [];

function currentOf({ info, namespace, name }: WriteRequest, store: MemoryObjectStore): KubeObject {
  const found =
    name === undefined ? undefined : store.get(storageOf(info), info.namespaced ? namespace : undefined, name);
  if (found === undefined) throw notFound(info, name ?? "");
  return found;
}

/** While a webhook was asked somebody else may have written: who named no version starts anew, this often. */
const mostAttempts = 5;

async function persistently(attempt: () => Promise<WriteResult>): Promise<WriteResult> {
  for (let left = mostAttempts - 1; ; left--) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Overtaken) || left === 0) throw error;
    }
  }
}

/** The object changed while webhooks looked at what should become of it. */
class Overtaken extends ApiError {}

export const replaceObject = (
  request: WriteRequest,
  body: unknown,
  dependencies: WriteDependencies,
): Promise<WriteResult> => persistently(() => replaceOnce(request, body, dependencies));

async function replaceOnce(
  request: WriteRequest,
  body: unknown,
  dependencies: WriteDependencies,
): Promise<WriteResult> {
  const current = currentOf(request, dependencies.store);
  const { validation } = readOptions(request);
  if (request.subresource === "scale") return writeScale(request, current, body, dependencies);
  const { object, warnings } = decodeBody(body, request.info, request.version, validation);
  const next = toStored(placed(object, request) as unknown as KubeObject, request.info);
  // A replace need not carry the field owners.
  next.metadata.managedFields ??= structuredClone(current.metadata.managedFields ?? []);
  const stored = await storeNext(request, current, next, dependencies);
  return { code: 200, object: stored.object, warnings: [...warnings, ...stored.warnings] };
}

/** Notes the field owners and writes; answers the object as the request's version shows it. */
async function storeNext(
  request: WriteRequest,
  current: KubeObject,
  next: KubeObject,
  dependencies: WriteDependencies,
): Promise<Stored> {
  const { info, version, subresource } = request;
  const { manager } = readOptions(request);
  next.metadata = withoutEmpty(next.metadata);
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
      managerOf(request, manager, "Update", dependencies.clock),
    );
  const stored = await storeReviewed(request, current, next, dependencies);
  return { ...stored, object: present(stored.object, info, version) };
}

/** As {@link storeNew}. */
async function storeReviewed(
  request: WriteRequest,
  current: KubeObject,
  next: KubeObject,
  { store, webhooks }: WriteDependencies,
): Promise<Stored> {
  const { info, version, subresource, user, namespace } = request;
  const { dryRun, manager } = readOptions(request);
  const id = storageOf(info);
  const part = subresource === "status" ? { subresource } : {};
  const kind = { operation: "UPDATE", info, version, subresource } as const;
  if (!webhooks.mayConcern(kind)) return { object: store.update(id, next, { dryRun, ...part }), warnings: [] };
  const prepared = store.update(id, next, { dryRun: true, ...part });
  const { name } = current.metadata;
  const paths = subresource === "scale" ? version.scale : undefined;
  const warnings = await webhooks.review({
    ...kind,
    namespace,
    name,
    object: prepared,
    old: current,
    ...(paths === undefined ? {} : { shownAs: (object: KubeObject) => toScale(object, paths) }),
    user,
    dryRun,
    manager,
  });
  const now = store.get(id, info.namespaced ? namespace : undefined, name);
  if (now?.metadata.resourceVersion !== current.metadata.resourceVersion) {
    throw new Overtaken(
      "Conflict",
      `Operation cannot be fulfilled on ${info.resource} "${name}": the object has been modified while it was reviewed`,
    );
  }
  return { object: store.update(id, next, { dryRun, ...part }), warnings };
}

async function writeScale(
  request: WriteRequest,
  current: KubeObject,
  body: unknown,
  dependencies: WriteDependencies,
): Promise<WriteResult> {
  const paths = request.version.scale;
  if (paths === undefined || !isObject(body)) throw notFound(request.info, request.name ?? "");
  const next = fromScale(current, body, paths);
  const { object, warnings } = await storeNext(request, current, next, dependencies);
  return { code: 200, object: toScale(object, paths), warnings };
}

export const patchObject = (
  request: WriteRequest,
  type: PatchType,
  patch: unknown,
  dependencies: WriteDependencies,
): Promise<WriteResult> =>
  persistently(() =>
    type === "apply" ? applyOnce(request, patch, dependencies) : patchOnce(request, type, patch, dependencies),
  );

async function patchOnce(
  request: WriteRequest,
  type: Exclude<PatchType, "apply">,
  patch: unknown,
  dependencies: WriteDependencies,
): Promise<WriteResult> {
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
  const shown = presentKnown(current, request);
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
  const stored = await storeNext(request, current, next, dependencies);
  return { code: 200, object: stored.object, warnings: [...warnings, ...stored.warnings] };
}

/** Without what a custom resource's definition has ceased to know since it was stored. */
function presentKnown(stored: KubeObject, { info, version }: WriteRequest): KubeObject {
  const shown = present(stored, info, version);
  if (info.builtIn) return shown;
  const { object } = decodeObject(shown, version.schema, { builtIn: false });
  return object as unknown as KubeObject;
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

async function applyOnce(request: WriteRequest, patch: unknown, dependencies: WriteDependencies): Promise<WriteResult> {
  const { info, version, query, name } = request;
  const { validation } = readOptions(request);
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
  const positioned = placed(config, request);
  const wanted: JsonObject = { ...positioned, metadata: withoutEmpty(child(positioned, "metadata")) };
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
  const live = current === undefined ? undefined : presentKnown(current, request);
  const force = readFlag(query, "force");
  const applied = applyConfiguration(live, wanted, version.schema, manager, force);
  if (!info.builtIn) refuseNulls(applied.object, info, name ?? "");
  const next = toStored(applied.object as unknown as KubeObject, info);
  next.metadata = { ...next.metadata, managedFields: [...applied.managedFields] };
  if (current === undefined) {
    const created = await storeNew(request, next, dependencies);
    return {
      code: 201,
      object: present(created.object, info, version),
      warnings: [...warnings, ...created.warnings, ...hookWarnings(created.object)],
    };
  }
  const given = textOf(child(wanted, "metadata"), "resourceVersion");
  next.metadata.resourceVersion = given ?? current.metadata.resourceVersion;
  const stored = await storeReviewed(request, current, next, dependencies);
  return {
    code: 200,
    object: present(stored.object, info, version),
    warnings: [...warnings, ...stored.warnings],
  };
}

/** What an apply made null is no object any more, which schemas of custom resources demand. */
function refuseNulls(object: JsonObject, info: ResourceInfo, name: string): void {
  const nulls = Object.entries(object).filter(([, value]) => value === null);
  if (nulls.length === 0) return;
  const errors = nulls.map(([field]) => ({
    ...invalidValue(field, "null", ' in body must be of type object: "null"'),
    reason: "FieldValueTypeInvalid" as const,
  }));
  throw invalid(info.group, info.kind, name, errors);
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
export async function deleteObject(
  request: WriteRequest,
  body: unknown,
  { store, webhooks }: WriteDependencies,
): Promise<JsonObject> {
  const { info, namespace, user, subresource } = request;
  const current = currentOf(request, store);
  const options = readDeleteOptions(body, request.query);
  const kind = { operation: "DELETE", info, version: request.version, subresource } as const;
  if (webhooks.mayConcern(kind)) {
    const { name } = current.metadata;
    const dryRun = options.dryRun === true;
    await webhooks.review({
      ...kind,
      namespace,
      name,
      object: undefined,
      old: current,
      user,
      dryRun,
      manager: undefined,
    });
  }
  const left = store.delete(storageOf(info), info.namespaced ? namespace : undefined, current.metadata.name, options);
  const version = versionOf(current, info) ?? request.version;
  const isGone = store.findByUid(current.metadata.uid) === undefined || options.dryRun === true;
  if (!isGone) return present(left, info, version);
  const { name, uid } = current.metadata;
  const details = { name, ...(info.group === "" ? {} : { group: info.group }), kind: info.resource, uid };
  return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", details };
}
