import { PassThrough, Writable, type Duplex } from "node:stream";
import type { WebSocket } from "ws";
import type { Logger } from "#shared/observe/logger.ts";
import { ApiError, type StatusObject } from "./api-error.ts";
import type { KubeObject } from "./object-store.ts";
import { chooseContainer } from "./pod-actions.ts";
import type { ExecStreams, PodRuntime, TerminalSize } from "./pod-runtime.ts";
import { readFlag } from "./read-objects.ts";
import { SpdyConnection, type SpdyStream } from "./spdy.ts";

/** How a command's streams reach the client, whatever the protocol. */
export interface CommandChannels {
  readonly stdin: PassThrough;
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly signal: AbortSignal;
  onResize(listener: (size: TerminalSize) => void): void;
  /** Tells how it ended and closes. */
  finish(status: ExecStatus): void;
}

export type ExecStatus = StatusObject | { readonly metadata: object; readonly status: "Success" } | ExitStatus;

interface ExitStatus {
  readonly metadata: object;
  readonly status: "Failure";
  readonly message: string;
  readonly reason: "NonZeroExitCode";
  readonly details: { readonly causes: readonly { readonly reason: string; readonly message: string }[] };
}

/** What an exec or attach request asks for. */
export interface CommandRequest {
  readonly runtime: PodRuntime;
  readonly pod: KubeObject;
  readonly action: "exec" | "attach";
  readonly query: URLSearchParams;
  readonly log: Logger;
}

/** The streams that a request names; a terminal has no separate stderr. */
export function wantedStreams(query: URLSearchParams): {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  tty: boolean;
} {
  const tty = readFlag(query, "tty");
  return {
    stdin: readFlag(query, "stdin"),
    stdout: readFlag(query, "stdout"),
    stderr: readFlag(query, "stderr") && !tty,
    tty,
  };
}

/** Runs the command over the channels and reports its end. */
export async function runCommand(
  { runtime, pod, action, query, log }: CommandRequest,
  channels: CommandChannels,
): Promise<void> {
  try {
    const container = chooseContainer(pod, query.get("container"));
    const wanted = wantedStreams(query);
    const streams: ExecStreams = {
      ...(wanted.stdin ? { stdin: channels.stdin } : {}),
      ...(wanted.stdout ? { stdout: channels.stdout } : {}),
      ...(wanted.stderr ? { stderr: channels.stderr } : {}),
      tty: wanted.tty,
      onResize: (listener) => channels.onResize(listener),
      signal: channels.signal,
    };
    channels.finish(exitStatus(await start({ runtime, pod, action, query, log }, container, streams)));
  } catch (error) {
    if (error instanceof ApiError) {
      channels.finish(error.toStatus());
      return;
    }
    log.warn({ err: error, pod: pod.metadata.name }, "exec failed");
    const why = error instanceof Error ? error.message : String(error);
    channels.finish(new ApiError("InternalError", `error executing command in container: ${why}`).toStatus());
  }
}

function start(
  { runtime, pod, action, query }: CommandRequest,
  container: string,
  streams: ExecStreams,
): Promise<number> {
  if (action === "attach") {
    if (runtime.attach === undefined) throw new ApiError("BadRequest", "attach is not supported: use exec or logs");
    return runtime.attach(pod, container, streams);
  }
  const command = query.getAll("command");
  if (command.length === 0) throw new ApiError("BadRequest", "you must specify at least one command for the container");
  return runtime.exec(pod, container, command, streams);
}

function exitStatus(code: number): ExecStatus {
  if (code === 0) return { metadata: {}, status: "Success" };
  return {
    metadata: {},
    status: "Failure",
    message: `command terminated with non-zero exit code: exit status ${code}`,
    reason: "NonZeroExitCode",
    details: { causes: [{ reason: "ExitCode", message: String(code) }] },
  };
}

/** The latest size of the terminal, told to whoever listens. */
class Resizes {
  #listener: ((size: TerminalSize) => void) | undefined;
  #size: TerminalSize | undefined;

  onResize(listener: (size: TerminalSize) => void): void {
    this.#listener = listener;
    if (this.#size !== undefined) listener(this.#size);
  }

  read(text: string): void {
    const size = readTerminalSize(text);
    if (size === undefined) return;
    this.#size = size;
    this.#listener?.(size);
  }
}

function readTerminalSize(text: string): TerminalSize | undefined {
  try {
    const { Width, Height } = JSON.parse(text) as { Width?: unknown; Height?: unknown };
    return typeof Width === "number" && typeof Height === "number" ? { columns: Width, rows: Height } : undefined;
  } catch {
    return undefined; // a malformed size changes nothing
  }
}

const channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const;

/** The channels of `v4.channel.k8s.io` and `v5.channel.k8s.io`: the first byte of each message says which. */
export class WebSocketChannels implements CommandChannels {
  readonly stdin = new PassThrough();
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly #webSocket: WebSocket;
  readonly #gone = new AbortController();
  readonly #resizes = new Resizes();

