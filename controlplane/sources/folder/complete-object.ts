/** What an API server adds to an object that a user wrote: names, age, identity. */
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { coreKind } from "#controlplane/schema/core-kinds.ts";
import { configKind } from "#controlplane/schema/kinds.ts";
import { groupOf, type ObjectRef, type SourceMeta, type SourceObject } from "../source.ts";

type Plain = Readonly<Record<string, unknown>>;

const isPlain = (value: unknown): value is Plain =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Namespaced objects without a namespace go here, as with kubectl. */
const defaultNamespace = "default";

/** What names the object, if it has kind and name; `object` is the value itself. */
export function identify(value: unknown): { readonly ref: ObjectRef; readonly object: Plain } | undefined {
  if (!isPlain(value)) return undefined;
  const { kind, metadata } = value;
  const apiVersion = value["apiVersion"] ?? "";
  if (typeof kind !== "string" || typeof apiVersion !== "string") return undefined;
  if (kind === "MeshConfig" && apiVersion === "") {
    return { ref: { group: "", kind, namespace: "", name: "istio" }, object: value };
  }
  if (kind === "" || apiVersion === "" || !isPlain(metadata)) return undefined;
  const { name, namespace } = metadata;
  if (typeof name !== "string" || name === "") return undefined;
  if (namespace !== undefined && namespace !== null && typeof namespace !== "string") return undefined;
  const group = groupOf(apiVersion);
  const isNamespaced = configKind(group, kind)?.isNamespaced ?? coreKind(group, kind)?.isNamespaced ?? true;
  const written = namespace ?? "";
  return {
    ref: { group, kind, namespace: isNamespaced && written === "" ? defaultNamespace : written, name },
    object: value,
  };
}

interface Circumstances {
  readonly ref: ObjectRef;
  /** Age of the file, for an object that states none. */
  readonly bornMs: number;
  /** The version before, whose identity the object keeps: as it was written, and complete. */
  readonly before: { readonly raw: Plain; readonly object: SourceObject } | undefined;
}

/** `raw` with the metadata filled in that every object has. Fields of a wrong type stay, to be reported. */
export function completeObject(raw: Plain, { ref, bornMs, before }: Circumstances): SourceObject {
  const written: Plain = isPlain(raw["metadata"]) ? raw["metadata"] : {};
  const text = (key: string): string | undefined => {
    const value = written[key];
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  const isSameSpec = before !== undefined && isDeepStrictEqual(withoutMeta(before.raw), withoutMeta(raw));
  const known = before?.object.metadata;
  const metadata: SourceMeta = {
    ...written,
    name: ref.name,
    ...(ref.namespace === "" ? {} : { namespace: ref.namespace }),
    uid: text("uid") ?? known?.uid ?? stableUid(ref),
    creationTimestamp: text("creationTimestamp") ?? known?.creationTimestamp ?? toTimestamp(bornMs),
    generation:
      typeof written["generation"] === "number"
        ? written["generation"]
        : (known?.generation ?? 0) + (isSameSpec ? 0 : 1),
    resourceVersion: String(Number(known?.resourceVersion ?? 0) + 1),
  };
  return {
    ...raw,
    apiVersion: typeof raw["apiVersion"] === "string" ? raw["apiVersion"] : "",
    kind: ref.kind,
    metadata,
  };
}

const withoutMeta = ({ metadata: _metadata, status: _status, ...rest }: Plain): Plain => rest;

/** Whole seconds, as an API server has them. */
const toTimestamp = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** The same object gets the same identity in every process. In the form of a UUID of version 8 (own hash). */
function stableUid({ group, kind, namespace, name }: ObjectRef): string {
  const hex = createHash("sha256")
    .update(JSON.stringify([group, kind, namespace, name]))
    .digest("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `a${hex.slice(17, 20)}`, hex.slice(20, 32)].join(
    "-",
  );
}
