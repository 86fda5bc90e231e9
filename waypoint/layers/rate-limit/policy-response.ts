/** What a limited request is answered, and what every answer tells about limits. */
import {
  Response_StandardHeaders as Standard,
  type Response,
} from "#shared/proto/gen/ambit/policy/v1alpha1/rate_limit_filter_pb.js";
import type { LocalReply } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";

/** How a limit stands after a request was counted: the window of it that leaves least. */
export interface Standing {
  readonly limit: string;
  readonly requests: number;
  readonly perSeconds: number;
  /** Whole requests, at least 0. */
  readonly remaining: number;
  /** Until more are admitted. */
  readonly resetSeconds: number;
}

export interface Limited extends Standing {
  readonly policy: string;
  /** Until this request would be admitted; undefined where it never would be. */
  readonly retrySeconds: number | undefined;
}

const defaultBody = "local_rate_limited";

/** @param said what a rate limit service wants the caller to read: where the policy has no words of its own */
export function limitedReply(response: Response, limited: Limited, said: Buffer | undefined): LocalReply {
  const headers = new Headers(["content-type", response.contentType || "text/plain"]);
  headers.append("x-envoy-ratelimited", "true");
  for (const [name, value] of Object.entries(response.headers)) headers.set(name.toLowerCase(), value);
  if (response.retryAfter && limited.retrySeconds !== undefined) {
    headers.set("retry-after", `${Math.max(1, Math.ceil(limited.retrySeconds))}`);
  }
  return {
    status: response.status,
    body: response.body === "" ? (said ?? defaultBody) : response.body,
    headers,
    details: `rate_limited[${limited.policy}/${limited.limit}]`,
    flag: "RL",
    grpcStatus: response.grpcStatus,
  };
}

/** `standings` of every limit that counted the request. */
export function tellStandings(style: Standard, standings: readonly Standing[], headers: Headers): void {
  const tightest = standings.reduce<Standing | undefined>(
    (least, each) => (least === undefined || each.remaining < least.remaining ? each : least),
    undefined,
  );
  if (tightest === undefined) return;
  switch (style) {
    case Standard.OFF:
      return;
    case Standard.DRAFT_VERSION_03: {
      const quotas = standings.map(
        ({ requests, perSeconds, limit }) => `${requests};w=${perSeconds};name=${quoted(limit)}`,
      );
      headers.set("x-ratelimit-limit", [`${tightest.requests}`, ...quotas].join(", "));
      headers.set("x-ratelimit-remaining", `${tightest.remaining}`);
      headers.set("x-ratelimit-reset", `${tightest.resetSeconds}`);
      return;
    }
    case Standard.IETF:
      // draft-ietf-httpapi-ratelimit-headers: structured fields, one item for each policy.
      headers.set(
        "ratelimit-policy",
        standings.map(({ limit, requests, perSeconds }) => `${quoted(limit)};q=${requests};w=${perSeconds}`).join(", "),
      );
      headers.set(
        "ratelimit",
        standings
          .map(({ limit, remaining, resetSeconds }) => `${quoted(limit)};r=${remaining};t=${resetSeconds}`)
          .join(", "),
      );
      return;
  }
}

/** Names are DNS labels: nothing in them needs escaping. */
const quoted = (name: string): string => `"${name}"`;
