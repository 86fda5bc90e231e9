import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { Headers } from "#waypoint/http/headers.ts";
import { anExchange } from "#waypoint/layers/testing.ts";
import { compilePathTemplate } from "#waypoint/matching/path-template.ts";
import { compileFormat } from "./format.ts";
import { queryParameter } from "./match/query.ts";

function say(text: string): string {
  const problems: string[] = [];
  const format = compileFormat(text, "at", (path, message) => void problems.push(`${path}: ${message}`));
  if (problems.length > 0) return problems.join("; ");
  const exchange = anExchange({ path: "/p?q=1&%65=a%20b", headers: ["a", "1", "x-envoy-original-path", "/old?z"] });
  exchange.flags.add("UF").add("URX");
  exchange.upstreamCluster = "c";
  exchange.metadata.set("jwt", { sub: "ann", list: [1] });
  const end = { responseTrailers: new Headers(["grpc-status", "14"]), bytesReceived: 3, bytesSent: 4, durationMs: 1.6 };
  return format.format({ exchange, response: { status: 200, headers: new Headers(["b", "2"]) }, end }, "-");
}

describe("format strings", () => {
  test.each([
    ["plain", "plain"],
    ["100%% of %REQ(A)%", "100% of 1"],
    ["%REQ(x?:path):2%|%REQ(none)%", "/p|-"],
    ["%RESP(b)% %TRAILER(grpc-status)% %RESPONSE_CODE%", "2 14 200"],
    ["%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%", "UF,URX UpstreamConnectionFailure,UpstreamRetryLimitExceeded"],
    ["%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%", "Unavailable UNAVAILABLE 14"],
    ["%BYTES_RECEIVED% %BYTES_SENT% %DURATION%", "3 4 2"],
    ["%REQ_WITHOUT_QUERY(x-envoy-original-path?:path)%", "/old"],
    ["%PATH(NQ:PATH)% %PATH(WQ:ORIG)% %QUERY_PARAM(q)%", "/p /old?z 1"],
    ["%PATH(NQ)% %QUERY_PARAM(e)%", "/old a b"],
    ["naïve", "na\u00c3\u00afve"],
    [
      "%DYNAMIC_METADATA(jwt:sub)% %DYNAMIC_METADATA(jwt:none)% %DYNAMIC_METADATA(jwt)%",
      'ann - {"sub":"ann","list":[1]}',
    ],
    ["%START_TIME%", "2027-01-15T08:00:00.000Z"],
    ["%START_TIME(%s.%3f %d/%b/%Y:%T %z)%", "1800000000.000 15/Jan/2027:08:00:00 +0000"],
    ["%UPSTREAM_CLUSTER% %UPSTREAM_HOST%", "c -"],
    ["%FILTER_STATE(io.istio.peer_principal)%", "spiffe://cluster.local/ns/shop/sa/frontend"],
    ["%NOPE%", 'at: command "%NOPE%" is not known'],
    ["%constructor%", 'at: "%constructor%" has a "%" that begins no command; write "%%" for a percent sign'],
    ["50%", 'at: "50%" has a "%" that begins no command; write "%%" for a percent sign'],
    ["%PROTOCOL(x)%", "at: %PROTOCOL%: takes no argument"],
    ["%REQ()%", 'at: %REQ%: cannot read "" as a name, or as name?other'],
  ])("%s", (text, wanted) => {
    expect(say(text)).toBe(wanted);
  });

  test("whatever is written, nothing is thrown", () => {
    const piece = fc.oneof(
      fc.string(),
      fc.constantFrom("%", "%REQ(", ")%", ":3%", "%START_TIME(", "%Y", "/", "{a", "=**}", "*"),
    );
    const text = fc.array(piece, { maxLength: 8 }).map((parts) => parts.join(""));
    fc.assert(
      fc.property(text, (written) => {
        say(written);
        compilePathTemplate(written, "at", () => undefined)?.match(written);
        compilePathTemplate(`/${written}`, "at", () => undefined)?.match(written);
        queryParameter(written, written.slice(0, 2));
      }),
    );
  });

  test("query parameters are found as splitting finds them", () => {
    const part = fc.constantFrom("a", "b", "ab", "=", "&", "", "1");
    const query = fc.array(part, { maxLength: 12 }).map((parts) => parts.join(""));
    fc.assert(
      fc.property(query, fc.constantFrom("a", "b", "ab"), (text, name) => {
        const pairs = text
          .split("&")
          .map((pair) => [pair.split("=")[0], pair.includes("=") ? pair.slice(pair.indexOf("=") + 1) : ""]);
        expect(queryParameter(`/x?${text}`, name)).toBe(pairs.find(([key]) => key === name)?.[1]);
      }),
    );
  });
});
