import type { IncomingMessage } from "node:http";
import { PassThrough, Writable, type Duplex } from "node:stream";
import { WebSocketServer, type WebSocket } from "ws";
import type { Logger } from "#shared/observe/logger.ts";
import { ApiError, type StatusObject } from "./api-error.ts";
import type { Authenticator } from "./authenticator.ts";
import { authorize, refusalText } from "./authorizer.ts";
import type { KubeObject, MemoryObjectStore } from "./object-store.ts";
import { chooseContainer, runningPod } from "./pod-actions.ts";
import type { ExecStreams, PodRuntime, TerminalSize } from "./pod-runtime.ts";
import { readFlag } from "./read-objects.ts";
import { readRequest, type ResourceRequest } from "./request-info.ts";

export interface StreamDependencies {
  readonly store: MemoryObjectStore;
  readonly runtime: PodRuntime;
  readonly authenticator: Authenticator;
  readonly log: Logger;
}

/** Sub-protocols of exec and attach over WebSocket, the preferred one first. */
const execProtocols = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const forwardProtocols = ["v4.channel.k8s.io", "portforward.k8s.io"];

/** Streams open at once. */
const maxStreams = 256;
/** Largest message: kubectl sends 32 KiB pieces. */
const maxMessageBytes = 4 * 1024 * 1024;

