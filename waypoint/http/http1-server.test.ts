import { describe, expect, test } from "@jest/globals";
import { Headers } from "./headers.ts";
import { echo, Recorder, serve, turns } from "./http1-testing.ts";
import type { DownstreamStream, ResponseHead } from "./streams.ts";

const request = (line: string, ...fields: string[]) => `${[line, "Host: a", ...fields].join("\r\n")}\r\n\r\n`;
const get = (...fields: string[]) => request("GET / HTTP/1.1", ...fields);
const ok = (...pairs: string[]): ResponseHead => ({ status: 200, headers: new Headers(pairs) });
const first = (streams: readonly DownstreamStream[]) => streams[0] as DownstreamStream;

describe("requests", () => {
  test("head as layers see it", async () => {
    const { duplex, streams } = serve();
    duplex.feed(
      request(
        "PUT /p?q HTTP/1.1",
        "X-One:  1 ",
        "X-Two:",
        "x-one: 2",
        "Connection: keep-alive, x-gone",
        "X-Gone: 1",
        "Keep-Alive: 5",
      ),
    );
    await turns();
    const { request: head, endsWithHead, protocol } = first(streams);
    expect({ ...head, headers: head.headers.pairs, endsWithHead, protocol }).toEqual({
      method: "PUT",
      scheme: "http",
      authority: "a",
      path: "/p?q",
      headers: ["x-one", "1", "x-two", "", "x-one", "2"],
      upgrade: undefined,
      endsWithHead: true,
      protocol: "HTTP/1.1",
    });
  });

  test.each([
    ["GET http://b:8080/p HTTP/1.1", "b:8080", "/p"],
    ["GET HTTP://b HTTP/1.1", "b", "/"],
    ["GET http://[::1]:80?q HTTP/1.1", "[::1]:80", "/?q"],
    ["OPTIONS http://b HTTP/1.1", "b", "*"],
    ["OPTIONS * HTTP/1.1", "a", "*"],
  ])("%s wins over Host", async (line, authority, path) => {
    const { duplex, streams } = serve();
    duplex.feed(request(line));
    await turns();
    expect(first(streams).request).toMatchObject({ authority, path });
  });

  test("nothing of a body is told before somebody reads", async () => {
    const { duplex, streams } = serve();
    duplex.feed(`${request("POST / HTTP/1.1", "Content-Length: 5")}hello`);
    await turns();
    const recorder = new Recorder();
    first(streams).read(recorder);
    expect(recorder).toMatchObject({ body: "hello", events: ["end"] });
  });

  test("pausing holds the body back, and its end", async () => {
    const { duplex, streams } = serve();
    duplex.feed(`${request("POST / HTTP/1.1", "Content-Length: 6")}abc`);
    await turns();
    const recorder = new Recorder();
    first(streams).read(recorder);
    first(streams).pause();
    duplex.feed("def");
    await turns();
    expect(recorder.body).toBe("abc");
    first(streams).resume();
    expect(recorder).toMatchObject({ body: "abcdef", events: ["end"] });
  });

  test("reading stops when too much waits, and goes on", async () => {
    const { duplex, streams } = serve();
    duplex.feed(request("POST / HTTP/1.1", "Content-Length: 200000"));
    for (let i = 0; i < 4; i++) duplex.feed("x".repeat(50_000));
    await turns();
    expect(duplex.isPaused()).toBe(true);
    const recorder = new Recorder();
    first(streams).read(recorder);
    await turns();
    expect(recorder.body).toHaveLength(200_000);
    expect(recorder.events).toEqual(["end"]);
  });

  test("trailers come with the end", async () => {
    const { duplex, streams } = serve();
    duplex.feed(`${request("POST / HTTP/1.1", "Transfer-Encoding: chunked")}3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n`);
    await turns();
    const recorder = new Recorder();
    first(streams).read(recorder);
    expect(recorder.trailers?.pairs).toEqual(["x-t", "1"]);
  });

  test("requests sent ahead are handled one after the other", async () => {
    const { duplex, streams } = serve();
    duplex.feed(get() + request("GET /2 HTTP/1.1") + request("GET /3 HTTP/1.1"));
    await turns();
    expect(streams).toHaveLength(1);
    first(streams).respond(ok(), true);
    expect(streams.map((stream) => stream.request.path)).toEqual(["/", "/2"]);
    (streams[1] as DownstreamStream).respond(ok(), true);
    expect(streams).toHaveLength(3);
  });

  test("a deep pipeline is not a deep stack", async () => {
    const { duplex, streams } = serve({}, echo);
    duplex.feed(get().repeat(20_000));
    await turns();
    expect(streams).toHaveLength(20_000);
  });
});

