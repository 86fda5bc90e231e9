/** The origin behind every proxy: nginx, which answers 1 KiB over HTTP/1.1 and HTTP/2, and the answer of a gRPC call. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, loadCore, serve, type Served } from "./proxies.ts";

export interface Origin extends AsyncDisposable {
  readonly http1: number;
  readonly http2: number;
}

/** Of HTTP bodies and gRPC messages. */
export const bodyBytes = 1_024;
export const grpcPath = "/bench.Echo/Unary";

/** A message of gRPC in its frame: not compressed, its length, its bytes. */
export function grpcMessage(): Buffer {
  const frame = Buffer.alloc(5 + bodyBytes, 0x61);
  frame.writeUInt8(0, 0);
  frame.writeUInt32BE(bodyBytes, 1);
  return frame;
}

export async function startOrigin(scratch: string): Promise<Origin> {
  const [http1, http2] = [await freePort(), await freePort()];
  const folder = join(scratch, "origin");
  mkdirSync(folder);
  writeFileSync(join(folder, "body"), "b".repeat(bodyBytes));
  writeFileSync(join(folder, "grpc"), grpcMessage());
  const file = join(scratch, "nginx.conf");
  writeFileSync(file, configuration(scratch, folder, http1, http2));
  const served: Served = await serve(
    "nginx",
    http1,
    loadCore,
    ["nginx", "-e", join(scratch, "nginx.log"), "-c", file],
    {
      logFile: join(scratch, "nginx.err"),
    },
  );
  return { http1, http2, [Symbol.asyncDispose]: () => served[Symbol.asyncDispose]() };
}

/** A static file refuses POST: its refusal is answered with the message, as nginx's own way to serve one. */
const configuration = (scratch: string, folder: string, http1: number, http2: number): string => `
daemon off;
master_process off;
pid ${scratch}/nginx.pid;
events { worker_connections 4096; }
http {
  access_log off;
  root ${folder};
  open_file_cache max=10;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_body_temp_path ${scratch}/t1;
  proxy_temp_path ${scratch}/t2;
  fastcgi_temp_path ${scratch}/t3;
  uwsgi_temp_path ${scratch}/t4;
  scgi_temp_path ${scratch}/t5;
  server {
    listen 127.0.0.1:${http1} backlog=4096;
    listen 127.0.0.1:${http2} http2 backlog=4096;
    location / { try_files /body =404; }
    location = ${grpcPath} { error_page 404 405 =200 /grpc; }
    location = /grpc {
      types { }
      default_type application/grpc;
      add_trailer grpc-status 0;
      add_trailer grpc-message "";
    }
  }
}
`;
