import type { Duplex, Readable, Writable } from "node:stream";
import type { KubeObject } from "./object-store.ts";

export interface LogOptions {
  /** Keep reading until the container ends or the client goes away. */
  readonly follow: boolean;
  /** The log of the container's last run before this one. */
  readonly previous: boolean;
  /** Begin each line with its RFC 3339 time and a space. */
  readonly timestamps: boolean;
  readonly tailLines?: number;
  /** Only lines written at or after this moment, in milliseconds since the epoch. */
  readonly sinceMs?: number;
  readonly limitBytes?: number;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
}

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

export interface ExecStreams {
  /** Absent when the client did not ask to send input. */
  readonly stdin?: Readable;
  readonly stdout?: Writable;
  /** Absent when the client did not ask for it, and always with a terminal. */
  readonly stderr?: Writable;
  readonly tty: boolean;
  /** Calls back with the terminal's size, first and at every change. */
  readonly onResize?: (listener: (size: TerminalSize) => void) => void;
  /** Aborted when the client is gone: the command must end. */
  readonly signal: AbortSignal;
}

/** What the API server asks of the node that runs a pod. Refusals are `ApiError`s. */
export interface PodRuntime {
  /** The container's output, in order, in pieces of any size. */
  logs(pod: KubeObject, container: string, options: LogOptions): AsyncIterable<Buffer>;
  /** Runs a command in the container; resolves with its exit code (128 + signal number when killed). */
  exec(pod: KubeObject, container: string, command: readonly string[], streams: ExecStreams): Promise<number>;
  /** Joins the container's main process; resolves when it ends. */
  attach?(pod: KubeObject, container: string, streams: ExecStreams): Promise<number>;
  /** A connection to a port of the pod, from inside its network namespace. */
  connect(pod: KubeObject, port: number): Promise<Duplex>;
}
