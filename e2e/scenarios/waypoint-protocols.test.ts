/** What clients and servers may speak through a waypoint, and that it holds none of it in memory. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { nameOf } from "#e2e/support/cluster.ts";
import { projectRoot, type Mesh } from "#e2e/support/mesh.ts";
import type { ProcessUsage } from "#e2e/support/process-usage.ts";
import type { RawOptions } from "#e2e/support/web-client.ts";
import { client, curl, startWebMesh, webPod, webService, type Answer } from "#e2e/support/web-mesh.ts";
import { webPorts } from "#e2e/support/web.ts";

let mesh: Mesh;
const caller = { namespace: "shop", name: "caller" };

beforeAll(async () => {
  mesh = await startWebMesh(
    "protocols",
    [webPod("web", { namespace: "shop", node: "node-2" }), webService("web", "shop")],
    1,
  );
  await mesh.cluster.until(
    "requests through the waypoint",
    async () => (await ask("http://web/")).echo?.headers["x-request-id"] !== undefined,
  );
}, 120_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

const ask = (...args: readonly string[]): Promise<Answer> => curl(mesh.cluster, caller, ...args);
const shell = async (script: string): Promise<string> =>
  (await mesh.cluster.exec(caller, ["sh", "-c", script])).stdout.trim();
const raw = (port: number, steps: RawOptions["steps"]) =>
  client(mesh.cluster, caller, "raw", { host: "web", port, steps });

async function waypointKib(): Promise<number> {
  const [pod] = await mesh.cluster.pods("shop", "gateway.networking.k8s.io/gateway-name=waypoint");
  if (pod === undefined) throw new Error("There is no waypoint");
  const program = join(projectRoot, "e2e/support/process-usage.ts");
  const { stdout } = await mesh.cluster.exec(nameOf(pod), ["node", program, "waypoint/main.ts"]);
  return (JSON.parse(stdout) as ProcessUsage).rssKib;
}

const mebibyte = 1_024 * 1_024;
const large = 100 * mebibyte;
const digestOf = (bytes: number): string => {
  const hash = createHash("sha256");
  const chunk = Buffer.alloc(mebibyte, 0x61);
  for (let left = bytes; left > 0; left -= mebibyte) hash.update(chunk);
  return hash.digest("hex");
};
/** Letters `a`, as many as there are bytes. */
const letters = (bytes: number): string => `head -c ${bytes} /dev/zero | tr '\\0' a`;

describe("HTTP/1", () => {
  test("keeps connections, and takes requests that follow at once", async () => {
    const connects = await shell(`curl -s -o /dev/null -o /dev/null -w '%{num_connects} ' http://web/ http://web/two`);
    expect(connects).toBe("1 0");
    const request = (path: string) => `GET ${path} HTTP/1.1\r\nHost: web\r\n\r\n`;
    const { received } = await raw(80, [
      { send: request("/first") + request("/second") },
      { see: '"path":"/first"' },
      { see: '"path":"/second"' },
    ]);
    expect(received.match(/HTTP\/1\.1 200 OK/gu)).toHaveLength(2);
  });

  test("a client of HTTP/1.0 is told to upgrade", async () => {
    const { received, end } = await raw(80, [{ send: "GET / HTTP/1.0\r\nHost: web\r\n\r\n" }]);
    expect(received).toMatch(/^HTTP\/1\.1 426 Upgrade Required\r\n/u);
    expect(end).toBe("end");
  });

  test("100 Continue comes before the body", async () => {
    const { received } = await raw(80, [
      { send: "POST /x HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n" },
      { see: "HTTP/1.1 100 Continue\r\n\r\n" },
      { send: "hello" },
      { see: '"body":"hello"' },
    ]);
    expect(received).toContain("HTTP/1.1 200 OK");
  });

  test("chunks and trailers, byte by byte", async () => {
    const body = "5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nx-after: 1\r\n\r\n";
    const { received } = await raw(80, [
      { send: "POST /x HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nTrailer: x-after\r\n\r\n" },
      ...body.split("").map((send) => ({ send })),
      { see: '"body":"hello world"' },
      { send: "GET /next HTTP/1.1\r\nHost: web\r\n\r\n" },
      { see: '"path":"/next"' },
    ]);
    expect(received.match(/HTTP\/1\.1 200 OK/gu)).toHaveLength(2);
  });

  test("an answer that comes before the body has", async () => {
    const answer = await shell(
      `${letters(20 * mebibyte)} | curl -s -m 15 -T - -o /dev/null -w '%{http_code} %header{x-served-by}' http://web/early`,
    );
    expect(answer).toBe("413 web");
    expect((await ask("http://web/")).status).toBe(200);
  });

  test("a server that breaks off", async () => {
    const dropped = await ask("http://web/drop");
    expect(dropped.status).toBe(503);
    expect(dropped.text).toMatch(/^upstream connect error .* reset reason: connection termination$/u);
  });
});

describe("long bodies", () => {
  test.each([
    ["HTTP/1.1", "--http1.1", "http://web"],
    ["HTTP/2", "--http2-prior-knowledge", `http://web:${webPorts.http2}`],
  ])("100 MiB each way over %s, and the waypoint stays small", async (_what, flag, origin) => {
    await shell(`${letters(mebibyte)} | curl -s ${flag} -m 30 -T - ${origin}/warm`);
    const beforeKib = await waypointKib();
    const uploaded = await shell(`${letters(large)} | curl -s ${flag} -m 45 -T - ${origin}/up`);
    expect((JSON.parse(uploaded) as { readonly body: string }).body).toBe(`${large} ${digestOf(large)}`);
    const downloaded = await shell(`curl -s ${flag} -m 45 ${origin}/bytes/${large} | sha256sum`);
    expect(downloaded.split(" ")[0]).toBe(digestOf(large));
    expect((await waypointKib()) - beforeKib).toBeLessThan(80 * 1_024);
  });

  test("who reads slowly slows the server down, not the waypoint", async () => {
    const beforeKib = await waypointKib();
    const slow = shell(`curl -s -m 40 --limit-rate 20M http://web/bytes/${large} | wc -c`);
    let mostKib = 0;
    let isDone = false;
    void slow.finally(() => (isDone = true));
    await mesh.cluster.until("the slow reader", async () => {
      mostKib = Math.max(mostKib, await waypointKib());
      return isDone;
    });
    expect(await slow).toBe(String(large));
    expect(mostKib - beforeKib).toBeLessThan(60 * 1_024);
  });
});

