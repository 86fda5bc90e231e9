/** Timeouts, retries, and what is answered where there is nobody to ask. */
import type { JsonObject } from "@bufbuild/protobuf";
import { grpc, http1, http2, type Case } from "./case.ts";

const route = (path: string, { cluster_header, ...action }: JsonObject): JsonObject => ({
  match: { prefix: path },
  route: {
    ...(cluster_header === undefined ? { cluster: "backend" } : { cluster_header }),
    timeout: "0s",
    ...action,
  },
});
const retry = (path: string, retry_on: string, more: JsonObject = {}, action: JsonObject = {}) =>
  route(path, {
    retry_policy: {
      retry_on,
      num_retries: 2,
      retry_back_off: { base_interval: "0.001s", max_interval: "0.002s" },
      ...more,
    },
    ...action,
  });

export const resilienceRoutes: readonly JsonObject[] = [
  route("/timeout", { timeout: "0.1s" }),
  route("/empty", { cluster: "empty" }),
  route("/refused", { cluster: "refused" }),
  route("/no-cluster", { cluster: "nowhere" }),
  route("/not-found-cluster", { cluster: "nowhere", cluster_not_found_response_code: "NOT_FOUND" }),
  route("/header-cluster", { cluster_header: "x-to" }),
  retry("/retry/5xx", "5xx"),
  retry("/retry/gateway", "gateway-error"),
  retry("/retry/codes", "retriable-status-codes", { retriable_status_codes: [409] }),
  retry("/retry/reset", "reset"),
  retry("/retry/4xx", "retriable-4xx"),
  retry("/retry/headers", "retriable-headers", { retriable_headers: [{ name: "x-again", present_match: true }] }),
  retry("/retry/unsent", "connect-failure,refused-stream"),
  retry("/retry/only-get", "5xx", { retriable_request_headers: [{ name: ":method", string_match: { exact: "GET" } }] }),
  retry("/retry/none", "5xx", { num_retries: 0 }),
  retry("/retry/per-try", "5xx", { per_try_timeout: "0.05s" }),
  retry("/retry/refused", "connect-failure", {}, { cluster: "refused" }),
  retry("/retry/grpc", "unavailable", {}, { cluster: "grpc" }),
  route("/grpc", { cluster: "grpc" }),
  route("/deadline", { cluster: "grpc", max_stream_duration: { grpc_timeout_header_max: "0s" } }),
  route("/", {}),
];

const host = "resilience.example";
const fails = (times: number, ...more: readonly (readonly [string, string])[]) => ({
  headers: [["x-fail", String(times)], ...more] as const,
});
const answers = (status: number) => ({ headers: [["x-answer", String(status)]] as const });
const hangs = { headers: [["x-hang", "1"]] as const };
const cuts = { headers: [["x-cut", "1"]] as const };
const attempts = (count: number) => ({ attempts: count });

/** With a message of three bytes, in the form of gRPC-Web. */
function web(
  name: string,
  text: "" | "-text",
  headers: Readonly<Record<string, string>>,
  path = "/grpc/a.B/C",
  status = 200,
): Case {
  const message = Buffer.from([0, 0, 0, 0, 3, 97, 98, 99]);
  const type = `application/grpc-web${text}`;
  return http1(name, host, path, status, {
    method: "POST",
    body: message.toString(text === "" ? "latin1" : "base64"),
    headers: Object.entries({ "content-type": type, accept: type, ...headers }),
  });
}

