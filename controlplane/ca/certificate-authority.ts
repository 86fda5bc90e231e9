import { generateKeyPair, X509Certificate } from "node:crypto";
import { watch, type FSWatcher } from "node:fs";
import { isIP } from "node:net";
import { promisify } from "node:util";
import { splitPem } from "#shared/ca/workload-certificate.ts";
import * as x509 from "#shared/ca/x509.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { Authority } from "./authority.ts";
import { issueLeaf, readCsr } from "./issue.ts";
import { mayReplaceRoots, readPluggedIn } from "./plugged-in.ts";
import { loadSelfSigned, rootCheckMs, type AuthorityStore } from "./self-signed.ts";

export interface CertificateAuthorityOptions {
  /** Where an operator's own CA is mounted; the self-signed root counts where this folder holds none. */
  readonly pluggedInDirectory: string;
  readonly store: AuthorityStore;
  readonly trustDomain: string;
  /** Where a request names no life. Istio: 24 hours. */
  readonly defaultTtlMs: number;
  /** Longer requests are refused. Istio: 90 days. */
  readonly maxTtlMs: number;
  /** ISTIO_MULTIROOT_MESH: an operator's roots may grow or shrink at run time. */
  readonly severalRoots: boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface IssuedChain {
  /** Leaf, intermediates one by one, last all roots together. */
  readonly chain: readonly string[];
  readonly notAfterMs: number;
}

export interface ServingPair {
  readonly chainPem: string;
  readonly keyPem: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const generate = promisify(generateKeyPair);
/** A mount is replaced in several steps. */
const reloadQuietMs = 100;

/**
 * The mesh's CA: an operator's own where one is mounted, else a self-signed root. Follows changes of either while it runs;
 * what cannot be used leaves the old one in force. Close with `using`.
 */
export class CertificateAuthority implements Disposable {
  readonly #options: CertificateAuthorityOptions;
  readonly #listeners = new Set<() => void>();
  readonly #abort = new AbortController();
  #authority: Authority;
  #fingerprint: string | undefined;
  #watcher: FSWatcher | undefined;
  #cancelCheck: () => void = () => {};

  private constructor(options: CertificateAuthorityOptions, authority: Authority, fingerprint: string | undefined) {
    this.#options = options;
    this.#authority = authority;
    this.#fingerprint = fingerprint;
  }

  /** @throws MeshError CONFIG_INVALID naming what cannot be used */
  static async open(options: CertificateAuthorityOptions, signal: AbortSignal): Promise<CertificateAuthority> {
    const { log, pluggedInDirectory } = options;
    const pluggedIn = await readPluggedIn(pluggedInDirectory);
    const authority = pluggedIn?.authority ?? (await loadSelfSigned(options, signal));
    const ca = new CertificateAuthority(options, authority, pluggedIn?.fingerprint);
    ca.#warnOfEnd();
    if (pluggedIn !== undefined) {
      log.info({ directory: pluggedInDirectory }, "using the operator's CA");
      ca.#watch();
    }
    ca.#scheduleCheck();
    return ca;
  }

  /** Trust anchors of the mesh, as one PEM text. */
  get rootBundle(): string {
    return this.#authority.rootsPem.join("");
  }

  get crlPem(): string {
    return this.#authority.crlPem ?? "";
  }

  /** When the signing certificate or one above it ends. */
  get notAfterMs(): number {
    return this.#authority.notAfterMs;
  }

  get kind(): "operator's" | "self-signed" {
    return this.#fingerprint === undefined ? "self-signed" : "operator's";
  }

