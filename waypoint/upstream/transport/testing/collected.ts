/** Answers as tests look at them, and hosts to ask. */
import type { Headers } from "#waypoint/http/headers.ts";
import { Headers as MadeHeaders } from "#waypoint/http/headers.ts";
import type { RequestHead, ResetReason, ResponseHead, ResponseReader } from "#waypoint/http/streams.ts";
import { until } from "#shared/testing/loopback.ts";
import type { Host, HostAddress } from "#waypoint/upstream/host.ts";

export class Collected implements ResponseReader {
  readonly interim: ResponseHead[] = [];
  response: ResponseHead | undefined;
  endsWithHead = false;
  readonly chunks: Buffer[] = [];
  trailers: Headers | undefined;
  hasEnded = false;
  isReset: { readonly reason: ResetReason; readonly detail: string } | undefined;
  drains = 0;
  onData: () => void = () => {};

  get text(): string {
    return Buffer.concat(this.chunks).toString();
  }

  inform(head: ResponseHead): void {
    this.interim.push(head);
  }

  head(head: ResponseHead, endsWithHead: boolean): void {
    if (this.response !== undefined) throw new Error("a second head");
    this.response = head;
    this.endsWithHead = endsWithHead;
  }

  data(chunk: Buffer): void {
    if (this.response === undefined || this.hasEnded) throw new Error("data out of order");
    this.chunks.push(chunk);
    this.onData();
  }

  end(trailers: Headers | undefined): void {
    if (this.hasEnded || this.isReset !== undefined) throw new Error("a second end");
    this.trailers = trailers;
    this.hasEnded = true;
  }

  reset(reason: ResetReason, detail: string): void {
    if (this.isReset !== undefined) throw new Error("a second reset");
    this.isReset = { reason, detail };
  }

  drained(): void {
    this.drains++;
  }

  /** Waits for the whole answer. @throws Error where it was cut off */
  async done(): Promise<this> {
    await until(() => this.hasEnded || this.isReset !== undefined, "the answer is complete");
    if (this.isReset !== undefined) throw new Error(`${this.isReset.reason}: ${this.isReset.detail}`);
    return this;
  }

  /** Waits for it to be cut off. */
  async resetReason(): Promise<ResetReason> {
    await until(() => this.isReset !== undefined, "the answer is cut off");
    return this.isReset?.reason as ResetReason;
  }
}

export function requestOf(path: string, wish: Partial<RequestHead> & { readonly fields?: string[] } = {}): RequestHead {
  const { fields = [], ...rest } = wish;
  return { method: "GET", scheme: "http", authority: "test.example", path, headers: new MadeHeaders(fields), ...rest };
}

export function hostAt(port: number, kind: HostAddress["kind"] = "socket", wish: Partial<Host> = {}): Host {
  return {
    key: `127.0.0.1:${port}`,
    address: { kind, ip: "127.0.0.1", port },
    hostname: "",
    locality: { region: "", zone: "", subZone: "" },
    metadata: new Map(),
    active: 0,
    ...wish,
  };
}
