import { expect, test } from "@jest/globals";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { connect as connectTls } from "node:tls";
import fc from "#shared/testing/properties.ts";
import { inspect, type Inspection } from "./inspect.ts";

const both = { http: true, tls: true };
const http = (protocol: "http/1.0" | "http/1.1" | "h2c"): Inspection => ({ kind: "http", protocol });
const more: Inspection = { kind: "more" };
const other: Inspection = { kind: "other" };

// prettier-ignore
test.each<[string, Inspection, string]>([ // bytes       finding             why
  ["GET / HTTP/1.1\r\n",                        http("http/1.1"),   "a request line"],
  ["\r\nGET / HTTP/1.0\r\n",                    http("http/1.0"),   "after an empty line"],
  ["GET / HTTP/1.1\nHost: a\r\n",               http("http/1.1"),   "a bare line feed is the codec's to refuse"],
  ["PROPFIND /a%20b?c HTTP/1.1\r\nx",           http("http/1.1"),   "any method"],
  ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",          http("h2c"),        "HTTP/2"],
  ["PRI * HTTP/2.0\r\n",                        more,               "a part of its preface"],
  ["GE",                                        more,               "a method may follow"],
  ["GET /",                                     more,               "a target is not complete"],
  ["GET / HTTP/1.1",                            more,               "nor is a version"],
  ["*1\r\n$4\r\nPING\r\n",                      other,              "Redis"],
  ["PING\r\n",                                  other,              "Redis by hand"],
  ["SET a b\r\n",                               other,              "three words, but no version"],
  ["GET / HTTP/2.0\r\n",                        other,              "no such version of HTTP/1"],
  ["GET /\r\n",                                 other,              "HTTP/0.9"],
  ["GET a b HTTP/1.1\r\n",                      other,              "too many words"],
  ["\u0000\u0000\u0000\u0001",                  other,              "binary"],
  [`GET /${"a".repeat(9_000)}`,                 other,              "longer than any request line that is looked at"],
  ["a".repeat(40),                              other,              "no method is so long"],
  ["\u0016\u0003\u0001",                        more,               "a TLS record"],
  ["\u0016\u0004\u0001\u0000\u0005",            other,              "no TLS version"],
  ["\u0016\u0003\u0001\u0000\u0000",            other,              "an empty record"],
  ["\u0016\u0003\u0001\u0000\u0004\u0002\u0000\u0000\u0000", other, "another handshake message"],
])("%j: %j (%s)", (text, finding) => {
  expect(inspect(Buffer.from(text, "latin1"), both)).toEqual(finding);
});

test("looks for nothing that it was not told to look for, and an end decides", () => {
  expect(inspect(Buffer.from("GET / HTTP/1.1\r\n"), { http: false, tls: true })).toEqual(other);
  expect(inspect(Buffer.from("\u0016\u0003\u0001"), { http: true, tls: false })).toEqual(other);
  expect(inspect(Buffer.from("GET"), both, true)).toEqual(other);
});

async function clientHello(options: { servername?: string; ALPNProtocols?: string[] }): Promise<Buffer> {
  const bytes = Promise.withResolvers<Buffer>();
  const server = createServer((socket) => {
    socket.once("data", (chunk: Buffer) => {
      bytes.resolve(chunk);
      socket.destroy();
      server.close();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as import("node:net").AddressInfo;
  const socket = connectTls({ socket: connect(port, "127.0.0.1"), rejectUnauthorized: false, ...options });
  socket.on("error", () => {});
  return bytes.promise;
}

test("reads a real ClientHello, whole, by the byte, and split over records", async () => {
  const bytes = await clientHello({ servername: "Shop.example.com", ALPNProtocols: ["h2", "http/1.1"] });
  const finding = { kind: "tls", serverName: "shop.example.com", alpn: ["h2", "http/1.1"] };
  expect(inspect(bytes, both)).toEqual(finding);
  for (let length = 1; length < bytes.length; length += 7) {
    expect(inspect(bytes.subarray(0, length), both)).toEqual(more);
  }
  const body = bytes.subarray(5);
  const records: Buffer[] = [];
  for (let at = 0; at < body.length; at += 50) {
    const part = body.subarray(at, at + 50);
    records.push(Buffer.from([0x16, 3, 1, 0, part.length]), part);
  }
  expect(inspect(Buffer.concat(records), both)).toEqual(finding);
  expect(inspect(await clientHello({}), both)).toEqual({ kind: "tls", serverName: "", alpn: [] });
});

test("never throws, and never changes its mind", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (random, tls) => {
      const bytes = Buffer.from(tls ? [0x16, 3, 1, ...random] : random);
      const findings = Array.from({ length: bytes.length + 1 }, (_, length) =>
        inspect(bytes.subarray(0, length), both),
      );
      const first = findings.findIndex(({ kind }) => kind !== "more");
      const decided = first < 0 ? [] : findings.slice(first);
      expect(decided).toEqual(decided.map(() => decided[0]));
    }),
  );
});