  /** Calls `listener` when roots, intermediates or the revocation list change. */
  onChanged(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /**
   * Certifies a request's key for an identity, whatever names the request holds.
   *
   * @param ttlMs 0 or less for the default
   * @throws MeshError RESOURCE_MALFORMED for a bad request or a life too long
   */
  async certify(csrPem: string, identity: SpiffeId, ttlMs: number): Promise<IssuedChain> {
    const { defaultTtlMs, maxTtlMs, clock } = this.#options;
    if (ttlMs > maxTtlMs) {
      const limit = `the longest is ${maxTtlMs / 1_000} seconds`;
      throw new MeshError("RESOURCE_MALFORMED", `Cannot certify for ${ttlMs / 1_000} seconds: ${limit}`);
    }
    const { publicKey } = await readCsr(csrPem);
    const authority = this.#authority;
    const leaf = await issueLeaf({
      authority,
      publicKey,
      names: [{ type: "url", value: identity }],
      ttlMs: ttlMs > 0 ? ttlMs : defaultTtlMs,
      nowMs: clock.now(),
    });
    return {
      chain: [leaf.pem, ...authority.intermediatesPem, authority.rootsPem.join("")],
      notAfterMs: leaf.notAfterMs,
    };
  }

  /** A key and certificate for the control plane's own listeners. */
  async serve(hosts: readonly string[]): Promise<ServingPair> {
    const { clock, defaultTtlMs } = this.#options;
    const { publicKey, privateKey } = await generate("ec", { namedCurve: "P-256" });
    const spki = publicKey.export({ type: "spki", format: "der" });
    const authority = this.#authority;
    const nowMs = clock.now();
    const leaf = await issueLeaf({
      authority,
      publicKey: new x509.PublicKey(spki),
      names: hosts.map((value) => ({ type: isIP(value) === 0 ? ("dns" as const) : ("ip" as const), value })),
      ttlMs: defaultTtlMs,
      nowMs,
    });
    return {
      chainPem: [leaf.pem, ...authority.intermediatesPem].join(""),
      keyPem: privateKey.export({ type: "pkcs8", format: "pem" }),
      notBeforeMs: nowMs,
      notAfterMs: leaf.notAfterMs,
    };
  }

  [Symbol.dispose](): void {
    this.#abort.abort();
    this.#watcher?.close();
    this.#cancelCheck();
    this.#listeners.clear();
  }

  #watch(): void {
    const { pluggedInDirectory, clock, log } = this.#options;
    let cancel = () => {};
    try {
      this.#watcher = watch(pluggedInDirectory, { persistent: false }, () => {
        cancel();
        cancel = clock.schedule(reloadQuietMs, () => void this.#reload());
      });
      this.#watcher.on("error", (error) => log.warn({ error: explain(error) }, "cannot watch the operator's CA"));
    } catch (error) {
      log.warn({ error: explain(error) }, "cannot watch the operator's CA, it is read again every hour");
    }
  }

  /** Also sees what a watch missed, and renews a self-signed root in time. */
  #scheduleCheck(): void {
    this.#cancelCheck = this.#options.clock.schedule(rootCheckMs, () => {
      void this.#reload().finally(() => {
        if (!this.#abort.signal.aborted) this.#scheduleCheck();
      });
    });
  }

  async #reload(): Promise<void> {
    const { log, pluggedInDirectory, severalRoots } = this.#options;
    try {
      if (this.#fingerprint === undefined) {
        this.#take(await loadSelfSigned(this.#options, this.#abort.signal), undefined);
        return;
      }
      const next = await readPluggedIn(pluggedInDirectory);
      if (next === undefined || next.fingerprint === this.#fingerprint) return;
      if (!mayReplaceRoots(this.#authority.rootsPem, next.authority.rootsPem, { severalRoots })) {
        log.error(
          {
            directory: pluggedInDirectory,
            remedy: "set ISTIO_MULTIROOT_MESH=true and let the bundles overlap, or restart",
          },
          "the operator's CA has other roots, the old one stays in force",
        );
        return;
      }
      this.#take(next.authority, next.fingerprint);
      log.info({ directory: pluggedInDirectory }, "reloaded the operator's CA");
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      log.error({ error: explain(error) }, "cannot reload the CA, the old one stays in force");
    }
  }

  #take(authority: Authority, fingerprint: string | undefined): void {
    const before = this.#authority;
    this.#authority = authority;
    this.#fingerprint = fingerprint;
    this.#warnOfEnd();
    if (sameCertificates(before, authority)) return;
    for (const listener of this.#listeners) listener();
  }

  #warnOfEnd(): void {
    const { clock, log, maxTtlMs } = this.#options;
    const leftMs = this.notAfterMs - clock.now();
    if (leftMs > Math.min(maxTtlMs, 30 * 24 * 3_600_000)) return;
    log.warn({ notAfter: new Date(this.notAfterMs).toISOString() }, "the CA's certificate ends soon");
  }
}

function sameCertificates(a: Authority, b: Authority): boolean {
  const all = ({ certificate, intermediatesPem, rootsPem, crlPem = "" }: Authority) =>
    [certificate.toString("base64"), ...intermediatesPem, ...rootsPem, crlPem].join("\0");
  return all(a) === all(b);
}

/** For metrics and dumps: when the earliest of the roots ends. */
export function earliestEndMs(bundle: string): number {
  return Math.min(...splitPem(bundle).map((pem) => Date.parse(new X509Certificate(pem).validTo)));
}
