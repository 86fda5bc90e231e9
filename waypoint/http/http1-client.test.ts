import { describe, expect, test } from "@jest/globals";
import { Headers } from "./headers.ts";
import type { Http1ClientOptions } from "./http1-client.ts";
import { Http1ClientConnection } from "./http1-client.ts";
import { MemoryDuplex, Recorder, turns } from "./http1-testing.ts";
import type { RequestHead, UpstreamStream } from "./streams.ts";

const head = (over: Partial<RequestHead> = {}, ...pairs: string[]): RequestHead => ({
  method: "GET",
  scheme: "http",
  authority: "a",
  path: "/",
  headers: new Headers(pairs),
  ...over,
});

function open(options?: Http1ClientOptions) {
  const duplex = new MemoryDuplex();
  const log: string[] = [];
  const owner = {
    connectionIdle: () => void log.push("idle"),
    connectionClosed: (_: unknown, error: Error | undefined) => void log.push(`closed${error ? " with error" : ""}`),
  };
  const connection = new Http1ClientConnection(duplex, owner, options);
  const send = (request = head(), endsWithHead = true): { recorder: Recorder; stream: UpstreamStream } => {
    const recorder = new Recorder();
    return { recorder, stream: connection.send(request, endsWithHead, recorder) };
  };
  return { duplex, log, connection, send };
}

const answer = (...fields: string[]) => `${["HTTP/1.1 200 OK", ...fields].join("\r\n")}\r\n\r\n`;