describe("WebSocket", () => {
  test.each([
    ["a port for HTTP", "ws://web/socket"],
    ["a port that may be anything", `ws://web:${webPorts.auto}/socket`],
  ])("messages both ways on %s", async (_what, url) => {
    const outcome = await client(mesh.cluster, caller, "webSocket", {
      url,
      texts: ["one", "two"],
      binaryBytes: 300_000,
    });
    expect(outcome).toEqual({ texts: ["one", "two"], binaryBytes: 300_000, code: 4_000 });
  });
});

describe("HTTP/2", () => {
  test("on its own port, and where HTTP/1.1 is spoken behind", async () => {
    const own = await ask("--http2-prior-knowledge", `http://web:${webPorts.http2}/own`);
    expect(own.echo).toMatchObject({ protocol: "HTTP/2", path: "/own" });
    const other = await ask("--http2-prior-knowledge", "http://web/other");
    expect(other.echo).toMatchObject({ protocol: "HTTP/1.1", path: "/other" });
    const upgraded = await ask(`http://web:${webPorts.http2}/upgraded`);
    expect(upgraded.echo).toMatchObject({ protocol: "HTTP/2", path: "/upgraded" });
  });

  test("many streams at a time, by nghttp and h2load", async () => {
    const codes = await shell(`nghttp -n -v -m 20 http://web:${webPorts.http2}/delay/50 | grep -c ':status: 200'`);
    expect(codes).toBe("20");
    const load = await shell(`h2load -n 400 -c 2 -m 32 http://web:${webPorts.http2}/ | grep 'status codes'`);
    expect(load).toContain("400 2xx");
  });
});

describe("gRPC", () => {
  const target = `web:${webPorts.grpc}`;

  test("unary calls, with trailers", async () => {
    const [said] = await client(mesh.cluster, caller, "say", { target, text: "good day" });
    expect(said).toMatchObject({ code: 0, text: "web: good day", trailers: { "x-trailer": "web" } });
  });

  test("what fails says so in gRPC's words", async () => {
    const [said] = await client(mesh.cluster, caller, "say", { target, text: "fail 5" });
    expect(said).toMatchObject({ code: 5, details: "asked for NOT_FOUND" });
  });

  test("both ways at once", async () => {
    const texts = Array.from({ length: 20 }, (_, index) => `text ${index}`);
    expect(await client(mesh.cluster, caller, "chat", { target, texts })).toEqual({
      code: 0,
      texts: texts.map((text) => `web: ${text}`),
    });
  });

  test("a deadline", async () => {
    const [said] = await client(mesh.cluster, caller, "say", { target, text: "wait 5000", deadlineMs: 400 });
    expect(said?.code).toBe(4);
  });

  test("a long message", async () => {
    const times = 200_000;
    const [said] = await client(mesh.cluster, caller, "say", { target, text: "long ", times });
    expect(said?.code).toBe(0);
    expect(said?.text).toHaveLength("web: ".length + times * "long ".length);
  });
});

describe("TCP", () => {
  test("a client that has said all still hears", async () => {
    const { received, end } = await raw(webPorts.tcp, [{ send: "hello" }, { end: true }, { see: "bytes" }]);
    expect([received, end]).toEqual(["web: hello5 bytes\n", "end"]);
  });

  test("a server that speaks first", async () => {
    const { received } = await raw(webPorts.first, [
      { see: "web speaks first\n" },
      { send: "hello" },
      { see: "hello" },
    ]);
    expect(received).toBe("web speaks first\nweb: hello");
  });

  test("a hundred mebibytes there and back", async () => {
    const digest = await shell(
      `bash -c 'exec 3<>/dev/tcp/web/${webPorts.tcp}; (${letters(large).replaceAll("'", `'"'"'`)} >&3) & head -c ${large + 5} <&3 | tail -c +6 | sha256sum; wait'`,
    );
    expect(digest.split(" ")[0]).toBe(digestOf(large));
  });
});

describe("a port whose name says nothing", () => {
  const origin = `http://web:${webPorts.auto}`;

  test("HTTP/1.1", async () => {
    const answer = await ask(`${origin}/one`);
    expect(answer.echo).toMatchObject({ protocol: "HTTP/1.1", path: "/one" });
    expect(answer.echo?.headers["x-request-id"]).toBeDefined();
  });

  test("HTTP/2", async () => {
    const answer = await ask("--http2-prior-knowledge", `${origin}/two`);
    expect(answer.echo).toMatchObject({ path: "/two" });
    expect(answer.echo?.headers["x-request-id"]).toBeDefined();
  });

  test("anything else", async () => {
    const { received } = await raw(webPorts.auto, [{ send: "HELO there\n" }, { see: "HELO there\n" }, { end: true }]);
    expect(received).toContain("web: HELO there\n");
  });

  test("a client that waits for the server to speak, with a little patience", async () => {
    const { received } = await raw(webPorts.auto, [{ waitMs: 300 }, { send: "late\n" }, { see: "late\n" }]);
    expect(received).toBe("web: late\n");
  });
});
