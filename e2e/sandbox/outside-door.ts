import { createServer, type Server, type Socket } from "node:net";
import process from "node:process";
import type { FromInner, ToInner } from "./messages.ts";

/** A connection from inside waits this long for the outer process to reach the other side. */
const dialTimeoutMs = 15_000;

/** Listens inside the sandbox and has the outer process, which is in the machine's network, make the way on. */
export async function openOutsideDoor(addresses: readonly string[], ports: readonly number[]): Promise<void> {
  const waiting = new Map<number, (socket: Socket | undefined) => void>();
  let nextId = 1;
  process.on("message", (message: ToInner, handle: unknown) => {
    if (message.kind === "dialed")
      waiting.get(message.id)?.(message.error === undefined ? (handle as Socket) : undefined);
  });
  const dial = (port: number) =>
    new Promise<Socket | undefined>((resolve) => {
      const id = nextId++;
      const timer = setTimeout(() => done(undefined), dialTimeoutMs);
      const done = (socket: Socket | undefined) => {
        clearTimeout(timer);
        waiting.delete(id);
        resolve(socket);
      };
      waiting.set(id, done);
      process.send?.({ kind: "dial", id, port } satisfies FromInner);
    });
  const serve = async (near: Socket, port: number) => {
    near.on("error", () => near.destroy());
    const far = await dial(port);
    if (far === undefined) {
      near.resetAndDestroy();
      return;
    }
    far.on("error", () => near.destroy());
    far.on("close", () => near.destroy());
    near.on("close", () => far.destroy());
    near.pipe(far);
    far.pipe(near);
  };
  for (const address of addresses) {
    for (const port of ports) {
      const server: Server = createServer(
        { allowHalfOpen: true, pauseOnConnect: true },
        (near) => void serve(near, port),
      );
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, address, resolve);
      });
    }
  }
}
