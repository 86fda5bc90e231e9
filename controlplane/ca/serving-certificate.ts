import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { CertificateAuthority, ServingPair } from "./certificate-authority.ts";

export interface ServingCertificateOptions {
  readonly authority: CertificateAuthority;
  /** DNS names and addresses under which clients reach us. */
  readonly hosts: readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly onRenewed: (pair: ServingPair) => void;
}

const retryMs = 10_000;

/** Keeps the control plane's own certificate fresh: renewed at half of its life, and when the CA's chain changes. */
export class ServingCertificate implements Disposable {
  readonly #options: ServingCertificateOptions;
  readonly #stopListening: () => void;
  #cancel: () => void = () => {};
  #closed = false;

  private constructor(options: ServingCertificateOptions) {
    this.#options = options;
    this.#stopListening = options.authority.onChanged(() => void this.#renew());
  }

  /** The first pair is returned, later ones come through `onRenewed`. */
  static async start(options: ServingCertificateOptions): Promise<{ pair: ServingPair; renewal: ServingCertificate }> {
    const pair = await options.authority.serve(options.hosts);
    const renewal = new ServingCertificate(options);
    renewal.#schedule(pair);
    return { pair, renewal };
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#cancel();
    this.#stopListening();
  }

  #schedule({ notBeforeMs, notAfterMs }: ServingPair): void {
    this.#wake(Math.max((notAfterMs - notBeforeMs) / 2, 1_000));
  }

  #wake(delayMs: number): void {
    this.#cancel();
    this.#cancel = this.#options.clock.schedule(delayMs, () => void this.#renew());
  }

  async #renew(): Promise<void> {
    const { authority, hosts, log, onRenewed } = this.#options;
    try {
      const pair = await authority.serve(hosts);
      if (this.#closed) return;
      onRenewed(pair);
      this.#schedule(pair);
      log.info({ notAfter: new Date(pair.notAfterMs).toISOString() }, "serving certificate renewed");
    } catch (error) {
      log.error({ error: explain(error) }, "cannot renew the serving certificate, the old one stays in force");
      if (!this.#closed) this.#wake(retryMs);
    }
  }
}
