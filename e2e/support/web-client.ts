/**
 * Clients of `e2e/support/web.ts` that curl cannot be, run inside of a pod. Each takes its options as JSON and prints JSON;
 * what failed is in the JSON, not in the exit status. `node e2e/support/web-client.ts say '{"target": "reviews:9090"}'`
 */
import { existsSync } from "node:fs";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { Client, credentials, Metadata, type ServiceError, type StatusObject } from "@grpc/grpc-js";
import { WebSocket } from "ws";
import { textMethod } from "./web.ts";

const deadlineMs = 15_000;

export interface SayOptions {
  readonly target: string;
  readonly text?: string;
  /** How often the text stands in the message. Default 1. */
  readonly times?: number;
  readonly count?: number;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly deadlineMs?: number;
  /** Default `/ambit.e2e.Echo/Say`. */
  readonly path?: string;
}

export interface Said {
  readonly code: number;
  readonly details: string;
  readonly text: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly trailers: Readonly<Record<string, unknown>>;
}

/** Unary calls over one channel, one after the other. */
async function say(options: SayOptions): Promise<readonly Said[]> {
  const client = new Client(options.target, credentials.createInsecure());
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(options.metadata ?? {})) metadata.set(name, value);
  const method = textMethod("Say");
  const once = () =>
    new Promise<Said>((resolve) => {
      let headers: Readonly<Record<string, unknown>> = {};
      let answer: { readonly error: ServiceError | null; readonly text: string } | undefined;
      let status: StatusObject | undefined;
      const finish = () => {
        if (answer === undefined || status === undefined) return;
        const { code, details, metadata: trailers } = status;
        resolve({ code, details, text: answer.text, headers, trailers: trailers.getMap() });
      };
      const call = client.makeUnaryRequest(
        options.path ?? method.path,
        method.requestSerialize,
        method.responseDeserialize,
        (options.text ?? "hello").repeat(options.times ?? 1),
        metadata,
        { deadline: Date.now() + (options.deadlineMs ?? deadlineMs) },
        (error, text) => {
          answer = { error, text: text ?? "" };
          finish();
        },
      );
      call.on("metadata", (received) => (headers = received.getMap()));
      call.on("status", (received) => {
        status = received;
        finish();
      });
    });
  const said: Said[] = [];
  for (let index = 0; index < (options.count ?? 1); index++) said.push(await once());
  client.close();
  return said;
}

export interface ChatOptions {
  readonly target: string;
  readonly texts: readonly string[];
}

export interface Chatted {
  readonly code: number;
  readonly texts: readonly string[];
}

/** One call in both directions: each text is said when the one before it was answered. */
function chat(options: ChatOptions): Promise<Chatted> {
  const client = new Client(options.target, credentials.createInsecure());
  const method = textMethod("Chat");
  const left = [...options.texts];
  const texts: string[] = [];
  const call = client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, {
    deadline: Date.now() + deadlineMs,
  });
  const next = () => {
    const text = left.shift();
    if (text === undefined) call.end();
    else call.write(text);
  };
  return new Promise((resolve) => {
    call.on("data", (text: string) => {
      texts.push(text);
      next();
    });
    call.on("error", () => {});
    call.on("status", ({ code }: StatusObject) => {
      client.close();
      resolve({ code, texts });
    });
    next();
  });
}

export interface WebSocketOptions {
  readonly url: string;
  readonly texts: readonly string[];
  /** Bytes of one binary message that is sent after the texts. */
  readonly binaryBytes?: number;
}

export interface WebSocketOutcome {
  readonly texts: readonly string[];
  readonly binaryBytes: number;
  /** Of the closing handshake. */
  readonly code: number;
  readonly error?: string;
}

function webSocket(options: WebSocketOptions): Promise<WebSocketOutcome> {
  const socket = new WebSocket(options.url, { handshakeTimeout: deadlineMs });
  const left: (string | Buffer)[] = [...options.texts];
  if (options.binaryBytes !== undefined) left.push(Buffer.alloc(options.binaryBytes, 1));
  const texts: string[] = [];
  let binaryBytes = 0;
  let error: string | undefined;
  const next = () => {
    const message = left.shift();
    if (message === undefined) socket.close(4_000, "done");
    else socket.send(message);
  };
  const timer = setTimeout(() => socket.terminate(), deadlineMs);
  return new Promise((resolve) => {
    socket.on("open", next);
    socket.on("message", (data: Buffer, isBinary) => {
      if (isBinary) binaryBytes += data.length;
      else texts.push(data.toString("utf8"));
      next();
    });
    socket.on("error", (failure) => (error = failure.message));
    socket.on("close", (code) => {
      clearTimeout(timer);
      resolve({ texts, binaryBytes, code, ...(error === undefined ? {} : { error }) });
    });
  });
}

