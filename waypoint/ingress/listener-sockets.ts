/** The sockets of its own that a listener is bound to. */
import { createServer, type Server } from "node:net";
import { explain, type MeshError } from "#shared/errors/mesh-error.ts";
import { hostPort } from "#shared/net/ip.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { listenAt } from "#shared/sockets/listen.ts";
import { originalDestination } from "#shared/sockets/original-destination.ts";
import { endsOf } from "#shared/sockets/socket-ends.ts";
import type { BindAddress } from "./compiled-listener.ts";
import type { ListenerRuntime } from "./listener-runtime.ts";

export interface BoundSocket {
  readonly address: BindAddress;
  /** In use, where 0 was asked for. */
  readonly port: number;
  readonly server: Server;
}

/** @throws MeshError SYSTEM_CALL_FAILED naming the address; what was bound before it is closed again */
export function bindAll(
  addresses: readonly BindAddress[],
  backlog: number | undefined,
  runtime: () => ListenerRuntime,
  log: Logger,
): readonly BoundSocket[] {
  const bound: BoundSocket[] = [];
  try {
    for (const address of addresses) bound.push(bindOne(address, backlog, runtime, log));
    return bound;
  } catch (error) {
    closeAll(bound);
    throw error as MeshError;
  }
}

export function closeAll(sockets: readonly BoundSocket[]): void {
  for (const { server } of sockets) server.close();
}

function bindOne(
  address: BindAddress,
  backlog: number | undefined,
  runtime: () => ListenerRuntime,
  log: Logger,
): BoundSocket {
  const { fd, port } = listenAt(address.ip, address.port, backlog);
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const ends = endsOf(socket);
    const target = runtime();
    const original = target.listener.usesOriginalDestination ? originalDestination(socket) : undefined;
    if (ends === undefined) socket.destroy();
    else target.accept({ end: socket, source: ends.peer, destination: original ?? ends.local });
  });
  server.on("error", (error) =>
    log.warn({ address: hostPort(address.ip, port), error: explain(error) }, "cannot accept a connection"),
  );
  server.listen({ fd });
  return { address, port, server };
}
