/** Real TCP on loopback for tests: listeners on free ports, pairs of connected sockets, patience without sleeping. */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

export interface LoopbackServer extends AsyncDisposable {
  readonly port: number;
  readonly sockets: ReadonlySet<Socket>;
}

/** Half-open sockets are allowed; leaving the scope closes the listener and every socket that it accepted. */
export async function listenLoopback(onSocket: (socket: Socket) => void, port = 0): Promise<LoopbackServer> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    onSocket(socket);
  });
  server.listen(port, "0.0.0.0"); // any address of 127.0.0.0/8
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export async function connectLoopback(port: number): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
  await once(socket, "connect");
  socket.on("error", () => {});
  return socket;
}

/** Two ends of one connection. */
export async function socketPair(): Promise<readonly [Socket, Socket]> {
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer({ allowHalfOpen: true }, accepted.resolve);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = await connectLoopback((server.address() as AddressInfo).port);
  const served = await accepted.promise;
  served.on("error", () => {});
  server.close();
  return [client, served];
}

/** A port of 127.0.0.1 that refuses connections: one that is open has it, so that nobody comes to listen there. */
export async function refusingPort(): Promise<AsyncDisposable & { readonly port: number }> {
  const [client, served] = await socketPair();
  return {
    port: client.localPort ?? 0,
    [Symbol.asyncDispose]: async () => [client, served].forEach((socket) => socket.destroy()),
  };
}

/**
 * A port that stays while the server behind it goes and another comes, which would have to hope that nobody else took
 * its port meanwhile. Leads nowhere at first: connections are reset.
 */
export async function openDoor(): Promise<LoopbackServer & { leadTo(port: number | undefined): void }> {
  let behind: number | undefined;
  const listener = await listenLoopback((socket) => {
    if (behind === undefined) {
      socket.resetAndDestroy();
      return;
    }
    const inside = connect({ port: behind, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    inside.on("error", () => socket.destroy()).on("close", () => socket.destroy());
    socket.on("close", () => inside.destroy());
    socket.pipe(inside).pipe(socket);
  });
  return { ...listener, leadTo: (port) => (behind = port) };
}

/** Everything up to the end; rejects where the connection breaks instead. */
export function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  return new Promise((resolve, reject) => {
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.once("end", () => resolve(Buffer.concat(chunks)));
    socket.once("error", reject);
  });
}

/** How a connection ends for whoever reads it. */
export function endingOf(socket: Socket): Promise<"end" | "reset"> {
  if (socket.closed) return Promise.resolve(socket.readableEnded ? "end" : "reset");
  return new Promise((resolve) => {
    socket.once("end", () => resolve("end"));
    socket.once("error", () => resolve("reset"));
    socket.once("close", () => resolve("reset"));
    socket.resume();
  });
}

/** Gives the event loop turns until the condition holds. */
export async function until(condition: () => boolean, what: string, limitMs = 60_000): Promise<void> {
  const startedMs = performance.now();
  while (!condition()) {
    if (performance.now() - startedMs > limitMs) throw new Error(`did not happen within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
