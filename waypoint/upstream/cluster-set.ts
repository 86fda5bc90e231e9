/** All clusters of this waypoint, as the control plane's Cluster and ClusterLoadAssignment resources say. */
import { readFileSync } from "node:fs";
import { fromBinary } from "@bufbuild/protobuf";
import { explain } from "#shared/errors/mesh-error.ts";
import { ClusterSchema } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { Rejection, XdsResource } from "#shared/xds/delta-client.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { Clusters } from "./clusters.ts";
import { compileCluster, secretsOf } from "./compile/compile-cluster.ts";
import { compileAssignment, type Assignment } from "./compile/compile-endpoints.ts";
import type { ReadFile } from "./compile/compile-tls.ts";
import { makeResolver } from "./dns/resolver.ts";
import type { ClusterTools } from "./cluster-tools.ts";
import { UpstreamCluster } from "./upstream-cluster.ts";

export interface ClusterSetOptions extends Omit<ClusterTools, "random" | "makeResolver"> {
  /** [0, 1). Default Math.random. */
  readonly random?: () => number;
  readonly makeResolver?: ClusterTools["makeResolver"];
  /** Reads a certificate that a cluster names. Default: from the file system, up to 1 MiB. */
  readonly readFile?: ReadFile;
  /** {@link ClusterSet.wantedAssignments} or {@link ClusterSet.wantedSecrets} has changed. Called while clusters are being staged, once for each response. */
  readonly onWanted?: () => void;
}

interface Entry {
  readonly cluster: UpstreamCluster;
  /** As it arrived; a resource that says the same again changes nothing. */
  bytes: Uint8Array;
}

/**
 * Fed by xDS in deltas, read by the request path. A resource compiles when it arrives; every mistake in it is reported and
 * the last good one stays in force. A cluster whose endpoints have not arrived yet makes requests wait, not fail.
 */
export class ClusterSet implements Clusters, Disposable {
  readonly #options: ClusterSetOptions;
  readonly #tools: ClusterTools;
  readonly #entries = new Map<string, Entry>();
  /** The same clusters, for the request path. */
  readonly #clusters = new Map<string, UpstreamCluster>();
  readonly #assignments = new Map<string, Assignment>();
  /** Clusters by the name of the assignment that they want. */
  readonly #wanted = new Map<string, Set<UpstreamCluster>>();
  #wantedNames: ReadonlySet<string> = new Set();
  #wantedSecrets: ReadonlySet<string> = new Set();