describe("requests", () => {
  test.each<[string, RequestHead, boolean, string]>([
    ["GET", head({ path: "/p?q" }, "x-a", "1"), true, "GET /p?q HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n\r\n"],
    ["POST without a body", head({ method: "POST" }), true, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"],
    [
      "fields of the connection are the codec's",
      head({}, "connection", "x", "transfer-encoding", "x", "upgrade", "x", "host", "b"),
      true,
      "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    ],
    [
      "an upgrade",
      head({ upgrade: "websocket" }, "sec-websocket-key", "k"),
      false,
      "GET / HTTP/1.1\r\nhost: a\r\nsec-websocket-key: k\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ],
  ])("%s", async (_, request, endsWithHead, expected) => {
    const { duplex, send } = open();
    send(request, endsWithHead);
    await turns();
    expect(duplex.written).toBe(expected);
  });

  test("a body with a length, one in chunks with trailers", async () => {
    const { duplex, send } = open();
    const sized = send(head({ method: "POST" }, "content-length", "4"), false);
    sized.stream.write(Buffer.from("ab"));
    sized.stream.write(Buffer.from("cd"));
    sized.stream.end();
    duplex.feed(answer("Content-Length: 0"));
    await turns();
    expect(duplex.written).toBe("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nabcd");
    duplex.written = "";
    const { stream } = send(head({ method: "POST" }), false);
    stream.write(Buffer.from("ab"));
    stream.end(new Headers(["x-t", "1"]));
    await turns();
    expect(duplex.written).toBe(
      "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-t: 1\r\n\r\n",
    );
  });

  test("a head without its body yet goes out when the turn is over", async () => {
    const { duplex, send } = open();
    send(head({ method: "POST" }, "content-length", "4"), false);
    await turns();
    expect(duplex.written).toContain("content-length: 4\r\n\r\n");
  });

  test.each<[string, Partial<RequestHead>, string[]]>([
    ["a space in the path", { path: "/a HTTP/1.1" }, []],
    ["CRLF in the path", { path: "/\r\nx: y" }, []],
    ["an empty path", { path: "" }, []],
    ["CRLF in the host", { authority: "a\r\nx: y" }, []],
    ["a space in the method", { method: "GET /x" }, []],
    ["CRLF in a value", {}, ["x-a", "1\r\nx-b: 2"]],
  ])("%s is not written", async (_, over, pairs) => {
    const { duplex, send, log } = open();
    const { recorder } = send(head(over, ...pairs));
    await turns();
    expect(duplex.written).toBe("");
    expect(recorder.events).toEqual(["reset protocol-error"]);
    expect(log).toEqual(["closed with error"]);
  });
});

describe("answers", () => {
  const get = head();
  const cases: [name: string, request: RequestHead, bytes: string, events: string[], body: string, stays: boolean][] = [
    ["with a length", get, `${answer("Content-Length: 2")}ok`, ["head 200", "end"], "ok", true],
    ["empty", get, answer("Content-Length: 0"), ["head 200 alone", "end"], "", true],
    ["in chunks", get, `${answer("Transfer-Encoding: chunked")}2\r\nok\r\n0\r\n\r\n`, ["head 200", "end"], "ok", true],
    ["to HEAD", head({ method: "HEAD" }), answer("Content-Length: 2"), ["head 200 alone", "end"], "", true],
    ["204", get, "HTTP/1.1 204 No Content\r\n\r\n", ["head 204 alone", "end"], "", true],
    ["304 with a length", get, "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", ["head 304 alone", "end"], "", true],
    ["without a reason", get, "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", ["head 200 alone", "end"], "", true],
    [
      "an interim one first",
      get,
      `HTTP/1.1 100 Continue\r\n\r\n${answer("Content-Length: 0")}`,
      ["inform 100", "head 200 alone", "end"],
      "",
      true,
    ],
    ["that closes", get, `${answer("Content-Length: 2", "Connection: close")}ok`, ["head 200", "end"], "ok", false],
    ["of HTTP/1.0", get, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", ["head 200", "end"], "ok", false],
    [
      "of HTTP/1.0 that stays",
      get,
      "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
      ["head 200", "end"],
      "ok",
      true,
    ],
    [
      "with more behind it",
      get,
      `${answer("Content-Length: 2")}okHTTP/1.1 200 OK\r\n\r\n`,
      ["head 200", "end"],
      "ok",
      false,
    ],
  ];
  test.each(cases)("%s", async (_, request, bytes, events, body, stays) => {
    const { duplex, send, connection, log } = open();
    const { recorder } = send(request);
    duplex.feed(bytes);
    await turns();
    expect(recorder).toMatchObject({ events, body });
    expect(connection.isUsable).toBe(stays);
    expect(log).toEqual([stays ? "idle" : "closed"]);
  });

  test("until the upstream closes", async () => {
    const { duplex, send, log } = open();
    const { recorder } = send();
    duplex.feed(`${answer()}abc`);
    duplex.push(null);
    await turns();
    expect(recorder).toMatchObject({ events: ["head 200", "end"], body: "abc" });
    expect(log).toEqual(["closed"]);
  });

  test("fields of the connection, and those it nominates, are not passed on", async () => {
    const { duplex, send } = open();
    const { recorder } = send();
    duplex.feed(
      answer("Content-Length: 0", "Connection: keep-alive, X-Gone", "Keep-Alive: 1", "X-Gone: 1", "X-Stays: 1"),
    );
    await turns();
    expect(recorder.headers?.pairs).toEqual(["content-length", "0", "x-stays", "1"]);
  });

  const bad: [string, string][] = [
    ["both lengths", answer("Content-Length: 2", "Transfer-Encoding: chunked")],
    ["two lengths", answer("Content-Length: 2", "Content-Length: 2")],
    ["an unknown coding", answer("Transfer-Encoding: gzip, chunked")],
    ["chunks on HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"],
    ["chunks on 204", "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n"],
    ["a length on 204", "HTTP/1.1 204 x\r\nContent-Length: 2\r\n\r\n"],
    ["a switch nobody asked for", "HTTP/1.1 101 x\r\nUpgrade: x\r\n\r\n"],
    ["a length on an interim answer", "HTTP/1.1 103 x\r\nContent-Length: 2\r\n\r\n"],
    ["interim answers without end", "HTTP/1.1 103 x\r\n\r\n".repeat(100)],
    ["folded fields", answer("X-A: 1\r\n 2")],
    ["a bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"],
    ["NUL", answer("X-A: \0")],
    ["space before the colon", answer("Content-Length : 2")],
    ["another version", "HTTP/2.0 200 OK\r\n\r\n"],
    ["no HTTP at all", "SSH-2.0-OpenSSH\r\n"],
    ["a status that is none", "HTTP/1.1 099 x\r\n\r\n"],
    ["a status of four digits", "HTTP/1.1 2000 x\r\n\r\n"],
    ["a head too large", answer(`X-A: ${"a".repeat(70_000)}`)],
    ["Connection nominates Content-Length", answer("Connection: content-length", "Content-Length: 2")],
  ];
  test.each(bad)("%s is a protocol error", async (_, bytes) => {
    const { duplex, send, log } = open();
    const { recorder } = send();
    duplex.feed(bytes);
    await turns();
    expect(recorder.events.filter((event) => event !== "inform 103")).toEqual(["reset protocol-error"]);
    expect(log).toEqual(["closed with error"]);
  });

  test("a bad chunk after a good head", async () => {
    const { duplex, send } = open();
    const { recorder } = send();
    duplex.feed(`${answer("Transfer-Encoding: chunked")}2\r\nok\rX`);
    await turns();
    expect(recorder.events).toEqual(["head 200", "reset protocol-error"]);
  });

  test("an upgrade that is accepted", async () => {
    const { duplex, send, log } = open();
    const { recorder, stream } = send(head({ upgrade: "websocket" }), false);
    duplex.feed("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw");
    await turns();
    stream.write(Buffer.from("down"));
    duplex.push(null);
    await turns();
    expect(recorder).toMatchObject({ events: ["head 101", "end"], body: "raw" });
    stream.end();
    await turns();
    expect(duplex.written.endsWith("\r\n\r\ndown")).toBe(true);
    expect(log).toEqual(["closed"]);
  });

  test("an upgrade that is not", async () => {
    const { duplex, send, log } = open();
    const { recorder } = send(head({ upgrade: "websocket" }), false);
    duplex.feed(`HTTP/1.1 403 x\r\nContent-Length: 2\r\n\r\nno`);
    await turns();
    expect(recorder).toMatchObject({ events: ["head 403", "end"], body: "no" });
    expect(log).toEqual(["closed"]);
  });

  test("pausing holds the answer back", async () => {
    const { duplex, send } = open();
    const { recorder, stream } = send();
    stream.pause();
    duplex.feed(`${answer("Content-Length: 2")}ok`);
    await turns();
    expect(recorder.events).toEqual(["head 200"]);
    stream.resume();
    expect(recorder).toMatchObject({ events: ["head 200", "end"], body: "ok" });
  });
});

describe("reuse", () => {
  test("one exchange after the other, also from within connectionIdle", async () => {
    const duplex = new MemoryDuplex();
    const second = new Recorder();
    const owner = {
      connectionIdle: (connection: Http1ClientConnection) => {
        if (connection.exchanges === 1) connection.send(head({ path: "/2" }), true, second);
      },
      connectionClosed: () => {},
    };
    const connection = new Http1ClientConnection(duplex, owner);
    connection.send(head(), true, new Recorder());
    duplex.feed(answer("Content-Length: 0"));
    await turns();
    expect(duplex.written).toContain("GET /2 ");
    duplex.feed(answer("Content-Length: 0"));
    await turns();
    expect(second.events).toEqual(["head 200 alone", "end"]);
  });

  test("an answer before the request is complete ends the connection", async () => {
    const { duplex, send, log } = open();
    const { recorder, stream } = send(head({ method: "POST" }), false);
    stream.write(Buffer.from("ab"));
    duplex.feed(answer("Content-Length: 0"));
    await turns();
    expect(recorder.events).toEqual(["head 200 alone", "end"]);
    expect(log).toEqual(["closed"]);
    expect(stream.write(Buffer.from("late"))).toBe(true);
    stream.end();
  });

  test("bytes that belong to no exchange end it", async () => {
    const { duplex, connection, log } = open();
    duplex.feed(answer("Content-Length: 0"));
    await turns();
    expect(connection.isUsable).toBe(false);
    expect(log).toEqual(["closed with error"]);
  });

  test("the upstream closes an idle connection", async () => {
    const { duplex, connection, log } = open();
    duplex.push(null);
    await turns();
    expect(connection.isUsable).toBe(false);
    expect(log).toEqual(["closed"]);
  });

  test.each<[string, number, RequestHead, string, string]>([
    ["the first exchange", 1, head(), "", "connection-termination"],
    ["a later one, not answered at all", 2, head(), "", "closed-unanswered"],
    ["a later one that must not be repeated", 2, head({ method: "POST" }), "", "connection-termination"],
    ["a later one with an answer begun", 2, head(), "HTTP/1.1 200", "connection-termination"],
  ])("closing under %s", async (_, exchanges, request, bytes, reason) => {
    const { duplex, send, log } = open();
    if (exchanges === 2) {
      send();
      duplex.feed(answer("Content-Length: 0"));
      await turns();
    }
    const { recorder } = send(request);
    await turns();
    if (bytes !== "") duplex.feed(bytes);
    duplex.push(null);
    await turns();
    expect(recorder.events).toEqual([`reset ${reason}`]);
    expect(log.at(-1)).toBe("closed");
  });

  test("a body cut off is a loss, however it was framed", async () => {
    for (const bytes of [`${answer("Content-Length: 5")}ab`, `${answer("Transfer-Encoding: chunked")}5\r\nab`]) {
      const { duplex, send } = open();
      const { recorder } = send();
      duplex.feed(bytes);
      duplex.push(null);
      await turns();
      expect(recorder.events).toEqual(["head 200", "reset connection-termination"]);
    }
  });

  test("closing waits for the exchange", async () => {
    const { duplex, send, connection, log } = open();
    const { recorder } = send();
    connection.close();
    await turns();
    duplex.feed(answer("Content-Length: 0"));
    await turns();
    expect(recorder.events).toEqual(["head 200 alone", "end"]);
    expect(log).toEqual(["closed"]);
  });

  test("whoever resets hears nothing more", async () => {
    const { send, log } = open();
    const { recorder, stream } = send();
    stream.reset("local-reset");
    await turns();
    expect(recorder.events).toEqual([]);
    expect(log).toEqual(["closed"]);
  });

  test("destroying resets what is under way", async () => {
    const { send, connection, log } = open();
    const { recorder } = send();
    connection.destroy(new Error("gone"));
    await turns();
    expect(recorder.events).toEqual(["reset connection-termination"]);
    expect(log).toEqual(["closed with error"]);
  });
});
