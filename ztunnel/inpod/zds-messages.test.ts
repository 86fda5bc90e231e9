import { describe, expect, test } from "@jest/globals";
import { readAck, readRequest, refuseHello, writeAck, writeHello, writeRequest } from "./zds-messages.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const info = { name: "n", namespace: "s", serviceAccount: "a" };

describe("bytes on the wire are Istio's", () => {
  // prettier-ignore
  test.each([ // message                                     bytes                      why
    [writeHello(),                                           "0801",                    "version is field 1"],
    [writeAck(),                                             "0a00",                    "an empty ack is still an ack"],
    [writeAck("no"),                                         "0a040a026e6f",            "error is field 1 of ack"],
    [writeRequest({ kind: "add", uid: "u", info }),          "0a0e0a017512090a016e1201731a0161", "workload_info is field 2"],
    [writeRequest({ kind: "del", uid: "u" }),                "1203120175",              "uid of a deletion is field 2"],
    [writeRequest({ kind: "snapshot-sent" }),                "1a00",                    "field 3, empty"],
    [writeRequest({ kind: "keep", uid: "u" }),               "2a030a0175",              "field 5"],
  ])("%# %j", (message, bytes, _why) => {
    expect(hex(message)).toBe(bytes);
  });
});

test("a request survives the way", () => {
  for (const request of [
    { kind: "add", uid: "u1", info },
    { kind: "keep", uid: "u2" },
    { kind: "del", uid: "u3" },
    { kind: "snapshot-sent" },
  ] as const) {
    expect(readRequest(writeRequest(request), request.kind === "add")).toEqual({ kind: "request", request });
  }
});

// prettier-ignore
test.each([ // bytes                                  fd     answer        why
  [writeRequest({ kind: "add", uid: "u", info }),     false, "unreadable", "an Add needs a descriptor"],
  [writeRequest({ kind: "del", uid: "u" }),           true,  "unreadable", "a Del must have none"],
  [writeRequest({ kind: "snapshot-sent" }),           true,  "unreadable", "nor a snapshot"],
  [Buffer.from("0a030a0175", "hex"),                  true,  "violation",  "an Add needs workload_info"],
  [Buffer.from("", "hex"),                            false, "unreadable", "no payload"],
  [Buffer.from("3a00", "hex"),                        false, "unreadable", "a payload of tomorrow"],
  [Buffer.from("ffffff", "hex"),                      false, "unreadable", "garbage"],
])("readRequest %#: %s with fd %s is %s: %s", (bytes, fd, kind, _why) => {
  expect(readRequest(bytes, fd).kind).toBe(kind);
});

test("acknowledgements", () => {
  expect(readAck(writeAck())).toBe("");
  expect(readAck(writeAck("bind failed"))).toBe("bind failed");
  expect(readAck(Buffer.from("ffffff", "hex"))).toBeUndefined();
  expect(readAck(new Uint8Array())).toBeUndefined();
  expect(writeAck("x".repeat(5_000)).length).toBeLessThan(1_024);
});

test("only version 1 is greeted", () => {
  expect(refuseHello(writeHello())).toBeUndefined();
  expect(refuseHello(Buffer.from("0802", "hex"))).toMatch(/version 2/);
  expect(refuseHello(new Uint8Array())).toMatch(/version 0/);
  expect(refuseHello(Buffer.from("ff", "hex"))).toMatch(/parse/);
});
