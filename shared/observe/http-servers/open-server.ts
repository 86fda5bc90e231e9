/** Small HTTP/1.1 servers for people, scrapers and probes. */
import type { IncomingHttpHeaders } from "node:http";
import type { FastifyInstance } from "fastify";
import { isLoopback, tryIp } from "#shared/net/ip.ts";

export interface HttpRequest {
  readonly method: string;
  /** Who asks is on this machine, or in the same pod. */
  readonly isLocal: boolean;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
}

export interface HttpReply {
  /** 200 if left out. */
  readonly status?: number;
  /** Plain text if left out. */
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
}

/** Answers every method of a path. What it throws becomes a 500 with the message. */
export type Handler = (request: HttpRequest) => HttpReply | Promise<HttpReply>;

export interface HttpServer extends AsyncDisposable {
  /** The port in use, where 0 was asked for. */
  readonly port: number;
}

const plainText = "text/plain; charset=utf-8";
/** A caller that sends no complete header within this time is disconnected, as by Istio's ztunnel. */
const headersTimeoutMs = 2_000;
/** And one that sends no complete body within this time. */
const requestTimeoutMs = 10_000;
/** A probe, a few scrapers, a person; so many that who only wants to shut those out has to try hard. */
const maxConnectionsDefault = 2_048;

/**
 * Listens on `host`; closing waits for answers in flight. The wildcard `::` falls back to IPv4 where the machine has
 * no IPv6.
 *
 * @throws the system's error where the port is taken
 */
export async function openHttpServer(
  { host, port }: { readonly host: string; readonly port: number },
  routes: Readonly<Record<string, Handler>>,
  { maxConnections = maxConnectionsDefault }: { readonly maxConnections?: number } = {},
): Promise<HttpServer> {
  const server = await makeServer(routes);
  server.server.maxConnections = maxConnections;
  try {
    await server.listen({ host, port });
  } catch (error) {
    await server.close();
    const code = (error as NodeJS.ErrnoException).code;
    if (host !== "::" || (code !== "EAFNOSUPPORT" && code !== "EADDRNOTAVAIL")) throw error;
    return openHttpServer({ host: "0.0.0.0", port }, routes, { maxConnections });
  }
  const address = server.server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    [Symbol.asyncDispose]: async () => {
      const closed = server.close();
      server.server.closeIdleConnections();
      await closed;
    },
  };
}

async function makeServer(routes: Readonly<Record<string, Handler>>): Promise<FastifyInstance> {
  const { fastify } = await import("fastify");
  const server = fastify({
    http: { headersTimeout: headersTimeoutMs, connectionsCheckingInterval: headersTimeoutMs / 2, maxHeaderSize: 8_192 },
    requestTimeout: requestTimeoutMs,
    bodyLimit: 8_192,
    exposeHeadRoutes: false,
  });
  // Bodies are not read for meaning; any type of one is let pass.
  server.removeAllContentTypeParsers();
  server.addContentTypeParser("*", { parseAs: "string" }, (_request, _body, done) => done(null));
  for (const [path, handler] of Object.entries(routes)) {
    server.all(path, async (request, reply) => {
      const query = new URLSearchParams(request.raw.url?.split("?")[1] ?? "");
      const peer = tryIp(request.socket.remoteAddress ?? "");
      const isLocal = peer !== undefined && isLoopback(peer);
      const answer = await handler({ method: request.method, isLocal, query, headers: request.headers });
      return reply
        .code(answer.status ?? 200)
        .headers({ ...answer.headers })
        .type(answer.contentType ?? plainText)
        .send(typeof answer.body === "string" ? answer.body : Buffer.from(answer.body));
    });
  }
  server.setNotFoundHandler((_request, reply) => reply.code(404).type(plainText).send("not found\n"));
  server.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) =>
    reply
      .code(error.statusCode ?? 500)
      .type(plainText)
      .send(`${error.message}\n`),
  );
  return server;
}
