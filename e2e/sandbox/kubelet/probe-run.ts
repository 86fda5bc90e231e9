/** One try of a probe, made from the node's network namespace as a kubelet's is. */
import { connect as connectHttp2 } from "node:http2";
import { request as requestHttp } from "node:http";
import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { hostPort, tryIp } from "#shared/net/ip.ts";
import { connectInNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import type { Container, Probe } from "../kinds.ts";
import { timeoutMs, type ProbeResult } from "./probe-state.ts";

export interface ProbeTarget {
  readonly nodeNetnsFd: number;
  readonly podIp: string;
  readonly container: Container;
  /** Runs a command in the container. */
  readonly exec: (command: readonly string[], signal: AbortSignal) => Promise<{ exitCode: number; output: string }>;
}

const passed: ProbeResult = { ok: true, message: "" };
const failed = (message: string): ProbeResult => ({ ok: false, message });

/** Never rejects: a failure to try is a failure of the probe. */
export async function runProbe(probe: Probe, target: ProbeTarget): Promise<ProbeResult> {
  const limit = timeoutMs(probe);
  try {
    if (probe.exec !== undefined) return await execProbe(probe.exec.command ?? [], target, limit);
    if (probe.httpGet !== undefined) return await httpProbe(probe.httpGet, target, limit);
    if (probe.tcpSocket !== undefined) return await tcpProbe(probe.tcpSocket, target, limit);
    if (probe.grpc !== undefined) return await grpcProbe(probe.grpc, target, limit);
    return passed;
  } catch (error) {
    return failed(error instanceof Error ? error.message : String(error));
  }
}

async function execProbe(command: readonly string[], target: ProbeTarget, limit: number): Promise<ProbeResult> {
  const signal = AbortSignal.timeout(limit);
  const { exitCode, output } = await target.exec(command, signal);
  if (signal.aborted) return failed(`command timed out: ${command.join(" ")} timed out after ${limit / 1000}s`);
  return exitCode === 0 ? passed : failed(output.trim());
}

export type HttpGet = NonNullable<Probe["httpGet"]>;

async function httpProbe(get: HttpGet, target: ProbeTarget, limit: number): Promise<ProbeResult> {
  const status = await httpStatus(get, target, limit);
  return status >= 200 && status < 400 ? passed : failed(`HTTP probe failed with statuscode: ${status}`);
}

/** Also serves lifecycle hooks. */
export function httpStatus(get: HttpGet, target: ProbeTarget, limit: number): Promise<number> {
  const port = portNumber(get.port, target.container);
  const host = get.host === undefined || get.host === "" ? target.podIp : get.host;
  const isTls = (get.scheme ?? "HTTP").toUpperCase() === "HTTPS";
  const path = `/${(get.path ?? "/").replace(/^\//u, "")}`;
  const headers: Record<string, string> = {
    host: hostPort(host, port),
    "user-agent": "kube-probe/1.34",
    accept: "*/*",
    connection: "close",
  };
  for (const { name, value } of get.httpHeaders ?? []) headers[name.toLowerCase()] = value;
  return new Promise((resolve, reject) => {
    const socket = dial(target, host, port, limit);
    const timer = setTimeout(() => {
      socket.destroy();
      reject(
        new Error(`Get "${isTls ? "https" : "http"}://${hostPort(host, port)}${path}": context deadline exceeded`),
      );
    }, limit);
    const settle = () => clearTimeout(timer);
    const stream = isTls ? connectTls({ socket, rejectUnauthorized: false }) : socket;
    const request = requestHttp({ createConnection: () => stream, path, headers }, (response) => {
      response.resume();
      settle();
      resolve(response.statusCode ?? 0);
      response.on("end", () => socket.destroy());
      response.on("error", () => socket.destroy());
    });
    stream.on("error", () => undefined);
    request.on("error", (error) => {
      settle();
      socket.destroy();
      reject(new Error(`Get "${isTls ? "https" : "http"}://${hostPort(host, port)}${path}": ${error.message}`));
    });
    request.end();
  });
}

function tcpProbe(tcp: NonNullable<Probe["tcpSocket"]>, target: ProbeTarget, limit: number): Promise<ProbeResult> {
  const port = portNumber(tcp.port, target.container);
  const host = tcp.host === undefined || tcp.host === "" ? target.podIp : tcp.host;
  return new Promise((resolve) => {
    const socket = dial(target, host, port, limit);
    socket.once("connect", () => {
      socket.destroy();
      resolve(passed);
    });
    socket.once("error", (error: Error) => resolve(failed(`dial tcp ${hostPort(host, port)}: ${error.message}`)));
  });
}

const serving = 1;

/** grpc.health.v1.Health/Check, by hand: one short message there and one back. */
function grpcProbe(
  { port, service = "" }: NonNullable<Probe["grpc"]>,
  target: ProbeTarget,
  limit: number,
): Promise<ProbeResult> {
  const name = Buffer.from(service);
  const message = name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, name.length]), name]);
  const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]);
  return new Promise((resolve) => {
    const socket = dial(target, target.podIp, port, limit);
    const session = connectHttp2(`http://${hostPort(target.podIp, port)}`, { createConnection: () => socket });
    const done = (result: ProbeResult) => {
      clearTimeout(timer);
      session.destroy();
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => done(failed(`service unhealthy (responded with "DEADLINE_EXCEEDED")`)), limit);
    session.on("error", (error) => done(failed(error.message)));
    socket.on("error", (error) => done(failed(error.message)));
    const request = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
    });
    let body = Buffer.alloc(0);
    request.on("data", (chunk: Buffer) => {
      if (body.length < 1024) body = Buffer.concat([body, chunk]);
    });
    request.on("error", (error) => done(failed(error.message)));
    request.on("end", () => {
      const isServing = body.length >= 7 && body[5] === 0x08 && body[6] === serving;
      done(isServing ? passed : failed(`service unhealthy (responded with "NOT_SERVING")`));
    });
    request.end(frame);
  });
}

function dial(target: ProbeTarget, host: string, port: number, limit: number): Socket {
  const ip = tryIp(host);
  // A name would be the node's to resolve; the sandbox's nodes know no names but localhost.
  const address = ip ?? tryIp(host === "localhost" ? "127.0.0.1" : "");
  if (address === undefined) throw new Error(`dial tcp: lookup ${host}: no such host`);
  const socket = connectInNamespace(target.nodeNetnsFd, { ip: address, port, keepAlive: "off" }, limit);
  socket.on("error", () => undefined); // whoever waits has a listener of its own
  return socket;
}

/** @throws Error naming a port that the container does not have */
export function portNumber(port: number | string, container: Container): number {
  if (typeof port === "number") return port;
  const named = container.ports?.find(({ name }) => name === port)?.containerPort;
  if (named !== undefined) return named;
  const number = Number(port);
  if (Number.isInteger(number) && number > 0 && number < 65_536) return number;
  throw new Error(`couldn't find port: "${port}" in container "${container.name}"`);
}
