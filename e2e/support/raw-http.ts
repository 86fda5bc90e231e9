/** HTTP with nothing in between: bytes out as written, and the answer taken apart without mending anything. */
import { connect as connectHttp2, constants, type IncomingHttpHeaders } from "node:http2";
import { connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { errorName, frameTypes } from "#waypoint/http/http2-frames.ts";
import { flag, hello, RawPeer } from "#waypoint/http/testing/raw-http2.ts";

export interface RawAnswer {
  /** 0 where there was none. */
  readonly status: number;
  /** Of interim answers before it. */
  readonly interim: readonly number[];
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
  readonly trailers: readonly (readonly [name: string, value: string])[];
  /** False where it ended before its end. */
  readonly isWhole: boolean;
  /** How it was ended where that was told in frames: the name of an error, and of what it ended. */
  readonly ending?: string;
}

const none: Omit<RawAnswer, "isWhole"> = { status: 0, interim: [], headers: [], body: "", trailers: [] };

/** Writes the bytes, and reads until the connection is closed or the answer is whole. */
export async function sendRaw(port: number, request: string, patienceMs = 8_000): Promise<RawAnswer> {
  const socket = connect({ port, host: "127.0.0.1" });
  const chunks: Buffer[] = [];
  const closed = Promise.withResolvers<void>();
  const isHead = request.startsWith("HEAD ");
  let hasEnded = false;
  socket.on("end", () => (hasEnded = true));
  socket.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    if (isWhole(Buffer.concat(chunks).toString("latin1"), isHead)) closed.resolve();
  });
  socket.on("error", () => closed.resolve());
  socket.on("close", () => closed.resolve());
  const timer = setTimeout(closed.resolve, patienceMs);
  socket.write(request, "latin1");
  await closed.promise;
  clearTimeout(timer);
  socket.destroy();
  const text = Buffer.concat(chunks).toString("latin1");
  const parsed = parse(text, isHead);
  // An answer without a length lasts until the connection ends.
  const isFramed = parsed.headers.some(([name]) => name === "content-length" || name === "transfer-encoding");
  return { ...parsed, isWhole: isWhole(text, isHead) || (hasEnded && parsed.status !== 0 && !isFramed) };
}

function isWhole(text: string, isHead: boolean): boolean {
  const { status, headers } = parse(text, isHead);
  if (status === 0) return false;
  const rest = text.slice(finalHead(text).end);
  if (isHead || status === 204 || status === 304) return true;
  const length = valueOf(headers, "content-length");
  if (length !== undefined) return rest.length >= Number(length);
  return /chunked/i.test(valueOf(headers, "transfer-encoding") ?? "") && /(^|\r\n)0\r\n([^\r\n]+\r\n)*\r\n$/.test(rest);
}

const valueOf = (headers: RawAnswer["headers"], wanted: string) => headers.find(([name]) => name === wanted)?.[1];

/** Where the last head that is there whole begins and ends; interim ones are skipped. */
function finalHead(text: string): { start: number; end: number; interim: number[] } {
  const interim: number[] = [];
  let start = 0;
  for (;;) {
    const end = text.indexOf("\r\n\r\n", start);
    if (end < 0) return { start, end: -1, interim };
    const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(text.slice(start, end))?.[1] ?? 0);
    if (status < 100 || status >= 200 || status === 101) return { start, end: end + 4, interim };
    interim.push(status);
    start = end + 4;
  }
}

function parse(text: string, isHead: boolean): Omit<RawAnswer, "isWhole"> {
  const { start, end, interim } = finalHead(text);
  if (end < 0) return { ...none, interim };
  const [statusLine = "", ...lines] = text.slice(start, end - 4).split("\r\n");
  const headers = fields(lines);
  const rest = isHead ? "" : text.slice(end);
  const isChunked = /chunked/i.test(valueOf(headers, "transfer-encoding") ?? "");
  const { body, trailers } = isChunked ? unchunk(rest) : { body: rest, trailers: [] };
  return { status: Number(statusLine.split(" ")[1]), interim, headers, body, trailers };
}

const fields = (lines: readonly string[]): (readonly [string, string])[] =>
  lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  });

