/** What every answer of a chain gets, whoever made it, before it goes to the client. */
import type { Headers } from "#waypoint/http/headers.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";

export interface AnswerSettings {
  readonly serverName: string;
  /** `overwrite`: ours; `append-if-absent`: ours where there is none; `pass`: as it comes. */
  readonly serverHeader: "overwrite" | "append-if-absent" | "pass";
  /** `x-request-id` goes back, too. */
  readonly returnsRequestId: boolean;
  readonly via: string;
}

export class AnswerRules {
  readonly #settings: AnswerSettings;

  constructor(settings: AnswerSettings) {
    this.#settings = settings;
  }

  apply(head: ResponseHead, request: Headers): void {
    const { headers } = head;
    const { serverName, serverHeader, via, returnsRequestId } = this.#settings;
    if (serverHeader === "overwrite") headers.set("server", serverName);
    else if (serverHeader === "append-if-absent" && !headers.has("server")) headers.append("server", serverName);
    if (!headers.has("date")) headers.append("date", httpDate());
    if (via !== "") headers.append("via", via);
    if (!returnsRequestId) return;
    const id = request.get("x-request-id");
    if (id !== undefined) headers.set("x-request-id", id);
  }
}

let second = 0;
let text = "";

/** The date of now as HTTP writes it, made once a second. */
export function httpDate(nowMs = Date.now()): string {
  const now = Math.floor(nowMs / 1_000);
  if (now !== second) {
    second = now;
    text = new Date(now * 1_000).toUTCString();
  }
  return text;
}