export const resilienceCases: readonly Case[] = [
  http1("a timeout", host, "/timeout", 504, hangs),
  http1("in time", host, "/timeout", 200),
  http1("no endpoint", host, "/empty", 503),
  http1("nobody listens", host, "/refused", 503),
  http1("no cluster", host, "/no-cluster", 503),
  http1("no cluster, as 404", host, "/not-found-cluster", 404),
  http1("a cluster by header", host, "/header-cluster", 200, { headers: [["x-to", "backend"]] }),
  http1("a cluster by a header that is not there", host, "/header-cluster", 503),
  http1("closed by the backend", host, "/", 503, cuts),
  http1("what backends answer passes", host, "/", 404, answers(404)),
  http1("an answer without a body", host, "/", 204, answers(204)),
  http1("an answer that nothing changed", host, "/", 304, answers(304)),
  http1("retried once", host, "/retry/5xx", 200, { ...fails(1), ...attempts(2) }),
  http1("retried twice", host, "/retry/5xx", 200, { ...fails(2), ...attempts(3) }),
  http1("retried without success", host, "/retry/5xx", 503, { ...fails(9), ...attempts(3) }),
  http1("retried with a body", host, "/retry/5xx", 200, { method: "POST", body: "hello", ...fails(1), ...attempts(2) }),
  http1("retried because closed", host, "/retry/5xx", 503, { ...cuts, ...attempts(3) }),
  http1("no gateway's error", host, "/retry/gateway", 500, { ...answers(500), ...attempts(1) }),
  http1("a gateway's error", host, "/retry/gateway", 502, { ...answers(502), ...attempts(3) }),
  http1("a status of the list", host, "/retry/codes", 409, { ...answers(409), ...attempts(3) }),
  http1("a status out of the list", host, "/retry/codes", 503, { ...answers(503), ...attempts(1) }),
  http1("a reset", host, "/retry/reset", 503, { ...cuts, ...attempts(3) }),
  http1("an answer is no reset", host, "/retry/reset", 503, { ...answers(503), ...attempts(1) }),
  http1("a conflict", host, "/retry/4xx", 409, { ...answers(409), ...attempts(3) }),
  http1("a header of the answer", host, "/retry/headers", 200, {
    headers: [["x-answer-with", '{"x-again":"1"}']],
    ...attempts(3),
  }),
  http1("only GET: GET", host, "/retry/only-get", 503, { ...fails(9), ...attempts(3) }),
  http1("only GET: POST", host, "/retry/only-get", 503, { method: "POST", ...fails(9), ...attempts(1) }),
  http1("what may have been acted upon is not sent again", host, "/retry/unsent", 503, {
    method: "POST",
    ...cuts,
    ...attempts(1),
  }),
  http1("no retries", host, "/retry/none", 503, { ...fails(9), ...attempts(1) }),
  http1("each try has its time", host, "/retry/per-try", 504, { ...hangs, ...attempts(3) }),
  http1("refused each time", host, "/retry/refused", 503),
  http1("retries are not for clients to order", host, "/", 503, {
    ...fails(1, ["x-envoy-retry-on", "5xx"]),
    ...attempts(1),
  }),
  http2("a timeout over HTTP/2", host, "/timeout", 504, { "x-hang": "1" }),
  grpc("a call", host, "/grpc/a.B/C"),
  grpc("a call that fails", host, "/grpc/a.B/C", { "x-grpc-fail": "5" }),
  grpc("a call that is retried", host, "/retry/grpc/a.B/C", { "x-grpc-fail": "14" }),
  grpc("a call that is not retried", host, "/retry/grpc/a.B/C", { "x-grpc-fail": "13" }),
  grpc("a call to nobody", host, "/empty/a.B/C"),
  grpc("a call that nobody takes", host, "/refused/a.B/C"),
  grpc("a call nowhere", host, "/no-cluster"),
  grpc("a call that takes too long", host, "/timeout/a.B/C", { "x-hang": "1" }),
  grpc("a call past its deadline", host, "/deadline/a.B/C", { "grpc-timeout": "5S" }),
  ...(["", "-text"] as const).flatMap((text) => [
    web(`a call from a browser${text}`, text, {}),
    web(`a call from a browser${text} that fails`, text, { "x-grpc-fail": "9" }),
    web(`a call from a browser${text} to nobody`, text, {}, "/empty/a.B/C", 503),
    web(`a call from a browser${text} that asks for the other form`, text, {
      accept: `application/grpc-web${text === "" ? "-text" : ""}`,
    }),
  ]),
  http1("a browser's call that is no base64", host, "/refused/a.B/C", 400, {
    method: "POST",
    body: "!!!!",
    headers: [["content-type", "application/grpc-web-text"]],
  }),
  http1("HTTP/1 to gRPC", host, "/grpc/a.B/C", 200, {
    method: "POST",
    body: "\0\0\0\0\0",
    headers: [
      ["content-type", "application/grpc"],
      ["te", "trailers"],
    ],
  }),
];
