import { admitPod } from "./admit-pod.ts";
import { ApiError, forbidden, forbiddenField, invalid, type FieldError } from "./api-error.ts";
import { establishCrd } from "./crd-resources.ts";
import { applyCoreDefaults } from "./defaults.ts";
import type {
  KubeObject,
  MemoryObjectStore,
  ResourceId,
  ResourceStrategy,
  UpdateOptions,
  WriteOptions,
} from "./object-store.ts";
import type { ResourceRegistry } from "./resource-registry.ts";
import { ids, type ResourceInfo, type ResourceVersion } from "./resources.ts";
import { child, isObject, textOf } from "./schema.ts";
import { allocateService, keepServiceAddresses, releaseService } from "./service-addresses.ts";
import type { ServiceAllocator } from "./service-allocator.ts";
import { validateCore } from "./validate-core.ts";
import { validateFinalizerChange, validateMetadata } from "./validate-metadata.ts";
import { applyDefaults, validateValue } from "./validate-value.ts";
import { validateRules } from "./validation-rules.ts";

export interface StrategyDependencies {
  readonly store: MemoryObjectStore;
  readonly registry: ResourceRegistry;
  readonly allocator: ServiceAllocator;
  /** What comes into being together with an object of this resource. */
  readonly created?: (id: ResourceId, object: KubeObject) => void;
}

/** Holds a CRD until its objects are gone. */
export const crdFinalizer = "customresourcecleanup.apiextensions.k8s.io";
const permanentNamespaces = new Set(["default", "kube-system", "kube-public"]);

/** How each resource is defaulted, checked and deleted. */
export function strategiesFor(dependencies: StrategyDependencies): (id: ResourceId) => ResourceStrategy | undefined {
  const known = new WeakMap<ResourceInfo, ResourceStrategy>();
  return (id) => {
    const info = dependencies.registry.find(id);
    if (info === undefined) return undefined;
    let strategy = known.get(info);
    if (strategy === undefined) {
      strategy = info.builtIn ? coreStrategy(info, dependencies) : customStrategy(info);
      const { created } = dependencies;
      if (created !== undefined) strategy = { ...strategy, created: (object) => created(id, object) };
      known.set(info, strategy);
    }
    return strategy;
  };
}

function coreStrategy(info: ResourceInfo, { store, allocator }: StrategyDependencies): ResourceStrategy {
  const hasStatus = info.versions[0]?.hasStatus === true;
  const base: ResourceStrategy = {
    hasStatus,
    statusCarriesLabels: true,
    hasGeneration: info.hasGeneration,
    prepareCreate: (object) => {
      if (hasStatus && statusIsServers.has(info.resource)) object["status"] = {};
      applyCoreDefaults(object);
      if (info.kind === "Pod") admitPod(object, store);
      validateCore(object, undefined, info);
      return object;
    },
    prepareUpdate: (object, previous, { subresource }) => {
      applyCoreDefaults(object);
      if (subresource !== "status") validateCore(object, previous, info);
      return object;
    },
  };
  return { ...base, ...special(info, base, { store, allocator }) };
}

/** Kinds whose status only controllers write: a client's is dropped at creation. */
const statusIsServers = new Set([
  "customresourcedefinitions",
  "daemonsets",
  "deployments",
  "jobs",
  "pods",
  "replicasets",
  "services",
  "statefulsets",
]);

function special(
  { resource, group }: ResourceInfo,
  base: ResourceStrategy,
  { store, allocator }: Pick<StrategyDependencies, "store" | "allocator">,
): Partial<ResourceStrategy> {
  const prepareCreate = (object: KubeObject, options: WriteOptions) => base.prepareCreate?.(object, options) ?? object;
  const prepareUpdate = (object: KubeObject, previous: KubeObject, options: UpdateOptions) =>
    base.prepareUpdate?.(object, previous, options) ?? object;
  switch (`${resource}.${group}`) {
    case "services.":
      return {
        prepareCreate: (object, options) => {
          const prepared = prepareCreate(object, options);
          allocateService(prepared, undefined, allocator, options);
          return prepared;
        },
        prepareUpdate: (object, previous, options) => {
          if (options.subresource === "status") return prepareUpdate(object, previous, options);
          applyCoreDefaults(object);
          keepServiceAddresses(object, previous);
          // Checked before anything is taken, so that a refusal leaves nothing behind.
          const prepared = prepareUpdate(object, previous, options);
          allocateService(prepared, previous, allocator, options);
          return prepared;
        },
        removed: (object) => releaseService(object, allocator),
      };
    case "pods.":
      return { gracePeriodSeconds: podGraceSeconds };
    case "namespaces.":
      return {
        prepareDelete: ({ metadata }) => {
          if (permanentNamespaces.has(metadata.name))
            throw forbidden(ids.namespaces, metadata.name, "this namespace may not be deleted");
        },
      };
    case "customresourcedefinitions.apiextensions.k8s.io":
      return {
        prepareCreate: (object, options) => {
          object.metadata.finalizers = [...new Set([...(object.metadata.finalizers ?? []), crdFinalizer])];
          const prepared = prepareCreate(object, options);
          refuseTakenNames(prepared, store);
          establishCrd(prepared);
          return prepared;
        },
        prepareUpdate: (object, previous, options) => {
          const prepared = prepareUpdate(object, previous, options);
          checkCrdChange(prepared, previous);
          establishCrd(prepared);
          return prepared;
        },
      };
    default:
      return {};
  }
}

