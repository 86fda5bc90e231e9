/** Where our waypoint answers otherwise on purpose, each with the reason. The test holds us to these and to nothing else. */
import type { Difference } from "./case.ts";

export const differences: readonly (Difference & { readonly names: readonly (string | RegExp)[] })[] = [
  {
    names: ["a method in lower case"],
    status: 403,
    because: "any token is a method (RFC 9110 §9.1); policies name the one that they mean, letter by letter",
  },
  {
    names: ["remote-ip allows (1)"],
    status: 403,
    because: "no hop is trusted, so x-forwarded-for is a client's word: it opens no policy about addresses",
  },
  {
    names: [/^an answer of its own(?! to gRPC)/],
    in: /^header (x-d|connection): /,
    because:
      "%RESPONSE_CODE% is that of the answer, not 0; and a connection whose request was read to its end may go on",
  },
  {
    names: [/^(a |limits|gRPC).*: the second/],
    in: /^header x-envoy-ratelimited: true$/,
    because: "refusals of local limits are marked as those of a service are, so that nobody retries them (retry_on)",
  },
  {
    names: [/^(?!as-written).*: \/a%00b$/, /^escapes-rejected: .*%(2f|5c)/i],
    in: /^header connection: close$/,
    because: "the request was read to its end, so nothing makes the connection useless",
  },
  {
    names: [/: \/a.*#/, "no host"],
    in: /^(header content-|body )/,
    because: "malformed heads are all answered in one way, with the text of their status",
  },
  {
    names: ["an absolute target with a query only"],
    status: 200,
    because: "an authority ends where the query begins (RFC 3986 §3.2); a host with ? in it would be nobody's",
  },
  {
    names: ["HEAD", "HEAD of an error", "HEAD answered in chunks", "HEAD answered without a length"],
    in: /^header transfer-encoding: chunked$/,
    because: "what has no body has no coding",
  },
  {
    names: ["an empty host", "two hosts"],
    status: 400,
    because: "requests that name no host, or two, are refused (RFC 9112 §3.2), not routed by a guess",
  },
  {
    names: ["a folded header", "bare line feeds"],
    status: 400,
    because: "what two readers may read differently smuggles requests past one of them",
  },
  {
    names: ["HTTP of the future"],
    status: 400,
    because: "only old versions are helped by being told to upgrade",
  },
  {
    names: [/^at the edge: /],
    in: /^backend 1 x-(forwarded-for|forwarded-port|envoy-external-address): /,
    because:
      "Envoy takes another address of its machine for a client on loopback; listeners have ports of their own here",
  },
  {
    names: ["a call past its deadline"],
    in: /^backend 1 grpc-timeout: /,
    because: "the deadline goes on in the client's own unit: the same time",
  },
  {
    names: [/^a call from a browser(-text)? to nobody$/],
    in: /^(status|header connection: close)/,
    because: "what fails is told as gRPC tells it, with status 200, on a connection that may go on",
  },
  {
    names: ["a browser's call that is no base64"],
    status: 200,
    because: "the same, as gRPC tells it (grpc-status 13); upstream has heard of the call by then",
  },
  {
    names: [
      /: \/a.*[# ]/,
      "a target without a slash",
      "no host",
      "two lengths",
      "a length that is none",
      "a header without a colon",
      "a space before a colon",
    ],
    in: /^log 400 /,
    because: "the log says which rule was broken, and nothing of what a malformed head seemed to say",
  },
  {
    names: [/^escapes-rejected: .*%(2f|5c)/i],
    in: /^log 400 /,
    because: "the log has the path as it came",
  },
  {
    names: ["OPTIONS of everything"],
    in: /^log 404 /,
    because: "it is a path that no route has",
  },
  {
    names: ["nobody listens", "refused each time", "a call that nobody takes"],
    in: /^log .*onnect/,
    because: "why a connection did not come about is told in words of our own, with the address",
  },
  {
    names: ["no cluster", "no cluster, as 404", "a call nowhere"],
    in: /^log .* cluster_not_found /,
    because: "the log names the cluster that is missing",
  },
  {
    names: ["no retries"],
    in: /^log 503 /,
    because: "where none are allowed, no limit was reached",
  },
  {
    names: ["a call to nobody", /^a call from a browser(?!.* that fails)/],
    in: /^log /,
    because:
      "bytes that came are counted although nobody takes them; the outcome of a browser's call is what its trailers say",
  },
  {
    names: [/^(an answer (of another length than told|that is cut)|chunks that are cut)/],
    in: /^log /,
    because: "a connection that ends too early was terminated; the protocol was not broken",
  },
  {
    names: [/^half a head/],
    status: 503,
    because: "the same: nothing was answered, and a retry is no harm",
  },
  {
    names: [/^an answer until a reset/],
    in: /^(whole|log) /,
    because: "an answer without a length is whole where its connection ends, not where it breaks",
  },
  {
    names: ["chunks with trailers (HTTP/2)"],
    in: /^trailer /,
    because: "trailers are passed on whatever is spoken",
  },
  {
    names: ["a broken chunk"],
    status: 0,
    because: "a head that comes in one piece with what is wrong is not passed on: the connection ends either way",
  },
  {
    names: [
      /^(HTTP\/1\.0 in chunks|a status of two digits|another version|101 that nobody asked for)/,
      /^(a folded field|bare line feeds) (of|in) an answer/,
    ],
    status: 502,
    because: "what is not HTTP/1.1 as it is written down may be read otherwise by the next reader",
  },
  {
    names: [/^(early hints|102 before the answer)$/],
    in: /^status /,
    because: "interim answers are passed on",
  },
  {
    names: [/^connection fields of an answer/],
    in: /^header x-a: /,
    because: "what Connection names belongs to that connection (RFC 9110 §7.6.1)",
  },
  {
    names: [
      /^frames: (a name in capitals|an empty (name|path)|a (blank|colon) in a|a zero in|a line break in)/,
      /^frames: (connection|keep-alive|transfer-encoding|upgrade|te of more|no |a pseudo-field|an unknown|a status)/,
      /^frames: (a path (twice|without)|an absolute path|user information|a method with|a length (without|that)|two lengths)/,
    ],
    in: /^(ending|log) /,
    because: "a message that is none ends its stream, not what else its connection carries; the log says why",
  },
  {
    names: ["frames: blanks around a value", "frames: only blanks"],
    status: 0,
    because: "such a message is malformed (RFC 9113 §8.2.1)",
  },
  {
    names: ["frames: another host beside"],
    status: 0,
    because: "two readers may choose differently",
  },
  {
    names: ["frames: a star"],
    in: /^log 404 /,
    because: "it is a path that no route has",
  },
  {
    names: ["frames: a fragment"],
    status: 0,
    because: "a fragment is no part of what is sent (RFC 9113 §8.3.1)",
  },
  {
    names: ["frames: a head that is too large", "frames: many fields"],
    status: 431,
    because: "the client is told which limit it was, on a connection that goes on",
  },
  {
    names: [/^frames: a body that is (shorter|longer)/],
    in: /^log /,
    because: "the log says what was wrong, and what came of the body",
  },
  {
    names: [/^frames: trailers (with|that)/, "frames: data after the end"],
    in: /^(ending|log|attempts|backend) /,
    because: "the same, and what had not been sent on is not sent any more",
  },
  {
    names: [/^authorizer: (?!.*(there is none))/],
    in: /^backend 1 x-(envoy-expected-rq-timeout-ms|envoy-internal): /,
    because: "an authorizer is told of the request, not of who else asks in which mesh and how long we wait",
  },
  {
    names: ["authorizer: what it is told"],
    in: /^backend 1 x-told: /,
    because: "fields that came apart are told apart",
  },
  {
    names: ["authorizer: what it adds for the upstream"],
    in: /^backend 2 x-up-two: /,
    because: "each value of a field goes on, not only its last",
  },
  {
    names: ["authorizer: HEAD"],
    in: /^header transfer-encoding: chunked$/,
    because: "what has no body has no coding",
  },
  {
    names: ["authorizer: a body that is too large"],
    in: /^header connection: close$/,
    because: "the request was read to its end, so nothing makes the connection useless",
  },
  {
    names: ["a token in a cookie", "a token in quotes in a cookie"],
    in: /^backend 1 cookie: /,
    because: "a token that is not to be forwarded is not, wherever it came from",
  },
  {
    names: ["two tokens, both good"],
    status: 200,
    because: "two fields are two tokens, not one with a comma in it",
  },
  {
    names: ["two tokens, one bad"],
    in: /^(header content-length:|body|log) /,
    because: "the same",
  },
  {
    names: ["two places, one bad"],
    in: /^log /,
    because: "a request that is refused is logged as it came",
  },
  {
    names: ["HTTP/1 to gRPC"],
    in: /^trailer /,
    because: "trailers are passed on to HTTP/1.1 too: the outcome of the call is in them",
  },
];
