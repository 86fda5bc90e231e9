/** One request that both proxies are asked. */
import type { Asking } from "#e2e/support/side-by-side.ts";

export interface Case extends Asking {
  readonly name: string;
  /** That of both; 0 where there is no answer. */
  readonly status: number;
  /** Attempts that reach the backend, where it matters. */
  readonly attempts?: number;
}

/** Ours is another answer on purpose: in these lines (see `comparable`), or altogether; the status above is then Envoy's. */
export type Difference = { readonly because: string } & ({ readonly in: RegExp } | { readonly status: number });

export interface Spoken {
  readonly method?: string;
  readonly headers?: readonly (readonly [name: string, value: string])[];
  readonly body?: string;
  readonly listener?: string;
  readonly attempts?: number;
  readonly version?: "1.0" | "1.1";
}

/** HTTP/1 to a host: the name is what is special, then where, then what comes of it. */
export function http1(name: string, host: string, path: string, status: number, spoken: Spoken = {}): Case {
  const { method = "GET", headers = [], body, listener = "main", attempts, version = "1.1" } = spoken;
  const lines = [
    `${method} ${path} HTTP/${version}`,
    `Host: ${host}`,
    ...headers.map(([key, value]) => `${key}: ${value}`),
    ...(body === undefined ? [] : [`Content-Length: ${body.length}`]),
    "",
    body ?? "",
  ];
  return { name, listener, status, request: lines.join("\r\n"), ...(attempts !== undefined && { attempts }) };
}

/** Requests are written byte by byte: text whose characters are the bytes of its UTF-8. */
export const utf8 = (text: string): string => Buffer.from(text).toString("latin1");

/** Exactly these bytes. */
export const raw = (name: string, status: number, request: string, listener = "main"): Case => ({
  name,
  listener,
  status,
  request,
});

export function http2(
  name: string,
  host: string,
  path: string,
  status: number,
  headers: Readonly<Record<string, string | string[]>> = {},
  body?: Buffer | string,
): Case {
  const head = { ":method": body === undefined ? "GET" : "POST", ":path": path, ":authority": host, ...headers };
  return { name, listener: "main", status, request: { headers: head, body } };
}

/** A call with a message of three bytes. */
export const grpc = (name: string, host: string, path: string, headers: Readonly<Record<string, string>> = {}): Case =>
  http2(
    name,
    host,
    path,
    200,
    { "content-type": "application/grpc", te: "trailers", ...headers },
    Buffer.from([0, 0, 0, 0, 3, 97, 98, 99]),
  );
