import { describe, expect, test } from "@jest/globals";
import type { Exchange, LocalReply } from "./exchange.ts";
import { Headers } from "./headers.ts";
import { encodeGrpcMessage, grpcStatusOf, renderLocalReply } from "./local-reply.ts";

function render(reply: LocalReply, { method = "GET", isGrpc = false } = {}) {
  const exchange = { request: { method }, isGrpc, flags: new Set<string>(), responseCodeDetails: "" };
  const { head, body } = renderLocalReply(exchange as unknown as Exchange, reply);
  return { status: head.status, headers: [...head.headers], body: body?.toString(), exchange };
}

const denied: LocalReply = { status: 403, body: "RBAC: access denied", details: "rbac_access_denied", flag: "UAEX" };

describe("local replies", () => {
  test("text with length and type; details and flag are kept", () => {
    const { status, headers, body, exchange } = render(denied);
    expect({ status, headers, body }).toEqual({
      status: 403,
      headers: [
        ["content-length", "19"],
        ["content-type", "text/plain"],
      ],
      body: "RBAC: access denied",
    });
    expect(exchange.responseCodeDetails).toBe("rbac_access_denied");
    expect([...exchange.flags]).toEqual(["UAEX"]);
  });

  test("an answer without text has no fields of its own", () => {
    const { headers, body } = render({ status: 404, details: "route_not_found" });
    expect({ headers, body }).toEqual({ headers: [], body: undefined });
  });

  test("another content type, and other fields", () => {
    const { headers } = render({ ...denied, headers: new Headers(["content-type", "text/html", "x-a", "1"]) });
    expect(headers).toEqual([
      ["content-length", "19"],
      ["content-type", "text/html"],
      ["x-a", "1"],
    ]);
  });

  test("HEAD is told the length, and gets no body", () => {
    const { headers, body } = render(denied, { method: "HEAD" });
    expect(headers[0]).toEqual(["content-length", "19"]);
    expect(body).toBeUndefined();
  });

  test("length in bytes, not in characters", () => {
    expect(render({ status: 200, body: "é€", details: "" }).headers[0]).toEqual(["content-length", "5"]);
  });

  test("gRPC: 200, status and message, nothing else", () => {
    const { status, headers, body } = render({ ...denied, body: "no: 100 %\n" }, { isGrpc: true });
    expect({ status, headers, body }).toEqual({
      status: 200,
      headers: [
        ["content-type", "application/grpc"],
        ["grpc-status", "7"],
        ["grpc-message", "no: 100 %25%0A"],
      ],
      body: undefined,
    });
  });

  test("gRPC: a status of its own wins", () => {
    expect(render({ ...denied, grpcStatus: 8 }, { isGrpc: true }).headers).toContainEqual(["grpc-status", "8"]);
  });

  test.each([
    [400, 13],
    [401, 16],
    [403, 7],
    [404, 12],
    [429, 14],
    [502, 14],
    [503, 14],
    [504, 14],
    [500, 2],
    [418, 2],
  ])("HTTP %d is gRPC %d", (http, grpc) => expect(grpcStatusOf(http)).toBe(grpc));

  test.each([
    ["plain text!", "plain text!"],
    ["100%", "100%25"],
    ["é", "%C3%A9"],
    ["a\r\nb: c", "a%0D%0Ab: c"],
  ])("grpc-message of %j", (text, expected) => expect(encodeGrpcMessage(text)).toBe(expected));
});
