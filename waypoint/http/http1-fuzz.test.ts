/** Whatever comes, in whatever pieces: the same is read, and nothing throws or hangs. */
import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { Headers } from "./headers.ts";
import { Http1ClientConnection } from "./http1-client.ts";
import { MemoryDuplex, Recorder, echo, serve, turns } from "./http1-testing.ts";
import type { DownstreamStream } from "./streams.ts";

/** Strings of these characters. */
const text = (characters: string, minLength: number, maxLength: number) =>
  fc.string({ unit: fc.constantFrom(...characters.split("")), minLength, maxLength });
const range = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => String.fromCharCode(from + i)).join("");

const token = text("!#$%&'*+-.^_`|~09AZaz", 1, 20);
const value = text(`${range(0x20, 0x7e)}\t\x80\xe9\xff`, 0, 30).map((padded) => padded.replace(/^[ \t]+|[ \t]+$/g, ""));
const reserved = new Set(
  (
    "host connection content-length transfer-encoding upgrade expect te keep-alive proxy-connection content-type cookie " +
    "authorization"
  ).split(" "),
);
const fields = fc.array(
  fc.tuple(
    token.filter((name) => !reserved.has(name.toLowerCase())),
    value,
  ),
  { maxLength: 8 },
);
const path = text(`!"${range(0x24, 0x7e)}`, 0, 40).map((rest) => `/${rest}`);
const body = fc.array(text(range(0, 0xff), 1, 50), { maxLength: 4 });

interface Message {
  readonly method: string;
  readonly path: string;
  readonly fields: [string, string][];
  readonly body: string[];
  readonly isChunked: boolean;
}
const message: fc.Arbitrary<Message> = fc.record({
  method: fc.constantFrom("GET", "POST", "PATCH", "X-METHOD"),
  path,
  fields,
  body,
  isChunked: fc.boolean(),
});

