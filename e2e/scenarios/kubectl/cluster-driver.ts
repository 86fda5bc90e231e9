import type { KubeObject } from "#e2e/sandbox/apiserver/object-store.ts";

export interface Ref {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string;
}

export interface Answer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What the contract asks of a client. Refusals reject with an error whose message is the server's. */
export interface ClusterDriver {
  readonly name: string;
  create(object: object): Promise<void>;
  /** Client-side apply where the client knows it. */
  apply(object: object, options?: { dryRun?: boolean }): Promise<void>;
  applyServerSide(object: object, options: { manager: string; force?: boolean }): Promise<void>;
  get(ref: Ref): Promise<KubeObject>;
  list(kind: Omit<Ref, "name">, labelSelector?: string): Promise<readonly string[]>;
  patch(ref: Ref, type: "merge" | "strategic" | "json", patch: object): Promise<void>;
  /** Reads, lets `change` edit the text of the object, and replaces it: what an editor does. */
  edit(ref: Ref, change: { readonly from: string; readonly to: string }): Promise<void>;
  label(ref: Ref, key: string, value: string | null): Promise<void>;
  annotate(ref: Ref, key: string, value: string): Promise<void>;
  scale(ref: Ref, replicas: number): Promise<void>;
  restart(ref: Ref): Promise<void>;
  waitForRollout(ref: Ref): Promise<void>;
  waitForCondition(ref: Ref, condition: string): Promise<void>;
  delete(ref: Ref, propagation: "Background" | "Foreground" | "Orphan"): Promise<void>;
  logs(ref: Ref, container: string, options: { tailLines?: number; follow?: boolean }): Promise<string>;
  exec(ref: Ref, container: string, command: readonly string[], stdin?: string): Promise<Answer>;
  /** Resolves with the names that a watch tells until it has seen `count` of them, while `meanwhile` runs. */
  watch(kind: Omit<Ref, "name">, count: number, meanwhile: () => Promise<void>): Promise<readonly string[]>;
  /** Plural names of everything that is served. */
  resources(): Promise<readonly string[]>;
  canI(verb: string, resource: string, user?: string): Promise<boolean>;
  /** A service account's token. */
  token(namespace: string, account: string): Promise<string>;
  close(): Promise<void>;
}
