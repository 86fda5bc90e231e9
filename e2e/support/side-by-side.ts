/** An unmodified Envoy and our waypoint, told the same, each before a backend of its own that tells what it was sent. */
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from "node:http2";
import { createServer as createNetServer, type AddressInfo, type Server as NetServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { JsonObject } from "@bufbuild/protobuf";
import { TestControlPlane } from "#waypoint/testing/control-plane.ts";
import { endpoints } from "#waypoint/testing/resources.ts";
import { startTestWaypoint } from "#waypoint/testing/waypoint-fixture.ts";
import { Envoy } from "./envoy.ts";
import { sendFrames, sendHttp2, sendRaw, type Http2Request, type RawAnswer } from "./raw-http.ts";

/** What a backend was sent; header names in lower case, sorted, each value apart. */
export interface Received {
  readonly line: string;
  readonly headers: readonly string[];
  readonly body: string;
}

export interface Outcome {
  readonly status: number;
  readonly interim: readonly number[];
  readonly headers: readonly string[];
  readonly body: string;
  readonly trailers: readonly string[];
  readonly isWhole: boolean;
  readonly ending: string;
  /** Each attempt. */
  readonly received: readonly Received[];
  /** Lines of the access log. */
  readonly logged: readonly string[];
}

export interface Resources {
  readonly clusters: readonly JsonObject[];
  readonly listeners: readonly (JsonObject & { readonly name: string })[];
}

export interface Asking {
  readonly listener: string;
  /** HTTP/1 as it goes on the wire, a request of HTTP/2, or its frames. */
  readonly request: string | Uint8Array | Http2Request;
}

/** Names of clusters whose endpoints are the backends. */
export const backendClusters = {
  http1: "backend",
  http2: "grpc",
  scripted: "scripted",
  nobody: "empty",
  refused: "refused",
} as const;

/** A host that nobody serves: what is asked of it ends the log of what was asked before. */
const mark = "mark";

class Side implements AsyncDisposable {
  readonly #ports = new Map<string, number>();
  readonly #backend: Backend;
  readonly #proxy: AsyncDisposable;
  readonly #logFile: string;
  #logRead = 0;
  #marks = 0;

  constructor(backend: Backend, proxy: AsyncDisposable, logFile: string) {
    this.#backend = backend;
    this.#proxy = proxy;
    this.#logFile = logFile;
  }

  setPort(listener: string, port: number): void {
    this.#ports.set(listener, port);
  }

  async ask({ listener, request }: Asking): Promise<Outcome> {
    const port = this.#ports.get(listener) ?? 0;
    this.#backend.begin();
    const answer = await send(port, request);
    const received = [...this.#backend.received];
    return outcome(answer, received, await this.#logged());
  }

  /** Everything that was logged since. */
  async #logged(): Promise<readonly string[]> {
    const path = `/${++this.#marks}`;
    await sendRaw(this.#ports.get("main") ?? 0, `GET ${path} HTTP/1.1\r\nHost: ${mark}\r\n\r\n`);
    const last = ` ${mark}${path}\n`;
    const latestMs = Date.now() + 8_000;
    for (;;) {
      const text = existsSync(this.#logFile) ? readFileSync(this.#logFile, "latin1").slice(this.#logRead) : "";
      if (text.endsWith(last)) {
        this.#logRead += text.length;
        return text.split("\n").slice(0, -2);
      }
      if (Date.now() > latestMs) throw new Error(`The access log does not come to ${path}: ${JSON.stringify(text)}`);
      await pause(1);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxy[Symbol.asyncDispose]();
  }
}

function send(port: number, request: Asking["request"]): Promise<RawAnswer> {
  if (typeof request === "string") return sendRaw(port, request);
  return request instanceof Uint8Array ? sendFrames(port, request) : sendHttp2(port, request);
}

export class SideBySide implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly #envoy: Side;
  readonly #ours: Side;

  private constructor(stack: AsyncDisposableStack, envoy: Side, ours: Side) {
    this.#stack = stack;
    this.#envoy = envoy;
    this.#ours = ours;
  }

  /** @param resourcesFor what both are told, with the file that each is to log to */
  static async start(envoyPath: string, resourcesFor: (logFile: string) => Resources): Promise<SideBySide> {
    await using stack = new AsyncDisposableStack();
    const logs = stack.adopt(mkdtempSync(join(tmpdir(), "ambit-logs-")), (folder) =>
      rmSync(folder, { recursive: true, force: true }),
    );
    const [envoyLog, ourLog] = [join(logs, "envoy"), join(logs, "ours")];
    const [forEnvoy, forUs] = await Promise.all([
      told(resourcesFor(envoyLog), stack),
      told(resourcesFor(ourLog), stack),
    ]);
    const envoy = await Envoy.start({
      path: envoyPath,
      ads: { port: forEnvoy.port },
      namespace: "shop",
      gateway: "wp",
    });
    const envoySide = stack.use(new Side(forEnvoy.backend, envoy, envoyLog));
    const waypoint = await startTestWaypoint({ xdsAddress: forUs.controlPlane.address });
    const ours = stack.use(new Side(forUs.backend, waypoint, ourLog));
    await waypoint.ready;
    for (const { name } of resourcesFor(ourLog).listeners) {
      const [port] = waypoint.listeners.portsOf(name);
      ours.setPort(name, port ?? 0);
      await envoy.until(`listener ${name}`, async () => {
        const refusal = forEnvoy.controlPlane.refusal("listener") ?? forEnvoy.controlPlane.refusal("cluster");
        if (refusal !== undefined) throw new Error(`Envoy refused: ${refusal}`);
        const bound = await envoy.portOf(name);
        if (bound !== undefined) envoySide.setPort(name, bound);
        return bound !== undefined;
      });
    }
    const refused = forUs.controlPlane.refusal("listener") ?? forUs.controlPlane.refusal("cluster");
    if (refused !== undefined) throw new Error(`Our waypoint refused: ${refused}`);
    return new SideBySide(stack.move(), envoySide, ours);
  }

  async ask(asking: Asking): Promise<{ readonly envoy: Outcome; readonly ours: Outcome }> {
    const [envoy, ours] = await Promise.all([this.#envoy.ask(asking), this.#ours.ask(asking)]);
    return { envoy, ours };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

async function told({ clusters, listeners }: Resources, stack: AsyncDisposableStack) {
  const backend = stack.use(await Backend.start());
  const controlPlane = stack.use(await TestControlPlane.start());
  for (const cluster of clusters) controlPlane.put("cluster", cluster);
  controlPlane.put("endpoints", endpoints(backendClusters.http1, backend.http1Port));
  controlPlane.put("endpoints", endpoints(backendClusters.http2, backend.http2Port));
  controlPlane.put("endpoints", endpoints(backendClusters.scripted, backend.scriptedPort));
  controlPlane.put("endpoints", endpoints(backendClusters.nobody));
  controlPlane.put("endpoints", endpoints(backendClusters.refused, 1));
  for (const listener of listeners) controlPlane.put("listener", listener);
  return { backend, controlPlane, port: Number(new URL(controlPlane.address).port) };
}

/** Differs from one run to the next, whoever answers. */
const passing = new Map([
  ["date", "<date>"],
  ["x-request-id", "<id>"],
  ["x-envoy-upstream-service-time", "<ms>"],
]);

const listed = (headers: RawAnswer["headers"]): string[] =>
  headers.map(([name, value]) => `${name}: ${passing.get(name) ?? value}`).toSorted();

const outcome = (answer: RawAnswer, received: readonly Received[], logged: readonly string[]): Outcome => ({
  status: answer.status,
  interim: answer.interim,
  headers: listed(answer.headers),
  body: answer.body,
  trailers: listed(answer.trailers),
  isWhole: answer.isWhole,
  ending: answer.ending ?? "",
  received,
  logged,
});

/**
 * Answers as headers of the request say, or those of the same names with `-check` where the path begins with `/check`, as
 * an authorizer's does: `x-answer` the status, `x-answer-with` further headers as JSON, `x-hang` never; `x-fail` how
 * many attempts get 503 before, `x-cut` by closing the connection.
 */
class Backend implements Disposable {
  received: Received[] = [];
  readonly #http1: Server;
  readonly #http2: Http2Server;
  readonly #scripted: NetServer;

  private constructor(http1: Server, http2: Http2Server, scripted: NetServer) {
    this.#http1 = http1;
    this.#http2 = http2;
    this.#scripted = scripted;
    scripted.on("connection", (socket) => this.#playScript(socket));
    http1.on("request", (request: IncomingMessage, response: ServerResponse) => this.#answer(request, response));
    http1.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => {
      response.writeContinue();
      this.#answer(request, response);
    });
    http2.on("stream", (stream: ServerHttp2Stream, headers) => this.#answerGrpc(stream, headers));
  }

  static async start(): Promise<Backend> {
    const backend = new Backend(createServer({ keepAliveTimeout: 60_000 }), createHttp2Server(), createNetServer());
    for (const server of [backend.#http1, backend.#http2, backend.#scripted]) {
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
    }
    return backend;
  }

  get http1Port(): number {
    return (this.#http1.address() as AddressInfo).port;
  }

  get http2Port(): number {
    return (this.#http2.address() as AddressInfo).port;
  }

  get scriptedPort(): number {
    return (this.#scripted.address() as AddressInfo).port;
  }

  begin(): void {
    this.received = [];
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const raw = request.rawHeaders;
    const headers = raw.flatMap((name, index) =>
      index % 2 === 0 ? [[name.toLowerCase(), raw[index + 1] ?? ""] as const] : [],
    );
    const entry = { line: `${request.method} ${request.url}`, headers: listed(headers), body: "" };
    this.received.push(entry);
    const isCheck = request.url?.startsWith("/check") === true;
    const told = (name: string) => request.headers[isCheck ? `${name}-check` : name];
    if (told("x-hang") !== undefined) return;
    if (request.headers["x-cut"] !== undefined) {
      request.socket.destroy();
      return;
    }
    const failures = Number(request.headers["x-fail"] ?? 0);
    const status = this.received.length <= failures ? 503 : Number(told("x-answer") ?? 200);
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      entry.body = Buffer.concat(chunks).toString("latin1");
      const more = String(told("x-answer-with") ?? "{}");
      for (const [name, value] of Object.entries(JSON.parse(more) as Record<string, string | string[]>)) {
        response.setHeader(name, value);
      }
      response.writeHead(status, { "content-type": "text/plain", "x-backend": "one" });
      response.end(status === 204 || status === 304 ? undefined : `answer to ${request.method} ${request.url}`);
    });
  }

  /** Echoes a message of gRPC, or fails as `x-grpc-fail` says. */
  #answerGrpc(stream: ServerHttp2Stream, head: Readonly<Record<string, unknown>>): void {
    const headers = Object.entries(head).map(([name, value]) => [name, String(value)] as const);
    const entry = { line: `${String(head[":method"])} ${String(head[":path"])}`, headers: listed(headers), body: "" };
    this.received.push(entry);
    const chunks: Buffer[] = [];
    stream.on("error", () => {});
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      const body = Buffer.concat(chunks);
      entry.body = body.toString("latin1");
      if (stream.destroyed) return;
      const failing = head["x-grpc-fail"];
      if (typeof failing === "string") {
        const failure = { ":status": 200, "content-type": "application/grpc", "grpc-status": failing };
        stream.respond({ ...failure, "grpc-message": "as asked" }, { endStream: true });
        return;
      }
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "x-last": "yes" }));
      stream.end(body);
    });
  }

  /** Answers, without waiting for a body, with the bytes of `x-bytes`, each `%xx` one; then does as `x-ending` says. */
  #playScript(socket: Socket): void {
    let text = "";
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      // What is left of the body before it is passed over.
      text = text.slice(Math.max(0, text.search(/[A-Z]+ \S+ HTTP\/1\.1\r\n/)));
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return;
      const [line = "", ...fields] = text.slice(0, end).split("\r\n");
      text = text.slice(end + 4);
      const value = (name: string) => fields.find((field) => field.startsWith(`${name}: `))?.slice(name.length + 2);
      this.received.push({ line: line.replace(/ HTTP.*/, ""), headers: [], body: "" });
      const answer = (value("x-bytes") ?? "").replace(/%(..)/g, (_, hex: string) =>
        String.fromCharCode(Number.parseInt(hex, 16)),
      );
      socket.write(answer, "latin1", () => {
        if (value("x-ending") === "close") socket.end();
        else if (value("x-ending") === "reset") socket.resetAndDestroy();
      });
    });
  }

  [Symbol.dispose](): void {
    this.#scripted.close();
    this.#http1.closeAllConnections();
    this.#http1.close();
    this.#http2.close();
  }
}