  constructor(webSocket: WebSocket, query: URLSearchParams) {
    this.#webSocket = webSocket;
    this.stdout = this.#output(channel.stdout);
    this.stderr = this.#output(channel.stderr);
    webSocket.on("message", (data: Buffer) => this.#onMessage(data));
    webSocket.on("close", () => this.#end());
    webSocket.on("error", () => this.#end());
    // The protocol opens each output channel with an empty message.
    const wanted = wantedStreams(query);
    if (wanted.stdout) webSocket.send(Buffer.from([channel.stdout]));
    if (wanted.stderr) webSocket.send(Buffer.from([channel.stderr]));
  }

  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  #end(): void {
    this.stdin.end();
    this.#gone.abort();
  }

  #output(number: number): Writable {
    return new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        if (this.#webSocket.readyState !== this.#webSocket.OPEN) done();
        else this.#webSocket.send(Buffer.concat([Buffer.from([number]), chunk]), () => done());
      },
    });
  }

  #onMessage(data: Buffer): void {
    const body = data.subarray(1);
    switch (data[0] ?? channel.error) {
      case channel.stdin:
        if (!this.stdin.writableEnded && !this.stdin.write(body)) this.#pauseUntilDrained();
        break;
      case channel.resize:
        this.#resizes.read(body.toString("utf8"));
        break;
      case channel.close:
        if (body[0] === channel.stdin) this.stdin.end();
        break;
      default:
        this.#webSocket.close(1003);
    }
  }

  #pauseUntilDrained(): void {
    this.#webSocket.pause();
    this.stdin.once("drain", () => this.#webSocket.resume());
  }

  onResize(listener: (size: TerminalSize) => void): void {
    this.#resizes.onResize(listener);
  }

  finish(status: ExecStatus): void {
    if (this.#webSocket.readyState !== this.#webSocket.OPEN) return;
    const message = Buffer.concat([Buffer.from([channel.error]), Buffer.from(JSON.stringify(status))]);
    this.#webSocket.send(message, () => this.#webSocket.close(1000));
  }
}

/** Largest message on the resize stream. */
const maxResizeBytes = 256;

/** The streams of the older SPDY form: the client opens one for each, named by a header. */
export function runOverSpdy(socket: Duplex, head: Buffer, request: CommandRequest): void {
  const wanted = wantedStreams(request.query);
  const names = [
    "error",
    ...(["stdin", "stdout", "stderr"] as const).filter((name) => wanted[name]),
    ...(wanted.tty ? ["resize"] : []),
  ];
  const streams = new Map<string, SpdyStream>();
  const gone = new AbortController();
  const resizes = new Resizes();
  const connection = new SpdyConnection(socket, {
    onStream: (stream) => {
      const name = stream.headers.get("streamtype") ?? "";
      streams.set(name, stream);
      if (name === "resize") stream.on("data", (data: Buffer) => readSizes(data, resizes));
      if (streams.size === names.length && names.every((one) => streams.has(one))) begin();
    },
    onClose: () => gone.abort(),
  });
  const begin = () => {
    const stdin = new PassThrough();
    streams.get("stdin")?.pipe(stdin);
    const nowhere = () => new Writable({ write: (_chunk, _encoding, done) => done() });
    void runCommand(request, {
      stdin,
      stdout: streams.get("stdout") ?? nowhere(),
      stderr: streams.get("stderr") ?? nowhere(),
      signal: gone.signal,
      onResize: (listener) => resizes.onResize(listener),
      finish: (status) => finishSpdy(connection, streams, status),
    });
  };
  void connection.run(head);
}

function readSizes(data: Buffer, resizes: Resizes): void {
  if (data.length <= maxResizeBytes) for (const line of data.toString("utf8").split("\n")) resizes.read(line);
}

/** The status goes out last, then every stream ends, then the connection. */
function finishSpdy(connection: SpdyConnection, streams: ReadonlyMap<string, SpdyStream>, status: ExecStatus): void {
  for (const name of ["stdout", "stderr"]) streams.get(name)?.end();
  const error = streams.get("error");
  if (error === undefined) connection.close();
  else error.end(JSON.stringify(status), () => connection.close());
}
