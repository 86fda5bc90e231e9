import { expect, test } from "@jest/globals";
import { AppProtocol } from "#shared/proto/gen/workload/workload_pb.js";
import { appProtocol as toAppProtocol, entryProtocol, portProtocol } from "./protocol.ts";

const { UNKNOWN, HTTP11, HTTP2, GRPC, TCP, TLS } = AppProtocol;

test.each([
  ["http", 80, undefined, HTTP11],
  ["HTTP-web", 80, undefined, HTTP11],
  ["http2", 80, undefined, HTTP2],
  ["grpc-api", 80, undefined, GRPC],
  ["grpc-web", 80, undefined, UNKNOWN],
  ["GRPC-Web-x", 80, undefined, UNKNOWN],
  ["https", 443, undefined, TLS],
  ["tls-x", 443, undefined, TLS],
  ["tcp", 80, undefined, TCP],
  ["mongo", 80, undefined, UNKNOWN],
  ["http_proxy", 80, undefined, UNKNOWN],
  ["httpx", 80, undefined, UNKNOWN],
  ["", 80, undefined, UNKNOWN],
  ["", 25, undefined, TCP],
  ["dns", 53, undefined, TCP],
  ["whatever", 3306, undefined, TCP],
  ["whatever", 27_017, undefined, TCP],
  ["mysql", 3306, undefined, UNKNOWN],
  ["http", 80, "tcp", TCP],
  ["tcp", 80, "kubernetes.io/h2c", HTTP2],
  ["tcp", 80, "kubernetes.io/ws", HTTP11],
  ["tcp", 80, "kubernetes.io/wss", TLS],
  ["http", 80, "example.com/own", UNKNOWN],
  ["http", 80, "", UNKNOWN],
  ["http", 80, "http-x", HTTP11],
])("port %p %p with appProtocol %p is %p", (name, port, appProtocol, protocol) => {
  expect(toAppProtocol(portProtocol({ name, port, appProtocol, protocol: "TCP" }))).toBe(protocol);
  expect(portProtocol({ name, port, appProtocol, protocol: "UDP" })).toBe("udp");
});

test("a ServiceEntry names protocols whole, in any case", () => {
  expect(entryProtocol("HTTP2")).toBe("http2");
  expect(entryProtocol("http-x")).toBe("unsupported");
  expect(entryProtocol("constructor")).toBe("unsupported");
});