function textOf({ method, path: target, fields: own, body: pieces, isChunked }: Message): string {
  const lines = own.map(([name, content]) => `${name}: ${content}\r\n`).join("");
  const start = `${method} ${target} HTTP/1.1\r\nHost: a\r\n${lines}`;
  const whole = pieces.join("");
  if (!isChunked) return `${start}Content-Length: ${whole.length}\r\n\r\n${whole}`;
  const chunks = pieces.map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`).join("");
  return `${start}Transfer-Encoding: chunked\r\n\r\n${chunks}0\r\n\r\n`;
}

/** Cuts a text at these places, taken modulo its length. */
function cut(whole: string, places: readonly number[]): string[] {
  const at = [...new Set(places.map((place) => place % (whole.length + 1)))].toSorted((a, b) => a - b);
  return [0, ...at].map((start, i) => whole.slice(start, at[i] ?? whole.length)).filter((piece) => piece !== "");
}

/** What a server reads from these pieces, each in a turn of its own. */
async function readAll(pieces: readonly string[]): Promise<unknown> {
  const seen: unknown[] = [];
  const { duplex, refusals } = serve({}, (stream: DownstreamStream) => {
    const recorder = new Recorder();
    const { method, path: target, headers } = stream.request;
    const entry = { method, target, pairs: [...headers.pairs], body: "" };
    seen.push(entry);
    recorder.end = () => {
      entry.body = recorder.body;
      stream.respond({ status: 200, headers: new Headers() }, true);
    };
    stream.read(recorder);
  });
  for (const piece of pieces) {
    duplex.feed(piece);
    await turns(1);
  }
  duplex.push(null);
  await turns();
  const { written, isEnded } = duplex;
  return { seen, refusals, written: written.replace(/date: .*/, ""), isEnded };
}

const places = fc.array(fc.nat(2_000), { maxLength: 12 });
const nasty = fc.array(
  fc.constantFrom(
    ..."GET POST / HTTP/1.1 \r\n \r \n : Host:a Content-Length: Transfer-Encoding: chunked 0 5 f ; \0 \t , \x80".split(
      " ",
    ),
    " ",
    "\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\n",
    "Transfer-Encoding: chunked\r\n\r\n",
    "Content-Length: 3\r\n\r\nabc",
  ),
  { maxLength: 30 },
);

describe("whatever comes", () => {
  test("messages are read as they were written, however they are cut", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 3 }), places, async (messages, at) => {
        const sent = messages.map(textOf).join("");
        const { seen } = (await readAll(cut(sent, at))) as { seen: unknown[] };
        expect(seen).toEqual(
          messages.map((one) => ({
            method: one.method,
            target: one.path,
            pairs: [
              ...one.fields.flatMap(([name, content]) => [name.toLowerCase(), content]),
              ...(one.isChunked ? [] : ["content-length", String(one.body.join("").length)]),
            ],
            body: one.body.join(""),
          })),
        );
      }),
      { numRuns: 150 },
    );
  });

  test("nonsense is read the same in any pieces", async () => {
    await fc.assert(
      fc.asyncProperty(nasty, places, async (parts, at) => {
        const sent = parts.join("");
        expect(await readAll(cut(sent, at))).toEqual(await readAll([sent]));
      }),
      { numRuns: 300 },
    );
  });

  test("byte for byte", async () => {
    const sent = textOf({ method: "POST", path: "/a", fields: [["X-A", "b"]], body: ["hello", "!"], isChunked: true });
    expect(await readAll(sent.split(""))).toEqual(await readAll([sent]));
  });

  test("random bytes neither throw nor hang", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.boolean(), async (bytes, isAnswer) => {
        const sent = Buffer.from(bytes).toString("latin1");
        const server = serve({}, echo);
        server.duplex.feed(isAnswer ? sent : `GET ${sent}`);
        const duplex = new MemoryDuplex();
        const owner = { connectionIdle: () => {}, connectionClosed: () => {} };
        const recorder = new Recorder();
        const request = { method: "GET", scheme: "http", authority: "a", path: "/", headers: new Headers() };
        new Http1ClientConnection(duplex, owner).send(request, true, recorder);
        duplex.feed(isAnswer ? `HTTP/1.1 200 OK\r\n${sent}` : sent);
        await turns(1);
        duplex.push(null);
        await turns();
        expect(recorder.events.filter((event) => /^end|^reset/.test(event))).toHaveLength(1);
        server.duplex.destroy();
      }),
      { numRuns: 300 },
    );
  });

  test("what the client writes, the server reads", async () => {
    await fc.assert(
      fc.asyncProperty(message, async ({ method, path: target, fields: own, body: pieces, isChunked }) => {
        const { duplex, streams } = serve();
        const wire = new MemoryDuplex();
        const connection = new Http1ClientConnection(wire, { connectionIdle: () => {}, connectionClosed: () => {} });
        const whole = pieces.join("");
        const pairs = own.flatMap(([name, content]) => [name.toLowerCase(), content]);
        if (!isChunked) pairs.push("content-length", String(whole.length));
        const request = { method, scheme: "http", authority: "a:1", path: target, headers: new Headers(pairs) };
        const stream = connection.send(request, false, new Recorder());
        for (const piece of pieces) stream.write(Buffer.from(piece, "latin1"));
        stream.end();
        await turns(1);
        duplex.feed(wire.written);
        await turns(1);
        const recorder = new Recorder();
        const [read] = streams;
        read?.read(recorder);
        expect(read?.request).toMatchObject({ method, path: target, authority: "a:1", headers: { pairs } });
        expect(recorder).toMatchObject({ body: whole, events: ["end"] });
        duplex.destroy();
      }),
      { numRuns: 150 },
    );
  });

  test("a head that comes in drops costs no more than its size", async () => {
    const { duplex, refusals } = serve();
    const before = process.cpuUsage();
    duplex.feed("GET / HTTP/1.1\r\nHost: a\r\nX-A: ");
    for (let i = 0; i < 62_000; i++) duplex.feed("a");
    await turns();
    expect(refusals).toEqual(["http1.headers_too_large"]);
    expect(process.cpuUsage(before).user / 1_000).toBeLessThan(5_000);
  });
});
