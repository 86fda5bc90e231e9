/** Certificates follow the roots of the mesh: where the mounted roots change, they are asked for anew. */
import type { Clock } from "#shared/clock/clock.ts";
import { readRoots, type RootSource } from "#shared/grpc/control-plane-channel.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { CertificateManager } from "./certificate-manager.ts";
import { splitPem } from "./workload-certificate.ts";

/** Looking sees every way in which a mount is replaced; a watch would miss some. */
export const rootLookMs = 15_000;
/** Requests of all proxies are spread over this; less than the time between two looks. */
const spreadMs = 10_000;
/** Replicas of a CA change one after another: one that still issues with old roots is not the last word. */
const attempts = 5;

export interface RootWatchOptions {
  /** What the CA's own certificate is verified with; only a file can change. */
  readonly roots: RootSource;
  readonly certificates: CertificateManager;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Whom a proxy trusts comes with its certificate, which lives for a day. When roots are added, it should not take until
 * the next renewal before everybody knows them; when others take their place, peers with old and new certificates
 * refuse each other until all have changed. (Istio's ztunnel waits for the renewal.) Ends with `using`.
 */
export class RootWatch implements Disposable {
  readonly #options: RootWatchOptions;
  #known: ReadonlySet<string> | undefined;
  #attemptsLeft = 0;
  #cancel: () => void = () => {};
  #isClosed = false;

  constructor(options: RootWatchOptions) {
    this.#options = options;
    if (options.roots.from === "file") void this.#look();
  }

  async #look(): Promise<void> {
    const { roots, clock } = this.#options;
    // A file that is away for a moment, or is being written, says nothing.
    const found = setOf(splitPem((await readRoots(roots).catch(() => "")) ?? ""));
    if (this.#isClosed) return;
    if (found.size > 0) this.#follow(found);
    this.#cancel = clock.schedule(rootLookMs, () => void this.#look());
  }

  #follow(found: ReadonlySet<string>): void {
    const { certificates, log } = this.#options;
    if (this.#known !== undefined && !isSame(this.#known, found)) this.#attemptsLeft = attempts;
    this.#known = found;
    if (this.#attemptsLeft === 0) return;
    const renewed = certificates.renew(({ rootsPem }) => !isSame(setOf(rootsPem), found), spreadMs);
    this.#attemptsLeft = renewed === 0 ? 0 : this.#attemptsLeft - 1;
    if (renewed > 0) log.info({ certificates: renewed }, "the mesh has other roots: asking for certificates anew");
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#cancel();
  }
}

/** However their lines are broken. */
const setOf = (pems: readonly string[]): ReadonlySet<string> => new Set(pems.map((pem) => pem.replace(/\s+/g, "")));

const isSame = (one: ReadonlySet<string>, other: ReadonlySet<string>): boolean =>
  one.size === other.size && [...one].every((each) => other.has(each));
