/** A copy of a request that is sent and forgotten: its answer is thrown away, its slowness never reaches the client. */
import type { Clock } from "#shared/clock/clock.ts";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { Headers } from "#waypoint/http/headers.ts";
import type { RequestHead, ResetReason, ResponseHead, ResponseReader, UpstreamStream } from "#waypoint/http/streams.ts";
import type { Cluster, Clusters, Permit } from "#waypoint/upstream/clusters.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import type { MirrorPolicy } from "./mirror-policy.ts";

/** A mirror that has not taken so much of a body is given up. */
const maxPendingBytes = 1024 * 1024;
/** Of a mirrored request whose route has no timeout: an upstream that never answers must not gather copies. */
const defaultDeadlineMs = 60_000;

export interface MirrorContext {
  readonly clusters: Clusters;
  readonly clock: Clock;
  readonly random: () => number;
  /** The route's timeout; 0 for none. */
  readonly timeoutMs: number;
}

/** Begins those copies that the policies ask for. Empty where there are none. */
export function startMirrors(
  policies: readonly MirrorPolicy[],
  exchange: Exchange,
  endsWithHead: boolean,
  context: MirrorContext,
): Mirror[] {
  const mirrors: Mirror[] = [];
  for (const policy of policies) {
    if (!policy.applies(context.random)) continue;
    const cluster = context.clusters.get(policy.pickCluster(exchange));
    if (cluster === undefined) continue;
    const mirror = Mirror.start(policy, exchange, endsWithHead, cluster);
    mirror?.limit(context);
    if (mirror !== undefined) mirrors.push(mirror);
  }
  return mirrors;
}

export class Mirror implements ResponseReader {
  readonly #cluster: Cluster;
  readonly #host: Host;
  readonly #permit: Permit;
  #stream: UpstreamStream | undefined;
  #pendingBytes = 0;
  #isRequestOver: boolean;
  #isAnswered = false;
  #isOver = false;
  #cancelDeadline: (() => void) | undefined;

  private constructor(cluster: Cluster, host: Host, permit: Permit, endsWithHead: boolean) {
    this.#cluster = cluster;
    this.#host = host;
    this.#permit = permit;
    this.#isRequestOver = endsWithHead;
  }

  static start(policy: MirrorPolicy, exchange: Exchange, endsWithHead: boolean, cluster: Cluster): Mirror | undefined {
    const { request, stream, connection } = exchange;
    // A switched connection cannot be copied.
    if (request.upgrade !== undefined || request.method === "CONNECT") return undefined;
    const pick = cluster.pick({ exchange });
    const permit = pick.kind === "host" ? cluster.admitRequest() : undefined;
    if (pick.kind !== "host" || permit === undefined) return undefined;
    const mirror = new Mirror(cluster, pick.host, permit, endsWithHead);
    const head: RequestHead = {
      method: request.method,
      scheme: request.scheme,
      authority: policy.appendsShadowSuffix ? shadowHost(request.authority) : request.authority,
      path: request.path,
      headers: request.headers.clone(),
    };
    pick.host.active++;
    mirror.#stream = cluster.send(pick.host, head, endsWithHead, mirror, {
      downstreamProtocol: stream.protocol,
      connection,
    });
    return mirror;
  }

  limit({ clock, timeoutMs }: MirrorContext): void {
    if (!this.#isOver) this.#cancelDeadline = clock.schedule(timeoutMs || defaultDeadlineMs, () => this.abort());
  }

  /** Part of the request's body. */
  write(chunk: Buffer): void {
    if (this.#isOver || this.#isRequestOver) return;
    if (this.#stream?.write(chunk) === false) {
      this.#pendingBytes += chunk.length;
      if (this.#pendingBytes > maxPendingBytes) this.abort();
    }
  }

  endRequest(trailers: Headers | undefined): void {
    if (this.#isOver || this.#isRequestOver) return;
    this.#isRequestOver = true;
    this.#stream?.end(trailers);
    if (this.#isAnswered) this.#finish();
  }

  /** The request is lost: half of a copy is none. */
  requestLost(): void {
    if (!this.#isRequestOver) this.abort();
  }

  abort(): void {
    if (this.#isOver) return;
    this.#finish();
    this.#stream?.reset("local-reset");
  }

  inform(_head: ResponseHead): void {
    // Nobody listens.
  }

  head(head: ResponseHead, endsWithHead: boolean): void {
    if (this.#isOver) return;
    if (head.status === 101) {
      this.abort();
      return;
    }
    this.#cluster.report(this.#host, { kind: "answered", status: head.status });
    if (endsWithHead) this.end(undefined);
  }

  data(_chunk: Buffer): void {
    // Thrown away.
  }

  end(_trailers: Headers | undefined): void {
    this.#isAnswered = true;
    if (this.#isRequestOver) this.#finish();
    else this.abort();
  }

  reset(_reason: ResetReason, _detail: string): void {
    this.#finish();
  }

  drained(): void {
    this.#pendingBytes = 0;
  }

  #finish(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cancelDeadline?.();
    this.#host.active--;
    this.#permit.release();
  }
}

/** `name:80` becomes `name-shadow:80`. */
export function shadowHost(authority: string): string {
  const colon = authority.lastIndexOf(":");
  const hasPort = colon >= 0 && authority.indexOf("]", colon) < 0;
  return hasPort ? `${authority.slice(0, colon)}-shadow${authority.slice(colon)}` : `${authority}-shadow`;
}