/** Nothing runs yet or any more: no grace. Otherwise what was asked for, or the pod's own period. */
function podGraceSeconds(pod: KubeObject, asked: number | undefined): number {
  const spec = child(pod, "spec");
  const phase = textOf(child(pod, "status"), "phase");
  if (textOf(spec, "nodeName") === undefined || phase === "Succeeded" || phase === "Failed") return 0;
  const own = spec["terminationGracePeriodSeconds"];
  return Math.max(0, asked ?? (typeof own === "number" ? own : 30));
}

function refuseTakenNames(crd: KubeObject, store: MemoryObjectStore): void {
  const spec = child(crd, "spec");
  const kind = textOf(child(spec, "names"), "kind");
  const rival = store
    .list(ids.crds)
    .find(
      (other) =>
        child(other, "spec")["group"] === spec["group"] &&
        textOf(child(child(other, "spec"), "names"), "kind") === kind,
    );
  if (rival === undefined || rival.metadata.name === crd.metadata.name) return;
  throw new ApiError(
    "Conflict",
    `kind "${kind ?? ""}" of group "${textOf(spec, "group") ?? ""}" is already defined by "${rival.metadata.name}"`,
  );
}

function checkCrdChange(crd: KubeObject, previous: KubeObject): void {
  const errors: FieldError[] = [];
  for (const field of ["group", "scope"]) {
    if (child(crd, "spec")[field] !== child(previous, "spec")[field])
      errors.push(forbiddenField(`spec.${field}`, "field is immutable"));
  }
  if (errors.length > 0) throw invalid("apiextensions.k8s.io", "CustomResourceDefinition", crd.metadata.name, errors);
}

function customStrategy(info: ResourceInfo): ResourceStrategy {
  const stored = info.versions.find(({ name }) => name === info.storageVersion) ?? info.versions[0];
  const hasStatus = stored?.hasStatus === true;
  return {
    hasStatus,
    hasGeneration: true,
    prepareCreate: (object) => {
      if (hasStatus) delete object["status"];
      return prepareCustom(object, info);
    },
    prepareUpdate: (object, previous) => prepareCustom(object, info, previous),
  };
}

/** Defaults and checks an object by the schema of the version that it was written in. */
function prepareCustom(object: KubeObject, info: ResourceInfo, previous?: KubeObject): KubeObject {
  const version = versionOf(object, info);
  const errors = validateMetadata(object, false);
  if (previous !== undefined) errors.push(...validateFinalizerChange(object, previous));
  if (version !== undefined) {
    applyDefaults(object, version.schema);
    dropNulls(object, version);
    const broken = validateCustom(object, version);
    errors.push(...broken);
    // Rules are written for values that have the right shape.
    if (broken.length === 0) errors.push(...validateRules(object, previous, version.schema));
  }
  if (errors.length > 0) throw invalid(info.group, info.kind, object.metadata.name, errors);
  return { ...object, apiVersion: `${info.group}/${info.storageVersion}` };
}

export function versionOf(object: { apiVersion: string }, info: ResourceInfo): ResourceVersion | undefined {
  const name = object.apiVersion.split("/").at(-1);
  return info.versions.find((version) => version.name === name) ?? info.versions[0];
}

function validateCustom(object: KubeObject, { schema }: ResourceVersion): FieldError[] {
  const { apiVersion: _version, kind: _kind, metadata, ...content } = object;
  const { apiVersion: _1, kind: _2, metadata: metadataSchema, ...properties } = schema.properties ?? {};
  const needed = (schema.required ?? []).filter(
    (field) => field !== "apiVersion" && field !== "kind" && field !== "metadata",
  );
  const errors = validateValue(content, { ...schema, properties, required: needed });
  // A CRD may limit the name, nothing else of the metadata.
  const nameSchema = metadataSchema?.properties?.["name"];
  if (nameSchema !== undefined) errors.push(...validateValue(metadata.name, nameSchema, "metadata.name"));
  return errors;
}

/** A top-level null means "not there". */
function dropNulls(object: KubeObject, version: ResourceVersion): void {
  for (const [field, value] of Object.entries(object)) {
    const property = version.schema.properties?.[field];
    if (value === null && property?.nullable !== true) delete object[field];
    else if (isObject(value) && field !== "metadata") dropInnerNulls(value, property?.properties ?? {});
  }
}

/** Nulls that the schema does not allow are dropped where it declares a default, as Kubernetes does; others are errors. */
function dropInnerNulls(
  value: Record<string, unknown>,
  properties: NonNullable<ResourceVersion["schema"]["properties"]>,
): void {
  for (const [field, inner] of Object.entries(value)) {
    const property = Object.hasOwn(properties, field) ? properties[field] : undefined;
    if (inner === null && property?.default !== undefined && property.nullable !== true) delete value[field];
    else if (isObject(inner)) dropInnerNulls(inner, property?.properties ?? {});
  }
}