  constructor(options: ClusterSetOptions) {
    this.#options = options;
    this.#tools = {
      ...options,
      random: options.random ?? Math.random,
      makeResolver: options.makeResolver ?? makeResolver,
    };
  }

  /** Handler for `envoy.config.cluster.v3.Cluster`. */
  stageClusters(resources: readonly XdsResource[], removed: readonly string[]): readonly Rejection[] {
    const rejections: Rejection[] = [];
    const seen = new Set<string>();
    for (const resource of resources) {
      const reasons = seen.has(resource.name) ? ["stands twice in one response"] : this.#stage(resource);
      seen.add(resource.name);
      if (reasons.length > 0) rejections.push({ name: resource.name, reason: reasons.join("; ") });
    }
    for (const name of removed) this.#remove(name);
    this.#updateWanted();
    return rejections;
  }

  /** Handler for `envoy.config.endpoint.v3.ClusterLoadAssignment`. A removed one leaves its cluster without hosts. */
  applyAssignments(resources: readonly XdsResource[], removed: readonly string[]): readonly Rejection[] {
    const rejections: Rejection[] = [];
    for (const resource of resources) {
      const reasons = this.#apply(resource);
      if (reasons.length > 0) rejections.push({ name: resource.name, reason: reasons.join("; ") });
    }
    for (const name of removed) {
      this.#assignments.delete(name);
      for (const cluster of this.#wanted.get(name) ?? []) cluster.assign(undefined);
    }
    return rejections;
  }

  /** Names of the load assignments that EDS clusters want now. `onWanted` of the options says when this changes. */
  get wantedAssignments(): ReadonlySet<string> {
    return this.#wantedNames;
  }

  /** Names of the secrets that the control plane is to give. */
  get wantedSecrets(): ReadonlySet<string> {
    return this.#wantedSecrets;
  }

  get(name: string): UpstreamCluster | undefined {
    return this.#clusters.get(name);
  }

  /** For dumps and gauges. */
  values(): Iterable<UpstreamCluster> {
    return this.#clusters.values();
  }

  /** Breaks every connection. */
  [Symbol.dispose](): void {
    for (const cluster of this.#clusters.values()) cluster[Symbol.dispose]();
    this.#clusters.clear();
    this.#entries.clear();
  }

  /** What is wrong with it. Nothing has changed then. */
  #stage({ name, value }: XdsResource): readonly string[] {
    const known = this.#entries.get(name);
    if (known !== undefined && Buffer.compare(known.bytes, value) === 0) return [];
    const { problems, problem } = collect();
    let config: ReturnType<typeof compileCluster>;
    try {
      const message = fromBinary(ClusterSchema, value);
      if (message.name !== name) problem("name", `"${message.name}" is not the name of the resource`);
      config = compileCluster(message, this.#options.readFile ?? readSmallFile, problem);
    } catch (error) {
      return [`Cannot read the cluster: ${explain(error)}`];
    }
    if (problems.length > 0) return problems;
    if (known === undefined) {
      const cluster = new UpstreamCluster(config, this.#tools);
      this.#entries.set(name, { cluster, bytes: value });
      this.#clusters.set(name, cluster);
      this.#want(cluster);
    } else {
      this.#unwant(known.cluster);
      known.cluster.reconfigure(config);
      known.bytes = value;
      this.#want(known.cluster);
    }
    return [];
  }

  #remove(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    this.#entries.delete(name);
    this.#clusters.delete(name);
    this.#unwant(entry.cluster);
    entry.cluster.drain();
  }

  #apply({ name, value }: XdsResource): readonly string[] {
    const { problems, problem } = collect();
    let assignment: Assignment;
    try {
      const message = fromBinary(ClusterLoadAssignmentSchema, value);
      if (message.clusterName !== name)
        problem("cluster_name", `"${message.clusterName}" is not the name of the resource`);
      assignment = compileAssignment(message, { allowsNames: false }, problem);
    } catch (error) {
      return [`Cannot read the load assignment: ${explain(error)}`];
    }
    if (problems.length > 0) return problems;
    const clusters = this.#wanted.get(name);
    // Its cluster has just gone; should it come back, the name is asked for anew.
    if (clusters === undefined) return [];
    this.#assignments.set(name, assignment);
    for (const cluster of clusters) cluster.assign(assignment);
    return [];
  }

  #want(cluster: UpstreamCluster): void {
    const { discovery } = cluster.config;
    if (discovery.kind !== "eds") return;
    const clusters = this.#wanted.get(discovery.assignmentName) ?? new Set();
    clusters.add(cluster);
    this.#wanted.set(discovery.assignmentName, clusters);
    const assignment = this.#assignments.get(discovery.assignmentName);
    if (assignment !== undefined) cluster.assign(assignment);
  }

  #unwant(cluster: UpstreamCluster): void {
    const { discovery } = cluster.config;
    if (discovery.kind !== "eds") return;
    const clusters = this.#wanted.get(discovery.assignmentName);
    clusters?.delete(cluster);
    if (clusters?.size === 0) this.#wanted.delete(discovery.assignmentName);
  }

  /** Assignments that nobody wants any more are forgotten: they would be stale when somebody does. */
  #updateWanted(): void {
    for (const name of this.#assignments.keys()) if (!this.#wanted.has(name)) this.#assignments.delete(name);
    const names = new Set(this.#wanted.keys());
    const secrets = new Set([...this.#clusters.values()].flatMap(({ config }) => secretsOf(config)));
    if (isSame(names, this.#wantedNames) && isSame(secrets, this.#wantedSecrets)) return;
    this.#wantedNames = names;
    this.#wantedSecrets = secrets;
    this.#options.onWanted?.();
  }
}

const isSame = (a: ReadonlySet<string>, b: ReadonlySet<string>): boolean =>
  a.size === b.size && [...a].every((name) => b.has(name));

function collect(): { readonly problems: readonly string[]; readonly problem: Problem } {
  const problems: string[] = [];
  return { problems, problem: (path, message) => problems.push(path === "" ? message : `${path}: ${message}`) };
}

const maxFileBytes = 1024 * 1024;

function readSmallFile(path: string): string {
  const bytes = readFileSync(path);
  if (bytes.length > maxFileBytes) throw new RangeError(`${bytes.length} bytes are more than ${maxFileBytes}`);
  return bytes.toString("utf8");
}