describe("answers", () => {
  const answer = async (bytes: string, act: (stream: DownstreamStream) => void, options = {}) => {
    const { duplex } = serve(options, act);
    duplex.feed(bytes);
    await turns();
    return duplex;
  };

  test.each<[string, string, (stream: DownstreamStream) => void, string]>([
    [
      "no body",
      get(),
      (s) => s.respond(ok("x-a", "1"), true),
      "HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 0\r\n\r\n",
    ],
    [
      "a length",
      get(),
      (s) => {
        s.respond(ok("content-length", "2"), false);
        s.write(Buffer.from("ok"));
        s.end();
      },
      "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
    [
      "chunks",
      get(),
      (s) => {
        s.respond(ok(), false);
        s.write(Buffer.from("ok"));
        s.write(Buffer.from("!"));
        s.end();
      },
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n",
    ],
    [
      "an empty body in chunks",
      get(),
      (s) => {
        s.respond(ok(), false);
        s.end();
      },
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    [
      "trailers, to who takes them",
      get("TE: trailers", "Connection: TE"),
      (s) => {
        s.respond(ok(), false);
        s.write(Buffer.from("ok"));
        s.end(new Headers(["x-t", "1"]));
      },
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-t: 1\r\n\r\n",
    ],
    [
      "no trailers to who did not ask",
      get(),
      (s) => {
        s.respond(ok(), false);
        s.write(Buffer.from("ok"));
        s.end(new Headers(["x-t", "1"]));
      },
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
    [
      "the length of what HEAD would have been",
      request("HEAD / HTTP/1.1"),
      (s) => {
        s.respond(ok("content-length", "5"), false);
        s.write(Buffer.from("hello"));
        s.end();
      },
      "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
    ],
    [
      "204 without length",
      get(),
      (s) => s.respond({ status: 204, headers: new Headers(["content-length", "0"]) }, true),
      "HTTP/1.1 204 No Content\r\n\r\n",
    ],
    [
      "304 with its length",
      get(),
      (s) => s.respond({ status: 304, headers: new Headers(["content-length", "9"]) }, true),
      "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
    ],
    [
      "fields of the connection are the codec's",
      get(),
      (s) => s.respond(ok("connection", "x", "transfer-encoding", "gzip", "keep-alive", "5", "upgrade", "x"), true),
      "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ],
    [
      "an interim answer first",
      get(),
      (s) => {
        s.inform({ status: 103, headers: new Headers(["link", "</a>"]) });
        s.respond(ok(), true);
      },
      "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ],
    [
      "text beyond Latin-1 as UTF-8",
      get(),
      (s) => s.respond(ok("x-a", "\u20ac"), true),
      "HTTP/1.1 200 OK\r\nx-a: \u00e2\u0082\u00ac\r\ncontent-length: 0\r\n\r\n",
    ],
  ])("%s", async (_, bytes, act, expected) => {
    expect((await answer(bytes, act)).written).toBe(expected);
  });

  test.each<[string, Headers]>([
    ["CRLF in a value", new Headers(["x-a", "1\r\nx-b: 2"])],
    ["LF in a value", new Headers(["x-a", "1\nx-b: 2"])],
    ["NUL in a value", new Headers(["x-a", "\0"])],
    ["a whole answer in a value", new Headers(["x-a", "1\r\n\r\nHTTP/1.1 200 OK"])],
    ["CRLF in a name", new Headers(["x\r\nx-b", "1"])],
    ["what becomes LF when cut to a byte", new Headers(["x-a", "1\u010ax-b: 2"])],
  ])("%s does not get out as a line of its own", async (_, headers) => {
    const duplex = await answer(get(), (stream) => stream.respond({ status: 200, headers }, true));
    expect(duplex.written).not.toMatch(/^x-b/m);
    expect(duplex.written.match(/HTTP\/1\.1/g)?.length ?? 0).toBeLessThanOrEqual(1);
  });

  test("a body longer than its length, or shorter, ends the connection", async () => {
    for (const body of ["abc", "a"]) {
      const duplex = await answer(get(), (stream) => {
        stream.respond(ok("content-length", "2"), false);
        stream.write(Buffer.from(body));
        stream.end();
      });
      expect(duplex.destroyed).toBe(true);
      expect(duplex.written).not.toContain("abc");
    }
  });

  test("head, body and end in one write", async () => {
    const writes: number[] = [];
    const { duplex } = serve({}, (stream) => {
      stream.respond(ok(), false);
      stream.write(Buffer.from("ok"));
      stream.end();
    });
    const write = duplex._write.bind(duplex);
    duplex._write = (chunk, encoding, done) => {
      writes.push(chunk.length);
      write(chunk, encoding, done);
    };
    duplex.feed(get());
    await turns();
    expect(writes).toHaveLength(1);
  });

  test("names in another spelling", async () => {
    const duplex = await answer(get(), (stream) => stream.respond(ok("x-request-id", "1"), true), {
      headerCase: "proper",
    });
    expect(duplex.written).toContain("X-Request-Id: 1");
  });

  test("names as they came", async () => {
    const duplex = await answer(
      get("X-rEQUEST-Id: 1"),
      (stream) => stream.respond({ status: 200, headers: stream.request.headers }, true),
      { headerCase: "preserve" },
    );
    expect(duplex.written).toContain("X-rEQUEST-Id: 1");
  });
});

describe("the connection", () => {
  const closeLine = /\r\nconnection: close\r\n/;

  test("an answer that does not wait for its request says that it is the last", async () => {
    const { duplex } = serve({}, (stream) => {
      stream.respond(ok("content-length", "2"), false);
      stream.write(Buffer.from("ok"));
      stream.end();
    });
    duplex.feed(`${request("POST / HTTP/1.1", "Content-Length: 9")}abc`);
    await turns();
    expect(duplex.written).toMatch(closeLine);
    expect(duplex.isEnded).toBe(true);
  });

  test("bytes of a request are its own, whatever came right behind it", async () => {
    const sent: number[] = [];
    const { duplex } = serve({}, (stream) => {
      stream.respond(ok("content-length", String(stream.request.path.length)), false);
      stream.write(Buffer.from(stream.request.path));
      stream.end();
      sent.push(stream.bytesWritten);
    });
    duplex.feed(`${request("GET /one HTTP/1.1")}${request("GET / HTTP/1.1")}junk\r\n\r\n`);
    await turns();
    expect(sent.toSorted((a, b) => a - b)).toEqual([1, 4]);
  });

  test.each<[string, string, boolean]>([
    ["HTTP/1.1 stays", get(), true],
    ["HTTP/1.1 with close does not", get("Connection: close"), false],
    ["HTTP/1.0 does not", request("GET / HTTP/1.0"), false],
    ["HTTP/1.0 with keep-alive stays", request("GET / HTTP/1.0", "Connection: keep-alive"), true],
  ])("%s", async (_, bytes, stays) => {
    const { duplex } = serve({ acceptsHttp10: true }, echo);
    duplex.feed(bytes);
    await turns();
    expect(duplex.isEnded).toBe(!stays);
    expect(closeLine.test(duplex.written)).toBe(!stays);
  });

  test("HTTP/1.0 gets no chunks, and needs no Host where there is a default", async () => {
    const { duplex, streams } = serve({ acceptsHttp10: true, defaultHost: "d" }, (stream) => {
      stream.respond(ok(), false);
      stream.write(Buffer.from("a"));
      stream.end();
    });
    duplex.feed("GET / HTTP/1.0\r\n\r\n");
    await turns();
    expect(first(streams).request.authority).toBe("d");
    expect(duplex.written).toBe("HTTP/1.0 200 OK\r\nconnection: close\r\n\r\na");
    expect(duplex.isEnded).toBe(true);
  });

  test("expect: 100-continue is answered when somebody reads, and once", async () => {
    const { duplex, streams } = serve();
    duplex.feed(request("POST / HTTP/1.1", "Content-Length: 1", "Expect: 100-continue"));
    await turns();
    expect(duplex.written).toBe("");
    expect(first(streams).request.headers.has("expect")).toBe(false);
    first(streams).read(new Recorder());
    first(streams).inform({ status: 100, headers: new Headers() });
    await turns();
    expect(duplex.written).toBe("HTTP/1.1 100 Continue\r\n\r\n");
  });

  test("a request refused before its body came is the last one", async () => {
    const { duplex } = serve({}, (stream) => stream.respond({ status: 403, headers: new Headers() }, true));
    duplex.feed(request("POST / HTTP/1.1", "Content-Length: 10", "Expect: 100-continue"));
    await turns();
    expect(duplex.written).toMatch(closeLine);
    expect(duplex.isEnded).toBe(true);
    duplex.feed(get());
    await turns();
    expect(duplex.written.match(/HTTP\/1\.1/g)).toHaveLength(1);
  });

  test("an upgrade carries raw bytes both ways, also those that came early", async () => {
    const { duplex, streams } = serve();
    const recorder = new Recorder();
    duplex.feed(`${get("Connection: Upgrade", "Upgrade: WebSocket")}early`);
    await turns();
    const stream = first(streams);
    expect(stream.request.upgrade).toBe("websocket");
    stream.read(recorder);
    expect(recorder.body).toBe("");
    stream.respond({ status: 101, headers: new Headers(["sec-websocket-accept", "x"]) }, false);
    stream.write(Buffer.from("\u0081down"));
    duplex.feed("GET / later");
    await turns();
    expect(duplex.written).toBe(
      "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n\u00c2\u0081down",
    );
    expect(recorder.body).toBe("earlyGET / later");
    duplex.push(null);
    await turns();
    expect(recorder.events).toEqual(["end"]);
    stream.end();
    await turns();
    expect(duplex.isEnded).toBe(true);
    expect(recorder.events).toEqual(["end"]);
  });

  test("who was refused an upgrade may have begun to speak it: nothing more is read", async () => {
    const { duplex, streams } = serve({}, (stream) => stream.respond({ status: 403, headers: new Headers() }, true));
    duplex.feed(get("Connection: Upgrade", "Upgrade: websocket") + get());
    await turns();
    expect(streams).toHaveLength(1);
    expect(duplex.isEnded).toBe(true);
  });

  test("CONNECT, where it is enabled", async () => {
    const { duplex, streams } = serve({ acceptsConnect: true });
    const recorder = new Recorder();
    duplex.feed("CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\nraw");
    await turns();
    first(streams).read(recorder);
    first(streams).respond(ok(), false);
    expect(first(streams).request).toMatchObject({ method: "CONNECT", authority: "b:80" });
    expect(recorder.body).toBe("raw");
  });

  test("draining an idle connection closes it", async () => {
    const { duplex, connection } = serve();
    connection.drain();
    await turns();
    expect(duplex.isEnded).toBe(true);
  });

  test("draining lets the exchange finish and says so", async () => {
    const { duplex, connection, streams } = serve();
    duplex.feed(get() + get());
    await turns();
    connection.drain();
    first(streams).respond(ok(), true);
    await turns();
    expect(duplex.written).toMatch(closeLine);
    expect(streams).toHaveLength(1);
    expect(duplex.isEnded).toBe(true);
  });

  test("a client that goes away resets its exchange", async () => {
    const { duplex, streams } = serve();
    const recorder = new Recorder();
    duplex.feed(get());
    await turns();
    first(streams).read(recorder);
    duplex.destroy();
    await turns();
    expect(recorder.events).toEqual(["end", "reset connection-termination"]);
    expect(first(streams).write(Buffer.from("late"))).toBe(true);
    first(streams).end();
  });

  test("a client that closes its half gets its answers", async () => {
    const { duplex, streams, clock } = serve();
    duplex.feed(get() + get());
    duplex.push(null);
    await turns();
    await clock.advance(500);
    first(streams).respond(ok(), true);
    await turns();
    (streams[1] as DownstreamStream).respond(ok(), true);
    await turns();
    expect(duplex.written.match(/200 OK/g)).toHaveLength(2);
    expect(duplex.isEnded).toBe(true);
  });

  test("one that has closed its half and hears nothing is taken to be gone", async () => {
    const { duplex, streams, clock } = serve();
    const recorder = new Recorder();
    duplex.feed(get());
    duplex.push(null);
    await turns();
    first(streams).read(recorder);
    await clock.advance(2_000);
    expect(recorder.events).toEqual(["end", "reset connection-termination"]);
  });

  test("a body cut off resets the exchange", async () => {
    const { duplex, streams } = serve();
    const recorder = new Recorder();
    duplex.feed(`${request("POST / HTTP/1.1", "Content-Length: 5")}ab`);
    await turns();
    first(streams).read(recorder);
    duplex.push(null);
    await turns();
    expect(recorder.events).toEqual(["reset connection-termination"]);
  });

  test("a head that does not come in time", async () => {
    const { duplex, clock, refusals } = serve({ headTimeoutMs: 5_000 });
    await clock.advance(60_000);
    duplex.feed("GET / HTTP/1.1\r\nHo");
    await turns();
    for (let i = 0; i < 4; i++) {
      await clock.advance(1_000);
      duplex.feed("s");
    }
    expect(duplex.written).toBe("");
    await clock.advance(2_000);
    expect(duplex.written).toMatch(/^HTTP\/1\.1 408 /);
    expect(refusals).toEqual(["request_header_timeout"]);
  });

  test("an idle connection is closed; one with an exchange is not", async () => {
    const idle = serve({ idleTimeoutMs: 10_000 });
    const busy = serve({ idleTimeoutMs: 10_000 });
    busy.duplex.feed(get());
    await turns();
    await idle.clock.advance(11_000);
    await busy.clock.advance(11_000);
    expect([idle.duplex.isEnded, busy.duplex.isEnded]).toEqual([true, false]);
    first(busy.streams).respond(ok(), true);
    await busy.clock.advance(11_000);
    expect(busy.duplex.isEnded).toBe(true);
  });

  test("what a refused client still sends is dropped for a while, then the connection", async () => {
    const { duplex, clock } = serve();
    duplex.feed("nonsense\r\n\r\n");
    await turns();
    expect(duplex.isEnded).toBe(true);
    expect(duplex.destroyed).toBe(false);
    duplex.feed("more".repeat(100_000));
    await clock.advance(2_000);
    expect(duplex.destroyed).toBe(true);
  });

  test("refusals in the middle of a body tell both sides", async () => {
    const { duplex, streams, refusals } = serve();
    const recorder = new Recorder();
    duplex.feed(request("POST / HTTP/1.1", "Transfer-Encoding: chunked"));
    await turns();
    first(streams).read(recorder);
    duplex.feed("x\r\n");
    await turns();
    expect(recorder.events).toEqual(["reset protocol-error"]);
    expect(duplex.written).toMatch(/^HTTP\/1\.1 400 /);
    expect(refusals).toEqual(["http1.invalid_chunk"]);
  });

  test("no sweep goes on without connections", async () => {
    const { duplex, clock } = serve();
    duplex.destroy();
    await clock.advance(1_000);
    expect(clock.pending).toBe(0);
  });
});
