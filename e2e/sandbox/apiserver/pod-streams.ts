import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { createWebSocketStream, WebSocketServer } from "ws";
import type { Logger } from "#shared/observe/logger.ts";
import { ApiError, type StatusObject } from "./api-error.ts";
import type { Authenticator } from "./authenticator.ts";
import { authorize, refusalText } from "./authorizer.ts";
import { runCommand, runOverSpdy, WebSocketChannels, type CommandRequest } from "./exec-channels.ts";
import type { KubeObject, MemoryObjectStore } from "./object-store.ts";
import { runningPod } from "./pod-actions.ts";
import type { PodRuntime } from "./pod-runtime.ts";
import { forwardOverChannels, forwardOverSpdy, readPorts } from "./port-forward.ts";
import { readRequest, readUrl } from "./request-info.ts";

export interface StreamDependencies {
  readonly store: MemoryObjectStore;
  readonly runtime: PodRuntime;
  readonly authenticator: Authenticator;
  readonly log: Logger;
}

type Action = "exec" | "attach" | "portforward";

const tunnelProtocol = "SPDY/3.1+portforward.k8s.io";
/** Sub-protocols over WebSocket, the preferred one first. */
const webSocketProtocols: Readonly<Record<Action, readonly string[]>> = {
  exec: ["v5.channel.k8s.io", "v4.channel.k8s.io"],
  attach: ["v5.channel.k8s.io", "v4.channel.k8s.io"],
  portforward: [tunnelProtocol, "v4.channel.k8s.io", "portforward.k8s.io"],
};
/** Sub-protocols over SPDY. */
const spdyProtocols: Readonly<Record<Action, readonly string[]>> = {
  exec: ["v4.channel.k8s.io"],
  attach: ["v4.channel.k8s.io"],
  portforward: ["portforward.k8s.io"],
};

/** Streams open at once. */
const maxStreams = 256;
/** Largest WebSocket message: kubectl sends 32 KiB pieces. */
const maxMessageBytes = 4 * 1024 * 1024;

/** Answers the requests that leave HTTP: exec, attach and port-forward, over WebSocket or SPDY. */
export class PodStreams {
  readonly #deps: StreamDependencies;
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    maxPayload: maxMessageBytes,
    handleProtocols: (offered, request) => {
      const action = actionOf(request);
      return webSocketProtocols[action ?? "exec"].find((protocol) => offered.has(protocol)) ?? false;
    },
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
    const { path: pathname, query } = readUrl(request.url);
    const action = actionOf(request);
    const asked = readRequest("GET", pathname, query);
    if (asked.kind !== "resource" || action === undefined)
      throw new ApiError("NotFound", "the server could not find the requested resource");
    this.#check(request, action, asked.namespace, asked.name);
    if (this.#open.size >= maxStreams)
      throw new ApiError("TooManyRequests", `more than ${maxStreams} streams are open`);
    const pod = runningPod(this.#deps.store, asked.namespace, asked.name);
    this.#open.add(socket);
    socket.on("close", () => this.#open.delete(socket));
    if (request.headers.upgrade?.toLowerCase() === "websocket")
      this.#overWebSocket(request, socket, head, { action, pod, query });
    else this.#overSpdy(request, socket, head, { action, pod, query });
  }

  /** A stream may be opened by GET or POST; each needs the right that goes with its method. */
  #check(request: IncomingMessage, subresource: Action, namespace = "", name = ""): void {
    const user = this.#deps.authenticator.authenticate(request.headers);
    const verb = request.method === "POST" ? "create" : "get";
    const asked = { kind: "resource", verb, group: "", resource: "pods", subresource, namespace, name } as const;
    if (!authorize(user, asked, this.#deps.store).allowed) throw new ApiError("Forbidden", refusalText(user, asked));
  }

  #command(action: "exec" | "attach", pod: KubeObject, query: URLSearchParams): CommandRequest {
    return { runtime: this.#deps.runtime, log: this.#deps.log, pod, action, query };
  }

  #overWebSocket(request: IncomingMessage, socket: Duplex, head: Buffer, { action, pod, query }: Wanted): void {
    const { runtime, log } = this.#deps;
    const ports =
      action === "portforward" && !offers(request, "sec-websocket-protocol", tunnelProtocol) ? readPorts(query) : [];
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      webSocket.on("error", () => webSocket.terminate());
      if (action !== "portforward")
        void runCommand(this.#command(action, pod, query), new WebSocketChannels(webSocket, query));
      else if (webSocket.protocol === tunnelProtocol)
        forwardOverSpdy(createWebSocketStream(webSocket), Buffer.alloc(0), { runtime, pod, log });
      else forwardOverChannels(webSocket, ports, { runtime, pod, log });
    });
  }

  #overSpdy(request: IncomingMessage, socket: Duplex, head: Buffer, { action, pod, query }: Wanted): void {
    const { runtime, log } = this.#deps;
    if (request.headers.upgrade?.toLowerCase() !== "spdy/3.1") {
      throw new ApiError(
        "BadRequest",
        `unable to upgrade: unsupported protocol "${request.headers.upgrade ?? ""}": use websocket or SPDY/3.1`,
      );
    }
    const protocol = spdyProtocols[action].find((one) => offers(request, "x-stream-protocol-version", one));
    if (protocol === undefined)
      throw new ApiError(
        "BadRequest",
        `unable to negotiate a protocol: this server speaks ${spdyProtocols[action].join(", ")}`,
      );
    socket.write(
      [
        "HTTP/1.1 101 Switching Protocols",
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        `X-Stream-Protocol-Version: ${protocol}`,
        "",
        "",
      ].join("\r\n"),
    );
    if (action === "portforward") forwardOverSpdy(socket, head, { runtime, pod, log });
    else runOverSpdy(socket, head, this.#command(action, pod, query));
  }
}

interface Wanted {
  readonly action: Action;
  readonly pod: KubeObject;
  readonly query: URLSearchParams;
}

function actionOf(request: IncomingMessage): Action | undefined {
  const action = /^\/api\/v1\/namespaces\/[^/]+\/pods\/[^/]+\/(exec|attach|portforward)$/u.exec(
    (request.url ?? "").split("?")[0] ?? "",
  )?.[1];
  return action as Action | undefined;
}

function offers(request: IncomingMessage, header: string, protocol: string): boolean {
  return [request.headers[header] ?? []]
    .flat()
    .some((value) => value.split(",").some((one) => one.trim() === protocol));
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
