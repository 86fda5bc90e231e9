import { pipeline } from "node:stream/promises";
import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import type { Logger } from "#shared/observe/logger.ts";
import { ApiError } from "./api-error.ts";
import type { KubeObject } from "./object-store.ts";
import type { PodRuntime } from "./pod-runtime.ts";
import { SpdyConnection, type SpdyStream } from "./spdy.ts";

interface ForwardOptions {
  readonly runtime: PodRuntime;
  readonly pod: KubeObject;
  readonly log: Logger;
}

/** Carries port-forwards over SPDY: for each connection an error stream and a data stream, joined by a request id. */
export function forwardOverSpdy(socket: Duplex, head: Buffer, { runtime, pod, log }: ForwardOptions): void {
  const waiting = new Map<string, SpdyStream>();
  const connection = new SpdyConnection(socket, {
    onStream: (stream) => {
      const id = stream.headers.get("requestid") ?? "";
      const other = waiting.get(id);
      if (other === undefined) {
        waiting.set(id, stream);
        stream.once("close", () => waiting.delete(id));
        return;
      }
      waiting.delete(id);
      const [errors, data] = stream.headers.get("streamtype") === "error" ? [stream, other] : [other, stream];
      void forward(data, errors, runtime, pod, log);
    },
    onClose: () => waiting.clear(),
  });
  void connection.run(head);
}

async function forward(
  data: SpdyStream,
  errors: SpdyStream,
  runtime: PodRuntime,
  pod: KubeObject,
  log: Logger,
): Promise<void> {
  const port = Number(data.headers.get("port"));
  try {
    const target = await runtime.connect(pod, port);
    errors.end();
    await joinBothWays(data, target);
  } catch (error) {
    log.debug({ err: error, pod: pod.metadata.name, port }, "port-forward ended with an error");
    if (!errors.writableEnded)
      errors.end(
        `error forwarding port ${port} to pod ${pod.metadata.name}: ${error instanceof Error ? error.message : String(error)}`,
      );
    data.end();
  }
}

async function joinBothWays(left: Duplex, right: Duplex): Promise<void> {
  await Promise.all([pipeline(left, right), pipeline(right, left)]);
}

/** The older channel form: two channels per port, each opening with the port's number. */
export function forwardOverChannels(
  webSocket: WebSocket,
  ports: readonly number[],
  { runtime, pod, log }: ForwardOptions,
): void {
  const targets = ports.map(async (port, at) => {
    const send = (channel: number, body: Buffer, done?: () => void) =>
      webSocket.send(Buffer.concat([Buffer.from([channel]), body]), () => done?.());
    const number = Buffer.alloc(2);
    number.writeUInt16LE(port);
    send(at * 2, number);
    send(at * 2 + 1, number);
    const target = await runtime.connect(pod, port);
    target.on("data", (chunk: Buffer) => {
      target.pause();
      send(at * 2, chunk, () => target.resume());
    });
    target.on("error", (error) => send(at * 2 + 1, Buffer.from(error.message)));
    target.on("close", () => webSocket.close(1000));
    webSocket.on("close", () => target.destroy());
    return target;
  });
  for (const target of targets) {
    target.catch((error: unknown) => {
      log.debug({ err: error, pod: pod.metadata.name }, "port-forward ended with an error");
      webSocket.close(1011);
    });
  }
  webSocket.on("message", (message: Buffer) => {
    const target = targets[Math.floor((message[0] ?? 0) / 2)];
    if (target === undefined || (message[0] ?? 0) % 2 === 1) return;
    void passOn(target, message.subarray(1), webSocket);
  });
}

async function passOn(target: Promise<Duplex>, data: Buffer, webSocket: WebSocket): Promise<void> {
  const socket = await target.catch(() => undefined); // its failure is told where it was opened
  if (socket === undefined || socket.write(data)) return;
  webSocket.pause();
  socket.once("drain", () => webSocket.resume());
}

/** The ports of a channel-form request. Throws 400 for none or a wrong one. */
export function readPorts(query: URLSearchParams): readonly number[] {
  const ports = query
    .getAll("ports")
    .flatMap((text) => text.split(","))
    .map(Number);
  if (
    ports.length === 0 ||
    ports.length > 16 ||
    ports.some((port) => !Number.isInteger(port) || port < 1 || port > 65_535)
  ) {
    throw new ApiError(
      "BadRequest",
      `query parameter "ports" must name 1 to 16 ports: "${query.getAll("ports").join(",")}"`,
    );
  }
  return ports;
}
