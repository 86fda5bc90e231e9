/** Streams through HBONE: CONNECT to a workload over mutual TLS, with our own identity. */
import type { Duplex } from "node:stream";
import { constants } from "node:http2";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { encodeForwarded } from "#shared/hbone/forwarded.ts";
import { HboneConnection } from "#shared/hbone/hbone-client.ts";
import { HbonePool, type TunnelKey } from "#shared/hbone/hbone-pool.ts";
import { windowSizesDefault } from "#shared/hbone/http2-settings.ts";
import { newTraceparent } from "#shared/hbone/traceparent.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import { hostPort, parseIp, type Ip } from "#shared/net/ip.ts";
import { connectTcp, type TcpTarget } from "./connect-tcp.ts";
import type { OnBehalfOf } from "./transport.ts";

export interface TunnelOptions {
  readonly clock: Clock;
  /** Who we are: the certificate in force now. Rejects where the CA has none. */
  readonly certificate: () => WorkloadCertificate | Promise<WorkloadCertificate>;
  /** Of the mesh, aliases included: a tunnel's peer has to prove an identity in one of them. */
  readonly trustDomains: readonly string[];
  /** The identity to expect at an address, from the workload index; undefined: anybody of the trust domains. */
  readonly expectedIdentity?: ((ip: Ip) => SpiffeId | undefined) | undefined;
  /** Where tunnels are taken. Default 15008. */
  readonly hbonePort?: number;
  /** What `baggage` says of us. */
  readonly baggage?: string;
}

/** How long a connection stays with no stream, as in Istio's waypoints. Milliseconds. */
const idleMs = 3_600_000;
/** Deadline of TCP alone; whoever waits has one of their own. Milliseconds. */
const dialMs = 10_000;
/** The tunnels of one process all leave from its own address. */
const ownAddress = parseIp("0.0.0.0");

export class Tunnels implements Disposable {
  readonly #options: TunnelOptions;
  readonly #pool: HbonePool;
  readonly #closed = new AbortController();

  constructor(options: TunnelOptions) {
    this.#options = options;
    this.#pool = new HbonePool({ clock: options.clock, idleMs, dial: (key) => this.#dial(key) });
  }

  /** Connections that stand. */
  get size(): number {
    return this.#pool.size;
  }

  /** @throws MeshError as {@link HbonePool.open}, or the signal's reason */
  async open({ ip, port }: TcpTarget, signal: AbortSignal, onBehalfOf: OnBehalfOf | undefined): Promise<Duplex> {
    const { certificate, trustDomains, expectedIdentity, hbonePort = 15_008, baggage = "" } = this.#options;
    signal.throwIfAborted();
    const address = parseIp(ip);
    const expected = expectedIdentity?.(address);
    const own = await certificate();
    const key: TunnelKey = {
      source: own.identity,
      expected: expected === undefined ? { trustDomains } : [expected],
      address: { ip: address, port: hbonePort },
      sourceIp: ownAddress,
    };
    const opening = this.#pool.open(key, {
      authority: hostPort(ip, port),
      baggage,
      forwarded: onBehalfOf === undefined ? "" : encodeForwarded(onBehalfOf.source),
      traceparent: newTraceparent(),
    });
    const { stream } = await abandonable(opening, signal, (late) => late.stream.close(constants.NGHTTP2_CANCEL));
    return stream;
  }

  [Symbol.dispose](): void {
    this.#closed.abort(new MeshError("HBONE_CONNECT_FAILED", "The tunnels were closed"));
    this.#pool.close();
  }

  async #dial({ expected, address }: TunnelKey): Promise<HboneConnection> {
    const { clock, certificate } = this.#options;
    const deadline = new AbortController();
    const where = hostPort(address.ip, address.port);
    const cancel = clock.schedule(dialMs, () =>
      deadline.abort(new MeshError("HBONE_CONNECT_TIMEOUT", `Cannot dial "${where}": timed out after ${dialMs} ms`)),
    );
    try {
      const own = await certificate();
      const signal = AbortSignal.any([deadline.signal, this.#closed.signal]);
      const socket = await connectTcp(address, {}, signal);
      cancel();
      return await HboneConnection.open(socket, {
        certificate: own,
        expected,
        clock,
        windows: windowSizesDefault,
        maxStreams: 100,
      });
    } finally {
      cancel();
    }
  }
}

/** The promise's value, or the signal's reason; what comes too late is given to `drop`. */
async function abandonable<T>(promise: Promise<T>, signal: AbortSignal, drop: (late: T) => void): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => {
    aborted.reject(signal.reason as Error);
    promise.then(drop, () => {});
  };
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