function unchunk(text: string): Pick<RawAnswer, "body" | "trailers"> {
  let body = "";
  let at = 0;
  for (;;) {
    const line = text.indexOf("\r\n", at);
    if (line < 0) return { body, trailers: [] };
    const size = Number.parseInt(text.slice(at, line), 16);
    if (!(size > 0)) {
      return {
        body,
        trailers: fields(
          text
            .slice(line + 2)
            .split("\r\n")
            .filter((each) => each !== ""),
        ),
      };
    }
    body += text.slice(line + 2, line + 2 + size);
    at = line + 2 + size + 2;
  }
}

export interface Http2Request {
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body?: Buffer | string | undefined;
}

/** One request over HTTP/2 without TLS. */
export async function sendHttp2(port: number, { headers, body }: Http2Request): Promise<RawAnswer> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  try {
    const stream = session.request({ ...headers }, { endStream: body === undefined });
    let status = 0;
    let answered: (readonly [string, string])[] = [];
    let trailers: (readonly [string, string])[] = [];
    const chunks: Buffer[] = [];
    stream.setTimeout(8_000, () => stream.close(constants.NGHTTP2_CANCEL));
    stream.on("response", (head) => {
      status = head[":status"] ?? 0;
      answered = pairs(head);
    });
    stream.on("trailers", (head: IncomingHttpHeaders) => (trailers = pairs(head)));
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    let hasEnded = false;
    stream.on("end", () => (hasEnded = true));
    stream.on("error", () => {});
    if (body !== undefined) stream.end(body);
    // A stream that was reset is an answer, too.
    await new Promise((resolve) => stream.once("close", resolve));
    const isWhole = hasEnded && stream.rstCode === constants.NGHTTP2_NO_ERROR;
    const answer = Buffer.concat(chunks).toString("latin1");
    return { status, interim: [], headers: answered, body: answer, trailers, isWhole };
  } finally {
    session.destroy();
  }
}

/** A connection of HTTP/2, frame by frame after the preface; the answer is that on stream 1. */
export async function sendFrames(port: number, frames: Uint8Array, patienceMs = 3_000): Promise<RawAnswer> {
  const peer = new RawPeer(connect({ port, host: "127.0.0.1" }));
  peer.write(hello(), frames);
  const on = (type: number) => peer.of(type, 1);
  const hasEnd = () => [...on(frameTypes.headers), ...on(frameTypes.data)].some(({ flags }) => flags & flag.endStream);
  const isOver = () =>
    hasEnd() || on(frameTypes.reset).length > 0 || peer.of(frameTypes.goaway).length > 0 || peer.isOver;
  const latestMs = Date.now() + patienceMs;
  while (!isOver() && Date.now() < latestMs) await pause(1);
  const sections: { status: string; pairs: readonly string[] }[] = [];
  for (const [index] of on(frameTypes.headers).entries()) sections.push({ ...(await peer.section(1, index)) });
  const final = sections.findIndex(({ status }) => /^[2-5]/.test(status));
  const [reset] = on(frameTypes.reset);
  const [goaway] = peer.of(frameTypes.goaway);
  const ending = [
    ...(goaway === undefined ? [] : [`goaway ${errorName(goaway.body.readUInt32BE(4))}`]),
    ...(reset === undefined ? [] : [`reset ${errorName(reset.body.readUInt32BE(0))}`]),
  ];
  peer.duplex.destroy();
  return {
    status: Number(sections[final]?.status ?? 0),
    interim: sections.slice(0, Math.max(0, final)).map(({ status }) => Number(status)),
    headers: paired(sections[final]?.pairs ?? []),
    body: peer.dataOf(1).toString("latin1"),
    trailers: final < 0 ? [] : paired(sections[final + 1]?.pairs ?? []),
    isWhole: hasEnd(),
    ending: ending.join(", "),
  };
}

const paired = (list: readonly string[]): (readonly [string, string])[] =>
  list.flatMap((name, index) => (index % 2 === 0 ? [[name, list[index + 1] ?? ""] as const] : []));

const pairs = (headers: Readonly<Record<string, unknown>>): (readonly [string, string])[] =>
  Object.entries(headers)
    .filter(([name]) => !name.startsWith(":"))
    .flatMap(([name, value]) =>
      Array.isArray(value) ? value.map((each) => [name, String(each)] as const) : [[name, String(value)] as const],
    );