/** Answers the requests that leave HTTP: exec, attach and port-forward. */
export class PodStreams {
  readonly #deps: StreamDependencies;
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    maxPayload: maxMessageBytes,
    handleProtocols: (offered) =>
      [...offered].find((protocol) => execProtocols.includes(protocol) || forwardProtocols.includes(protocol)) ?? false,
  });
  readonly #open = new Set<Duplex>();

  constructor(dependencies: StreamDependencies) {
    this.#deps = dependencies;
  }

  close(): void {
    for (const socket of this.#open) socket.destroy();
  }

  onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on("error", () => socket.destroy());
    try {
      this.#accept(request, socket, head);
    } catch (error) {
      const refusal = error instanceof ApiError ? error : new ApiError("InternalError", "Internal error occurred");
      if (!(error instanceof ApiError)) this.#deps.log.error({ err: error, url: request.url }, "stream failed");
      refuseUpgrade(socket, refusal.toStatus());
    }
  }

  #accept(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { pathname, searchParams: query } = new URL(request.url ?? "/", "http://server");
    const user = this.#deps.authenticator.authenticate(request.headers);
    const asked = readRequest("GET", pathname, query);
    if (asked.kind !== "resource" || asked.resource !== "pods" || asked.group !== "")
      throw new ApiError("NotFound", "the server could not find the requested resource");
    const { subresource = "", namespace, name } = asked;
    // A WebSocket opens with GET; the right that it needs is that of the POST which it stands for.
    const attributes = {
      kind: "resource",
      verb: "create",
      group: "",
      resource: "pods",
      subresource,
      ...(namespace === undefined ? {} : { namespace }),
      ...(name === undefined ? {} : { name }),
    } as const;
    const onlyGet = { ...attributes, verb: "get" };
    if (![attributes, onlyGet].some((one) => authorize(user, one, this.#deps.store).allowed))
      throw new ApiError("Forbidden", refusalText(user, attributes));
    if (this.#open.size >= maxStreams)
      throw new ApiError("TooManyRequests", `more than ${maxStreams} streams are open`);
    const pod = runningPod(this.#deps.store, namespace, name);
    const upgrade = request.headers.upgrade?.toLowerCase() ?? "";
    if (upgrade !== "websocket") throw new ApiError("BadRequest", `cannot upgrade to "${upgrade}": use a WebSocket`);
    this.#open.add(socket);
    socket.on("close", () => this.#open.delete(socket));
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => this.#serve(webSocket, pod, asked, query));
  }

  #serve(webSocket: WebSocket, pod: KubeObject, { subresource }: ResourceRequest, query: URLSearchParams): void {
    const channels = new WebSocketChannels(webSocket);
    void runCommand(this.#deps.runtime, pod, subresource, query, channels, this.#deps.log);
  }
}

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

/** Runs what an exec or attach request asks for and reports its end. */
export async function runCommand(
  runtime: PodRuntime,
  pod: KubeObject,
  subresource: string | undefined,
  query: URLSearchParams,
  channels: CommandChannels,
  log: Logger,
): Promise<void> {
  try {
    const container = chooseContainer(pod, query.get("container"));
    const tty = readFlag(query, "tty");
    const streams: ExecStreams = {
      ...(readFlag(query, "stdin") ? { stdin: channels.stdin } : {}),
      ...(readFlag(query, "stdout") ? { stdout: channels.stdout } : {}),
      ...(readFlag(query, "stderr") && !tty ? { stderr: channels.stderr } : {}),
      tty,
      onResize: (listener) => channels.onResize(listener),
      signal: channels.signal,
    };
    const command = query.getAll("command");
    if (subresource === "attach" && runtime.attach === undefined)
      throw new ApiError("BadRequest", "attach is not supported: use exec or logs");
    if (subresource === "exec" && command.length === 0)
      throw new ApiError("BadRequest", "you must specify at least one command for the container");
    const code =
      subresource === "attach"
        ? await runtime.attach?.(pod, container, streams)
        : await runtime.exec(pod, container, command, streams);
    channels.finish(exitStatus(code ?? 0));
  } catch (error) {
    if (error instanceof ApiError) channels.finish(error.toStatus());
    else {
      log.warn({ err: error, pod: pod.metadata.name }, "exec failed");
      channels.finish(
        new ApiError(
          "InternalError",
          `error executing command in container: ${error instanceof Error ? error.message : String(error)}`,
        ).toStatus(),
      );
    }
  }
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

const channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const;

/** The channels of `v4.channel.k8s.io` and `v5.channel.k8s.io`: the first byte of each message says which. */
class WebSocketChannels implements CommandChannels {
  readonly stdin = new PassThrough();
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly #webSocket: WebSocket;
  readonly #gone = new AbortController();
  #listener: ((size: TerminalSize) => void) | undefined;
  #size: TerminalSize | undefined;

  constructor(webSocket: WebSocket) {
    this.#webSocket = webSocket;
    this.stdout = this.#output(channel.stdout);
    this.stderr = this.#output(channel.stderr);
    webSocket.on("message", (data: Buffer) => this.#onMessage(data));
    webSocket.on("close", () => this.#end());
    webSocket.on("error", () => this.#end());
    // The protocol opens every output channel with an empty message.
    for (const one of [channel.stdout, channel.stderr, channel.error]) webSocket.send(Buffer.from([one]));
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
    switch (data[0] ?? channel.close) {
      case channel.stdin:
        if (!this.stdin.writableEnded && !this.stdin.write(body)) this.#pauseUntilDrained();
        break;
      case channel.resize:
        this.#resize(body);
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

  #resize(body: Buffer): void {
    const size = readTerminalSize(body.toString("utf8"));
    if (size === undefined) return;
    this.#size = size;
    this.#listener?.(size);
  }

  onResize(listener: (size: TerminalSize) => void): void {
    this.#listener = listener;
    if (this.#size !== undefined) listener(this.#size);
  }

  finish(status: ExecStatus): void {
    if (this.#webSocket.readyState !== this.#webSocket.OPEN) return;
    this.#webSocket.send(Buffer.concat([Buffer.from([channel.error]), Buffer.from(JSON.stringify(status))]), () =>
      this.#webSocket.close(1000),
    );
  }
}

export function readTerminalSize(text: string): TerminalSize | undefined {
  try {
    const { Width, Height } = JSON.parse(text) as { Width?: unknown; Height?: unknown };
    return typeof Width === "number" && typeof Height === "number" ? { columns: Width, rows: Height } : undefined;
  } catch {
    return undefined; // a malformed size changes nothing
  }
}

function refuseUpgrade(socket: Duplex, status: StatusObject): void {
  const body = JSON.stringify(status);
  const head = [
    `HTTP/1.1 ${status.code} ${status.reason ?? "Error"}`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
}
