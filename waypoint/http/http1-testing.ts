/** For tests of the codec: a proxy of nothing but the two codecs, and connections made of memory. */
import type { AddressInfo, Server, Socket } from "node:net";
import { connect, createServer } from "node:net";
import { Duplex } from "node:stream";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { Headers } from "./headers.ts";
import { Http1ClientConnection } from "./http1-client.ts";
import type { Http1ServerOptions, Http1ServerOwner } from "./http1-server.ts";
import { Http1ServerConnection, http1ServerDefaults } from "./http1-server.ts";
import { makeSocket } from "./static-read.ts";
import type {
  BodyReader,
  DownstreamStream,
  ResetReason,
  ResponseHead,
  ResponseReader,
  UpstreamStream,
} from "./streams.ts";
import { Sweeper } from "./sweeper.ts";

/** One end of a connection: what is written to it is kept as text, what `feed` is given is read from it. */
export class MemoryDuplex extends Duplex {
  written = "";
  isEnded = false;

  constructor() {
    super({ allowHalfOpen: true });
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.written += chunk.toString("latin1");
    done();
  }

  override _final(done: () => void): void {
    this.isEnded = true;
    done();
  }

  feed(text: string): void {
    this.push(Buffer.from(text, "latin1"));
  }
}

/** Everything that a reader was told, in words. */
export class Recorder implements ResponseReader {
  readonly events: string[] = [];
  body = "";
  trailers: Headers | undefined;
  status: number | undefined;
  headers: Headers | undefined;

  inform(head: ResponseHead): void {
    this.events.push(`inform ${head.status}`);
  }
  head(head: ResponseHead, endsWithHead: boolean): void {
    this.status = head.status;
    this.headers = head.headers;
    this.events.push(`head ${head.status}${endsWithHead ? " alone" : ""}`);
  }
  data(chunk: Buffer): void {
    this.body += chunk.toString("latin1");
  }
  end(trailers: Headers | undefined): void {
    this.trailers = trailers;
    this.events.push("end");
  }
  reset(reason: ResetReason): void {
    this.events.push(`reset ${reason}`);
  }
  drained(): void {
    this.events.push("drained");
  }
}

export interface ServerProbe {
  readonly duplex: MemoryDuplex;
  readonly connection: Http1ServerConnection;
  readonly streams: DownstreamStream[];
  readonly refusals: string[];
  readonly clock: FakeClock;
  readonly sweeper: Sweeper;
}

/** A server connection over memory; `handle` gets each request. */
export function serve(
  options: Partial<Http1ServerOptions> = {},
  handle: (stream: DownstreamStream) => void = () => {},
): ServerProbe {
  const duplex = new MemoryDuplex();
  const streams: DownstreamStream[] = [];
  const refusals: string[] = [];
  const clock = new FakeClock();
  const sweeper = new Sweeper(clock);
  const owner: Http1ServerOwner = {
    onRequest: (stream) => {
      streams.push(stream);
      handle(stream);
    },
    onRefused: ({ details }) => refusals.push(details),
  };
  const connection = new Http1ServerConnection(duplex, owner, { ...http1ServerDefaults, ...options }, sweeper);
  return { duplex, connection, streams, refusals, clock, sweeper };
}

/** Answers every request with 200 and what it was. */
export function echo(stream: DownstreamStream): void {
  const { method, path, authority } = stream.request;
  const recorder = new Recorder();
  recorder.end = (trailers) => {
    const names = trailers?.pairs.join("=") ?? "";
    const text = Buffer.from(`${method} ${authority} ${path} [${recorder.body}] ${names}`, "latin1");
    stream.respond({ status: 200, headers: new Headers(["content-length", String(text.length)]) }, false);
    stream.write(text);
    stream.end();
  };
  stream.read(recorder);
}

/** Forwards a request over a connection of its own pool, as plainly as can be. */
class Forwarding implements ResponseReader, BodyReader {
  readonly #down: DownstreamStream;
  readonly #up: UpstreamStream;
  #isAnswered = false;

  constructor(down: DownstreamStream, connection: Http1ClientConnection) {
    this.#down = down;
    this.#up = connection.send(down.request, down.endsWithHead, this);
    down.read({
      data: (chunk) => {
        if (!this.#up.write(chunk)) down.pause();
      },
      end: (trailers) => this.#up.end(trailers),
      reset: () => this.#up.reset("local-reset"),
      drained: () => this.#up.resume(),
    });
  }
  inform(head: ResponseHead): void {
    this.#down.inform(head);
  }
  head(head: ResponseHead, endsWithHead: boolean): void {
    this.#isAnswered = true;
    this.#down.respond(head, endsWithHead);
  }
  data(chunk: Buffer): void {
    if (!this.#down.write(chunk)) this.#up.pause();
  }
  end(trailers: Headers | undefined): void {
    this.#down.end(trailers);
  }
  reset(reason: ResetReason): void {
    if (this.#isAnswered) this.#down.reset(reason);
    else this.#down.respond({ status: 502, headers: new Headers(["x-reset", reason]) }, true);
  }
  drained(): void {
    this.#down.resume();
  }
}

export async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

export interface TestProxy extends AsyncDisposable {
  readonly port: number;
}

/** A proxy on a port of its own in front of `originPort`. */
export async function openProxy(originPort: number, options: Partial<Http1ServerOptions> = {}): Promise<TestProxy> {
  const idle: Http1ClientConnection[] = [];
  const sockets = new Set<Socket>();
  const connections = new Set<Http1ServerConnection>();
  const pool = {
    connectionIdle: (connection: Http1ClientConnection) => void idle.push(connection),
    connectionClosed: (connection: Http1ClientConnection) => {
      const at = idle.indexOf(connection);
      if (at >= 0) idle.splice(at, 1);
    },
  };
  const take = () => {
    for (let found = idle.pop(); found !== undefined; found = idle.pop()) if (found.isUsable) return found;
    const socket = makeSocket();
    sockets.add(socket);
    return new Http1ClientConnection(socket.connect(originPort, "127.0.0.1"), pool);
  };
  const sweeper = new Sweeper(new FakeClock());
  const owner: Http1ServerOwner = { onRequest: (stream) => void new Forwarding(stream, take()) };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    connections.add(new Http1ServerConnection(socket, owner, { ...http1ServerDefaults, ...options }, sweeper));
  });
  const port = await listen(server);
  return {
    port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Sends bytes and collects everything until the other side closes. */
export function exchangeBytes(port: number, ...pieces: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    let text = "";
    socket.setNoDelay(true);
    socket.on("data", (chunk) => (text += chunk.toString("latin1")));
    socket.on("error", reject);
    socket.on("end", () => {
      socket.destroy();
      resolve(text);
    });
    for (const piece of pieces) socket.write(piece, "latin1");
  });
}

/** Lets streams and timers that are due have their turn. */
export async function turns(count = 3): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}
