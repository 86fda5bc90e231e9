/** Tags that a configuration adds to spans. */
import process from "node:process";
import type { JsonValue } from "@bufbuild/protobuf";
import type { CustomTag, CustomTag_Metadata } from "#shared/proto/gen/envoy/type/tracing/v3/custom_tag_pb.js";
import { toText } from "#waypoint/http/latin1.ts";
import { pseudoHeader } from "#waypoint/matching/header-matcher.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { valueAt } from "#waypoint/matching/value-matcher.ts";
import { secretVariables } from "#waypoint/routing/format-commands.ts";
import type { Peer } from "#waypoint/telemetry/peers.ts";
import type { Subject } from "#waypoint/telemetry/subject.ts";
import type { Clusters } from "#waypoint/upstream/clusters.ts";

export interface Tag {
  readonly name: string;
  /** Empty: left out. */
  readonly read: (subject: Subject) => string;
}

/** Metadata under this name is who the peers of a request are; no other proxy has it, and leaves the tag out. */
export const peerMetadata = "istio.peer";

export function compileTags(
  tags: readonly CustomTag[],
  path: string,
  clusters: Clusters,
  problem: Problem,
): readonly Tag[] {
  return tags.map((tag, index) => {
    const at = `${path}[${index}]`;
    if (tag.tag === "") problem(`${at}.tag`, "is missing");
    return { name: tag.tag, read: compileTag(tag, at, clusters, problem) };
  });
}

function compileTag({ type }: CustomTag, at: string, clusters: Clusters, problem: Problem): Tag["read"] {
  switch (type.case) {
    case "literal": {
      const { value } = type.value;
      return () => value;
    }
    case "environment": {
      const { name, defaultValue } = type.value;
      if (secretVariables.test(name)) problem(`${at}.environment.name`, `"${name}" may hold a secret`);
      const value = process.env[name] ?? defaultValue;
      return () => value;
    }
    case "requestHeader": {
      const { name, defaultValue } = type.value;
      const lower = name.toLowerCase();
      const pseudo = pseudoHeader(lower);
      return ({ exchange: { request } }) => {
        const found = pseudo?.(request) ?? request.headers.get(lower);
        return found === undefined ? defaultValue : toText(found);
      };
    }
    case "metadata":
      return compileMetadataTag(type.value, at, clusters, problem);
    case undefined:
      problem(at, "has no value");
      return () => "";
  }
}

function compileMetadataTag(
  { kind, metadataKey, defaultValue }: CustomTag_Metadata,
  at: string,
  clusters: Clusters,
  problem: Problem,
): Tag["read"] {
  const name = metadataKey?.key ?? "";
  const keys = (metadataKey?.path ?? []).flatMap(({ segment }) => (segment.case === "key" ? [segment.value] : []));
  if (name === peerMetadata) return peerTag(keys, at, problem);
  const rootOf = rootReader(kind?.kind.case, name, clusters);
  if (rootOf === undefined) {
    problem(`${at}.metadata.kind`, "has to be request, route, cluster or host");
    return () => "";
  }
  return (subject) => {
    const root = rootOf(subject);
    if (keys.length === 0 || typeof root !== "object" || root === null || Array.isArray(root)) {
      return keys.length === 0 ? textOf(root, defaultValue) : defaultValue;
    }
    return textOf(valueAt(root, keys), defaultValue);
  };
}

type Kind = NonNullable<CustomTag_Metadata["kind"]>["kind"]["case"];

function rootReader(
  kind: Kind,
  name: string,
  clusters: Clusters,
): ((subject: Subject) => JsonValue | undefined) | undefined {
  switch (kind) {
    case "request":
      return ({ exchange }) => exchange.metadataOf(name);
    case "route":
      return ({ exchange }) => exchange.route?.metadata.get(name) as JsonValue | undefined;
    case "cluster":
      return ({ exchange }) => clusters.get(exchange.upstreamCluster)?.metadata.get(name) as JsonValue | undefined;
    case "host":
      return ({ exchange }) => exchange.upstreamHost?.metadata.get(name);
    case undefined:
      return undefined;
  }
}

function textOf(value: JsonValue | undefined, absent: string): string {
  if (value === undefined || value === null) return absent;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const peerFields: Readonly<Record<string, keyof Peer>> = {
  workload: "workload",
  namespace: "namespace",
  cluster_id: "cluster",
  canonical_service: "service",
  canonical_revision: "revision",
  app: "app",
  app_version: "version",
  workload_type: "type",
  instance_name: "name",
};

function peerTag([side, field = ""]: readonly string[], at: string, problem: Problem): Tag["read"] {
  const key = Object.hasOwn(peerFields, field) ? peerFields[field] : undefined;
  if (key === undefined || (side !== "source" && side !== "destination")) {
    problem(`${at}.metadata.metadata_key`, `"${String(side)}.${field}" is not known of a peer`);
    return () => "";
  }
  return side === "source"
    ? ({ exchange, peers }) => peers.source(exchange.connection)[key]
    : ({ exchange, peers }) => peers.destination(exchange.upstreamHost)[key];
}
