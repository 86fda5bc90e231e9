/**
 * Decides about requests that a waypoint asks about, by Envoy's gRPC protocol and over HTTP, and hands out keys for tokens.
 * `JWKS={"keys":[…]} node e2e/support/authorizer.ts`
 *
 * The request says itself what it wants in `x-authz`: allow, deny, fail (no decision), slow (too late), forge (headers that
 * would change the form of a message), body (allowed where the body says "open sesame"). Without it the answer is no.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Server, ServerCredentials, type ServerUnaryCall } from "@grpc/grpc-js";
import { createServer } from "node:http";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import {
  CheckRequestSchema,
  CheckResponseSchema,
  type CheckRequest,
  type CheckResponse,
} from "#shared/proto/gen/envoy/service/auth/v3/external_auth_pb.js";

export const authorizerPorts = { http: 8000, keys: 8001, grpc: 9000 } as const;

const code = { ok: 0, denied: 7 } as const;
const tooLateMs = 10_000;
const password = "open sesame";

/** Headers of an answer that no message may get from an authorizer. */
const forged = { "transfer-encoding": "chunked", "content-length": "3", connection: "x-authz", host: "elsewhere" };

const option = (key: string, value: string) => ({ header: { key, value } });

async function check(
  request: CheckRequest,
  answer: (error: Error | null, response?: CheckResponse) => void,
): Promise<void> {
  const { attributes } = request;
  const http = attributes?.request?.http;
  const wanted = http?.headers["x-authz"] ?? "";
  const seen = [
    `principal=${attributes?.source?.principal}`,
    `method=${http?.method}`,
    `path=${http?.path}`,
    `host=${http?.host}`,
    `body=${http?.body}`,
  ].join(" ");
  if (wanted === "fail") {
    answer(new Error("asked to fail"));
    return;
  }
  if (wanted === "slow") await pause(tooLateMs);
  const isAllowed = ["allow", "forge"].includes(wanted) || (wanted === "body" && http?.body.includes(password));
  if (isAllowed !== true) {
    const denied = { status: { code: 401 }, headers: [option("x-why", "no leave")], body: "go away" };
    answer(
      null,
      create(CheckResponseSchema, {
        status: { code: code.denied },
        httpResponse: { case: "deniedResponse", value: denied },
      }),
    );
    return;
  }
  const allowed = {
    headers: [
      option("x-authorized", seen),
      ...(wanted === "forge" ? Object.entries(forged).map(([key, value]) => option(key, value)) : []),
    ],
    headersToRemove: ["x-secret", ...(wanted === "forge" ? ["content-length"] : [])],
    responseHeadersToAdd: [option("x-checked", "yes")],
  };
  answer(
    null,
    create(CheckResponseSchema, {
      status: { code: code.ok },
      httpResponse: { case: "okResponse", value: allowed },
    }),
  );
}

function serveGrpc(): void {
  const server = new Server();
  server.addService(
    {
      Check: {
        path: "/envoy.service.auth.v3.Authorization/Check",
        requestStream: false,
        responseStream: false,
        requestSerialize: (value: CheckRequest) => Buffer.from(toBinary(CheckRequestSchema, value)),
        requestDeserialize: (bytes: Buffer) => fromBinary(CheckRequestSchema, bytes),
        responseSerialize: (value: CheckResponse) => Buffer.from(toBinary(CheckResponseSchema, value)),
        responseDeserialize: (bytes: Buffer) => fromBinary(CheckResponseSchema, bytes),
      },
    },
    {
      Check: (
        call: ServerUnaryCall<CheckRequest, CheckResponse>,
        done: (error: Error | null, response?: CheckResponse) => void,
      ) => {
        void check(call.request, done);
      },
    },
  );
  server.bindAsync(`[::]:${authorizerPorts.grpc}`, ServerCredentials.createInsecure(), (error) => {
    if (error !== null) throw error;
  });
}

/** By Envoy's HTTP protocol: the request as it is, under a prefix; 200 means yes. */
function serveHttp(): void {
  createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += chunk.toString("utf8")));
    request.on("end", () => {
      const wanted = request.headers["x-authz"];
      if (wanted === "slow") return;
      const names = Object.keys(request.headers).sort().join(",");
      const seen = `method=${request.method} path=${request.url} host=${request.headers.host} names=${names}`;
      if (wanted === "fail") response.writeHead(500).end("broken");
      else if (wanted === "allow" || wanted === "forge" || (wanted === "body" && body.includes(password))) {
        response.writeHead(200, { "x-authorized": seen, "x-checked": "yes", "x-other": "kept here" }).end();
      } else response.writeHead(401, { "x-why": "no leave", "x-other": "kept here" }).end("go away");
    });
  }).listen(authorizerPorts.http, "::");
}

function serveKeys(): void {
  createServer((_request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(process.env["JWKS"] ?? '{"keys":[]}');
  }).listen(authorizerPorts.keys, "::");
}

if (import.meta.main) {
  process.on("SIGTERM", () => process.exit(0));
  serveGrpc();
  serveHttp();
  serveKeys();
}
