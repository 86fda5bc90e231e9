import { request } from "node:http";
import { connect } from "node:net";
import { describe, expect, jest, test } from "@jest/globals";
import { Readiness } from "#shared/lifecycle/readiness.ts";
import { until } from "#shared/testing/loopback.ts";
import { Logging } from "../logging.ts";
import { MetricsRegistry } from "../metrics.ts";
import { adminRoutes } from "./admin-routes.ts";
import { metricsRoutes } from "./metrics-routes.ts";
import { openHttpServer, type Handler } from "./open-server.ts";
import { readinessRoutes } from "./readiness-routes.ts";
import { brotliDecompressSync, gunzipSync, inflateSync, zstdDecompressSync } from "node:zlib";

interface Answer {
  readonly status: number | undefined;
  readonly type: string | undefined;
  readonly encoding: string | undefined;
  readonly body: Buffer;
}

/** Over the wire, since the framework has its own ideas of types and methods. */
async function withServer<T>(
  routes: Readonly<Record<string, Handler>>,
  use: (
    ask: (method: string, path: string, headers?: Record<string, string>) => Promise<Answer>,
    port: number,
  ) => Promise<T>,
): Promise<T> {
  await using server = await openHttpServer({ host: "127.0.0.1", port: 0 }, routes);
  const ask = (method: string, path: string, headers: Record<string, string> = {}) =>
    new Promise<Answer>((resolve, reject) => {
      const outgoing = request({ port: server.port, method, path, headers, agent: false }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () =>
          resolve({
            status: response.statusCode,
            type: response.headers["content-type"],
            encoding: response.headers["content-encoding"],
            body: Buffer.concat(chunks),
          }),
        );
      });
      outgoing.on("error", reject);
      outgoing.end();
    });
  return await use(ask, server.port);
}

const text = ({ status, body }: Answer) => `${status} ${body.toString()}`;

test("readiness names what is pending, to GET only", async () => {
  const readiness = new Readiness();
  const [state, proxy] = [readiness.block("state manager"), readiness.block("proxy")];
  await withServer(readinessRoutes(readiness), async (ask) => {
    expect(text(await ask("GET", "/healthz/ready"))).toBe("500 not ready, pending: proxy, state manager\n");
    state[Symbol.dispose]();
    proxy[Symbol.dispose]();
    expect(text(await ask("GET", "/healthz/ready"))).toBe("200 ready\n");
    expect((await ask("POST", "/healthz/ready")).status).toBe(405);
    expect((await ask("GET", "/else")).status).toBe(404);
  });
});

test("A8 metrics: the type that was asked for, compressed as agreed", async () => {
  const registry = new MetricsRegistry();
  registry.gauge({ name: "g", help: "h" }).series().value = 1;
  const plain = "# HELP g h.\n# TYPE g gauge\ng 1\n# EOF\n";
  const openMetrics = "application/openmetrics-text;charset=utf-8;version=1.0.0";
  const decoders = { gzip: gunzipSync, br: brotliDecompressSync, zstd: zstdDecompressSync, deflate: inflateSync };
  await withServer(metricsRoutes(registry), async (ask) => {
    for (const [accept, type] of [
      ["", "text/plain; charset=utf-8"],
      ["*/*", "text/plain; charset=utf-8"],
      ["text/plain", "text/plain; charset=utf-8"],
      ["application/openmetrics-text", openMetrics],
      ["text/plain;q=0.5, application/openmetrics-text; version=1.0.0", openMetrics],
    ] as const) {
      const answer = await ask("GET", "/stats/prometheus", { accept });
      expect([answer.type, answer.body.toString()]).toEqual([type, plain]);
    }
    for (const [encoding, decode] of Object.entries(decoders)) {
      const answer = await ask("GET", "/metrics", { "accept-encoding": encoding });
      expect([answer.encoding, decode(answer.body).toString()]).toEqual([encoding, plain]);
    }
    expect((await ask("POST", "/metrics")).status).toBe(200);
  });
});

