import { expect, test } from "@jest/globals";
import { parseIp } from "#shared/net/ip.ts";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { RequestHead } from "#waypoint/http/streams.ts";
import { RequestRules, type RequestSettings } from "./request-rules.ts";

const settings: RequestSettings = {
  usesRemoteAddress: false,
  skipsForwardedFor: false,
  generatesRequestId: false,
  preservesRequestId: false,
  clientCertificate: "sanitize",
  clientCertificateDetails: { subject: false, uri: true },
  appendsForwardedPort: false,
  stripsPort: "no",
  stripsTrailingDot: false,
  via: "",
  scheme: undefined,
  internalOnly: new Set(),
  path: { normalises: true, mergesSlashes: false, escapedSlashes: "keep" },
};
const connection: DownstreamConnection = {
  id: 1,
  peerPrincipal: "spiffe://td/ns/a/sa/b",
  localPrincipal: "spiffe://td/ns/shop/sa/waypoint",
  source: { ip: parseIp("10.0.0.7"), port: 4_000 },
  destination: { ip: parseIp("10.1.0.1"), port: 80 },
  serverName: undefined,
};

interface Ruled {
  readonly authority: string;
  readonly scheme: string;
  readonly headers: string[];
}

function ruled(own: Partial<RequestSettings>, headers: string[], peer: Partial<DownstreamConnection> = {}): Ruled {
  const request: RequestHead = {
    method: "GET",
    scheme: "http",
    authority: "a.:80",
    path: "/",
    headers: new Headers([...headers]),
  };
  new RequestRules({ ...settings, ...own }).apply(request, "HTTP/1.1", { ...connection, ...peer });
  return { authority: request.authority, scheme: request.scheme, headers: [...request.headers.pairs] };
}

const xfcc = "x-forwarded-client-cert";
const proto = ["x-forwarded-proto", "http"];

// prettier-ignore
test.each<[string, Partial<RequestSettings>, string[], string[], Partial<DownstreamConnection>?]>([
  ["the protocol is told where nobody has",           {}, [],                                        proto],
  ["and kept where somebody has",                     {}, ["x-forwarded-proto", "https"],            ["x-forwarded-proto", "https"]],
  ["an address list is passed on as it is",           {}, ["x-forwarded-for", "1.2.3.4", ...proto],  ["x-forwarded-for", "1.2.3.4", ...proto]],
  ["commands to the proxy are not taken from anyone", {}, ["x-envoy-max-retries", "9", "a", "b", "x-envoy-internal", "true", ...proto], ["a", "b", ...proto]],
  ["nor does Istio's description reach applications", {}, ["x-envoy-peer-metadata", "x", "x-envoy-peer-metadata-id", "y", ...proto], proto],
  ["other headers of that kind stay",                 {}, ["x-envoy-foo", "1", "x-envoy-decorator-operation", "z", ...proto], ["x-envoy-foo", "1", "x-envoy-decorator-operation", "z", ...proto]],
  ["te concerns one hop, but for trailers",           {}, ["te", "gzip", "te", "trailers, deflate", ...proto], ["te", "trailers", ...proto]],
  ["further internal names are told by routes",       { internalOnly: new Set(["x-own"]) }, ["x-own", "1", ...proto], proto],
  ["certificates that a client tells are not believed", {}, [xfcc, "By=me", ...proto],               proto],
  ["sanitize and set",        { clientCertificate: "sanitize-and-set" }, [xfcc, "By=me", ...proto],  [xfcc, "By=spiffe://td/ns/shop/sa/waypoint;URI=spiffe://td/ns/a/sa/b", ...proto]],
  ["append",                  { clientCertificate: "append" }, [xfcc, "By=me", ...proto],            [xfcc, "By=me,By=spiffe://td/ns/shop/sa/waypoint;URI=spiffe://td/ns/a/sa/b", ...proto]],
  ["forward",                 { clientCertificate: "forward" }, [xfcc, "By=me", ...proto],           [xfcc, "By=me", ...proto]],
  ["who proved nothing tells nothing", { clientCertificate: "append" }, [xfcc, "By=me", ...proto],   proto, { peerPrincipal: undefined }],
  ["unless that does not matter", { clientCertificate: "always-forward" }, [xfcc, "By=me", ...proto], [xfcc, "By=me", ...proto], { peerPrincipal: undefined }],
  ["the first proxy tells the client's address", { usesRemoteAddress: true }, ["x-forwarded-for", "1.2.3.4", "x-forwarded-proto", "https"], ["x-forwarded-for", "1.2.3.4,10.0.0.7", "x-forwarded-proto", "http", "x-envoy-external-address", "10.0.0.7"]],
  ["the port, where asked for", { appendsForwardedPort: true }, proto,                               [...proto, "x-forwarded-port", "80"]],
  ["via",                       { via: "1.1 me" }, proto,                                            [...proto, "via", "1.1 me"]],
])("%s", (_why, own, headers, wanted, ...[peer]) => {
  expect(ruled(own, headers, peer).headers).toEqual(wanted);
});

test("request ids: made where there is none, replaced where ours is the first proxy", () => {
  const [name, id] = ruled({ generatesRequestId: true }, proto).headers.slice(-2);
  expect(name).toBe("x-request-id");
  expect(id).toMatch(/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  const given = ["x-request-id", "mine", ...proto];
  expect(ruled({ generatesRequestId: true }, given).headers).toEqual(given);
  const first = { generatesRequestId: true, usesRemoteAddress: true, skipsForwardedFor: true };
  expect(ruled(first, given).headers[1]).not.toBe("mine");
  expect(ruled({ ...first, preservesRequestId: true }, given).headers[1]).toBe("mine");
});

// prettier-ignore
test.each<[Partial<RequestSettings>, string]>([
  [{}, "a.:80"],
  [{ stripsPort: "matching" }, "a."],
  [{ stripsPort: "any", stripsTrailingDot: true }, "a"],
  [{ stripsTrailingDot: true }, "a:80"],
])("%j: the host becomes %s", (own, authority) => {
  expect(ruled(own, []).authority).toBe(authority);
});

test("the scheme is what was forwarded, or what is told", () => {
  expect(ruled({}, ["x-forwarded-proto", "https"]).scheme).toBe("https");
  expect(ruled({ usesRemoteAddress: true }, ["x-forwarded-proto", "https"]).scheme).toBe("http");
  expect(ruled({ scheme: "https" }, []).scheme).toBe("https");
});
