/** As many requests as a proxy takes, by the load generators that everybody knows, on one core. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { grpcPath } from "./origin.ts";
import { loadCore } from "./proxies.ts";

const run = promisify(execFile);

export const protocols = ["HTTP/1.1", "HTTP/2", "gRPC"] as const;
export type LoadProtocol = (typeof protocols)[number];

export interface FullLoad {
  readonly requests: number;
  readonly perSecond: number;
}

export interface LoadTarget {
  readonly port: number;
  readonly seconds: number;
  /** A message of gRPC. */
  readonly messageFile: string;
}

/** @throws where a request was not answered as it should be */
export function fullLoad(protocol: LoadProtocol, target: LoadTarget): Promise<FullLoad> {
  const url = `http://127.0.0.1:${target.port}`;
  switch (protocol) {
    case "HTTP/1.1":
      return wrk(`${url}/`, target.seconds);
    case "HTTP/2":
      return h2load(target.seconds, [`${url}/`]);
    case "gRPC": {
      const fields = ["-H", "content-type: application/grpc", "-H", "te: trailers"];
      return h2load(target.seconds, ["-d", target.messageFile, ...fields, `${url}${grpcPath}`]);
    }
  }
}

async function wrk(url: string, seconds: number): Promise<FullLoad> {
  const said = await onLoadCore("wrk", ["-t1", "-c64", `-d${seconds}s`, url]);
  if (/Non-2xx|Socket errors/u.test(said)) throw new Error(`wrk: ${said}`);
  return outcome(/(\d+) requests in ([\d.]+)(s|m)/u.exec(said), said, seconds);
}

async function h2load(seconds: number, rest: readonly string[]): Promise<FullLoad> {
  const said = await onLoadCore("h2load", ["-c8", "-m32", "-t1", `-D${seconds}`, ...rest]);
  if (!/ 0 3xx, 0 4xx, 0 5xx/u.test(said)) throw new Error(`h2load: ${said}`);
  return outcome(/status codes: (\d+) 2xx/u.exec(said), said, seconds);
}

const onLoadCore = async (program: string, args: readonly string[]): Promise<string> =>
  (await run("taskset", ["-c", String(loadCore), program, ...args])).stdout;

function outcome(found: RegExpExecArray | null, said: string, seconds: number): FullLoad {
  const requests = Number(found?.[1]);
  if (!(requests > 0)) throw new Error(`No requests were answered: ${said}`);
  return { requests, perSecond: requests / seconds };
}