describe("admin", () => {
  const open = () => {
    const logging = new Logging(
      "plain",
      { fallback: "info", scopes: new Map() },
      { write: () => {}, flushSync: () => {} },
    );
    const quit = jest.fn();
    return {
      quit,
      routes: adminRoutes({ name: "ztunnel", logging, quit, dump: () => ({ b: { d: 1, c: [2] }, a: null }) }),
    };
  };

  test("A9 levels are shown, changed, reset and refused", async () => {
    await withServer(open().routes, async (ask) => {
      const post = async (query: string) => text(await ask("POST", `/logging${query}`)).split("\n")[0];
      expect(await post("")).toBe("200 current log level is info");
      expect(await post("?level=debug")).toBe("200 current log level is debug");
      expect(await post("?level=access=warn")).toBe("200 current log level is access=warn,debug");
      expect(await post("?level=bogus")).toBe("400 Invalid level provided: bogus");
      expect(await post("?level=access")).toBe("400 Invalid level provided: access");
      expect(await post("?level=off")).toBe("200 current log level is access=warn,off");
      expect(await post("?reset&level=trace")).toBe("200 current log level is trace");
      expect(await post("?reset")).toBe("200 current log level is info");
      expect((await ask("GET", "/logging")).status).toBe(405);
    });
  });

  test("the dump is JSON with sorted keys", async () => {
    await withServer(open().routes, async (ask) => {
      const answer = await ask("GET", "/config_dump");
      expect(answer.type).toContain("application/json");
      expect(JSON.parse(answer.body.toString())).toEqual({ a: null, b: { c: [2], d: 1 } });
      expect(answer.body.toString().replaceAll(/\s/g, "")).toBe('{"a":null,"b":{"c":[2],"d":1}}');
    });
  });

  test("quitting takes a POST", async () => {
    const { quit, routes } = open();
    await withServer(routes, async (ask) => {
      expect((await ask("GET", "/quitquitquit")).status).toBe(405);
      expect(quit).not.toHaveBeenCalled();
      expect(text(await ask("POST", "/quitquitquit"))).toBe("200 shutdown now\n");
      expect(quit).toHaveBeenCalledTimes(1);
      expect((await ask("GET", "/")).type).toContain("text/html");
    });
  });
});

describe("the server itself", () => {
  const failing: Readonly<Record<string, Handler>> = {
    "/fails": () => {
      throw new Error("it broke");
    },
    "/echo": ({ query }) => ({ body: query.get("x") ?? "" }),
  };

  test("answers a failing handler with 500 and why", async () => {
    await withServer(failing, async (ask) => {
      expect(text(await ask("GET", "/fails"))).toBe("500 it broke\n");
      expect(text(await ask("GET", "/echo?x=a%20b"))).toBe("200 a b");
    });
  });

  test("E10 answers garbage with 400 and hangs up", async () => {
    await withServer(failing, async (_ask, port) => {
      const socket = connect(port, "127.0.0.1");
      const received = await new Promise<string>((resolve, reject) => {
        let all = "";
        socket.on("data", (chunk: Buffer) => (all += chunk.toString()));
        socket.on("error", reject);
        socket.on("close", () => resolve(all));
        socket.write("\u0000\u0001 garbage\r\n\r\n");
      });
      expect(received).toMatch(/^HTTP\/1\.1 400 /);
    });
  });

  test("lets go of a client that sends its head by the letter, and refuses a huge one", async () => {
    await withServer(failing, async (ask, port) => {
      const slow = connect(port, "127.0.0.1");
      slow.write("GET /echo HTTP/1.1\r\nx");
      const letters = setInterval(() => slow.write("x"), 100);
      const ended = new Promise<void>((resolve) => slow.on("error", () => {}).once("close", () => resolve()));
      slow.resume();
      expect((await ask("GET", "/echo?x=1", { x: "y".repeat(9_000) })).status).toBe(431);
      expect(text(await ask("GET", "/echo?x=1"))).toBe("200 1");
      await ended;
      clearInterval(letters);
    });
  });

  test("closes connections past a bound at once, and serves again when they have gone", async () => {
    await using server = await openHttpServer({ host: "127.0.0.1", port: 0 }, failing, { maxConnections: 3 });
    const sockets = Array.from({ length: 5 }, () => connect(server.port, "127.0.0.1").resume());
    for (const socket of sockets) socket.on("error", () => {});
    const gone = () => sockets.filter(({ closed }) => closed).length;
    await until(() => gone() === 2, "two are closed");
    for (const socket of sockets) socket.destroy();
    await until(() => gone() === 5, "all are gone");
    // The server hears of their end in its own time.
    const ask = () =>
      fetch(`http://127.0.0.1:${server.port}/echo?x=1`)
        .then(({ status }) => status)
        .catch(() => 0);
    let status = 0;
    while (status === 0) status = await ask();
    expect(status).toBe(200);
  });

  test("knows who asks from the same machine", async () => {
    await withServer({ "/": ({ isLocal }) => ({ body: String(isLocal) }) }, async (ask) => {
      expect(text(await ask("GET", "/"))).toBe("200 true");
    });
  });

  test("says so when its port is taken", async () => {
    await withServer(failing, async (_ask, port) => {
      await expect(openHttpServer({ host: "127.0.0.1", port }, {})).rejects.toMatchObject({ code: "EADDRINUSE" });
    });
  });
});