export interface ManyOptions {
  readonly url: string;
  readonly count: number;
  readonly concurrency?: number;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface OneOfMany {
  /** 0 where there was no answer. */
  readonly status: number;
  readonly servedBy: string;
  readonly text: string;
  readonly ms: number;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
}

/** Many requests over kept connections, as many as `concurrency`. */
async function many(options: ManyOptions): Promise<readonly OneOfMany[]> {
  const concurrency = options.concurrency ?? 1;
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
  const answers: OneOfMany[] = [];
  let started = 0;
  const work = async () => {
    while (started++ < options.count) answers.push(await once(agent, options));
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  agent.destroy();
  return answers;
}

function once(agent: Agent, { url, method, headers }: ManyOptions): Promise<OneOfMany> {
  const beganMs = performance.now();
  return new Promise((resolve) => {
    const done = (response: IncomingMessage | undefined, text: string) =>
      resolve({
        status: response?.statusCode ?? 0,
        servedBy: String(response?.headers["x-served-by"] ?? ""),
        text: text.slice(0, 200),
        ms: Math.round(performance.now() - beganMs),
        headers: response?.headers ?? {},
      });
    const request = httpRequest(
      url,
      { agent, method: method ?? "GET", headers: { ...headers }, timeout: deadlineMs },
      (response) => {
        let text = "";
        response.on("data", (chunk: Buffer) => (text += chunk.toString("utf8")));
        response.on("end", () => done(response, text));
        response.on("error", (error) => done(undefined, error.message));
      },
    );
    request.on("timeout", () => request.destroy(new Error("timeout")));
    request.on("error", (error: NodeJS.ErrnoException) => done(undefined, error.code ?? error.message));
    request.end();
  });
}

export interface LoadOptions {
  readonly url: string;
  readonly concurrency: number;
  /** Goes on until this file is there, and no longer than two minutes. */
  readonly until: string;
}

export interface LoadOutcome {
  readonly done: number;
  readonly failures: readonly string[];
}

/** Requests one after the other, over kept connections, until told to end. Prints a line when the first was answered. */
async function load({ url, concurrency, until }: LoadOptions): Promise<LoadOutcome> {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
  const failures: string[] = [];
  const endsMs = performance.now() + 120_000;
  let done = 0;
  const work = async () => {
    while (performance.now() < endsMs && !existsSync(until)) {
      const { status, text, ms } = await once(agent, { url, count: 1 });
      if (done++ === 0) console.log('{"under": "way"}');
      if (status !== 200 && failures.length < 20) failures.push(`${status} after ${ms} ms: ${text}`);
      await pause(5);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  agent.destroy();
  return { done, failures };
}

export interface RawOptions {
  readonly host: string;
  readonly port: number;
  /** In order: bytes to send, text to wait for, to end our half, milliseconds to pass. */
  readonly steps: readonly (
    { readonly send: string } | { readonly see: string } | { readonly end: true } | { readonly waitMs: number }
  )[];
}

export interface RawOutcome {
  readonly received: string;
  /** `end`: the other side closed; `open`: not when all was done; otherwise the error's code. */
  readonly end: string;
}

/** A conversation byte by byte; afterwards it waits a moment for the other side to end. */
async function raw({ host, port, steps }: RawOptions): Promise<RawOutcome> {
  const socket = connect({ host, port, allowHalfOpen: true, noDelay: true });
  let received = "";
  let seen = 0;
  const state = { end: "open" };
  let wake = () => {};
  socket.on("data", (data: Buffer) => {
    received += data.toString("latin1");
    wake();
  });
  socket.on("end", () => {
    state.end = "end";
    wake();
  });
  socket.on("error", (error: NodeJS.ErrnoException) => {
    state.end = error.code ?? error.message;
    wake();
  });
  const endsMs = performance.now() + deadlineMs;
  const until = async (ready: () => boolean, limitMs: number) => {
    while (!ready() && state.end === "open" && performance.now() < limitMs) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.max(1, limitMs - performance.now()));
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  };
  for (const step of steps) {
    if ("send" in step) socket.write(step.send, "latin1");
    else if ("end" in step) socket.end();
    else if ("waitMs" in step) await pause(step.waitMs);
    else {
      await until(() => received.includes(step.see, seen), endsMs);
      const at = received.indexOf(step.see, seen);
      if (at < 0) break;
      seen = at + step.see.length;
    }
  }
  await until(() => false, performance.now() + 1_500);
  socket.destroy();
  return { received, end: state.end };
}

const commands = { say, chat, webSocket, many, load, raw };
export type WebCommands = typeof commands;

if (import.meta.main) {
  const [name = "", options = "{}"] = process.argv.slice(2);
  const command = commands[name as keyof WebCommands] as ((options: unknown) => Promise<unknown>) | undefined;
  if (command === undefined) throw new Error(`No command ${name}; there are ${Object.keys(commands).join(", ")}`);
  process.stdout.write(`${JSON.stringify(await command(JSON.parse(options)))}\n`, () => process.exit(0));
}
