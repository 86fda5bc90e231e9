import { sleep, type Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { Backoff } from "#controlplane/sources/kubernetes/backoff.ts";
import { collectionPath, objectPath, type Collection } from "#controlplane/sources/kubernetes/collection.ts";
import { isStatus, KubeError, type KubeClient } from "#controlplane/sources/kubernetes/kube-client.ts";
import { Reflector } from "#controlplane/sources/kubernetes/reflector.ts";

export interface WebhookKeeperOptions {
  readonly client: KubeClient;
  /** Of the ValidatingWebhookConfiguration, in manifests/base. */
  readonly name: string;
  /** Where the question of {@link WebhookKeeper} is asked: the control plane's own namespace. */
  readonly namespace: string;
  /** Trust anchors of our certificate, PEM. */
  readonly bundle: () => string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Refuses where we cannot be reached, once we could. Others, for kinds that other controllers share, never do. */
const strictWebhook = "validation.istio.io";

const configurations: Collection = {
  group: "admissionregistration.k8s.io",
  versions: ["v1"],
  kind: "ValidatingWebhookConfiguration",
  plural: "validatingwebhookconfigurations",
};

interface Webhook {
  readonly name: string;
  readonly failurePolicy?: string;
  readonly clientConfig?: { readonly caBundle?: string };
}

const expectedFailures = 8;
/** How long {@link WebhookKeeper.installed} waits at most: a cluster may have no such configuration. */
const installTimeoutMs = 5_000;

/**
 * Keeps the webhook's configuration in the cluster: writes the CA's roots into it, and once the API server has proved
 * that it reaches us, turns its failure policy from Ignore to Fail. The proof is an object that is wrong, written in a dry
 * run, and refused by us. Whoever applies the manifest anew undoes this, and it is done again.
 */
export class WebhookKeeper {
  readonly #options: WebhookKeeperOptions;
  readonly #installed = Promise.withResolvers<void>();
  #webhooks: readonly Webhook[] | undefined;
  #isDue = false;
  #wake: (() => void) | undefined;

  constructor(options: WebhookKeeperOptions) {
    this.#options = options;
  }

  /** To be called when the roots have changed. */
  changed(): void {
    this.#isDue = true;
    this.#wake?.();
  }

  /**
   * Resolves when API servers know our roots, or it is certain enough that they will not soon. Before that, requests would
   * reach us in vain.
   */
  async installed(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const enough = new AbortController();
    const either = AbortSignal.any([signal, enough.signal]);
    await Promise.race([this.#installed.promise, sleep(clock, installTimeoutMs, either).catch(() => undefined)]);
    enough.abort();
  }

  /** Until `signal` aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { client, name, clock, log } = this.#options;
    const reflector = new Reflector({
      client,
      collection: { ...configurations, fieldSelector: `metadata.name=${name}` },
      listener: {
        upsert: (object) => {
          this.#webhooks = Array.isArray(object["webhooks"]) ? (object["webhooks"] as readonly Webhook[]) : [];
          this.changed();
        },
        remove: () => {
          this.#webhooks = undefined;
        },
        synced: () => {
          if (this.#webhooks !== undefined) return;
          log.info({ name }, "no such ValidatingWebhookConfiguration: objects are not checked when they are written");
          this.#installed.resolve();
        },
        trouble: (why) => {
          if (why !== undefined) log.warn({ name, error: why }, "the webhook's configuration cannot be read");
        },
      },
      clock,
      log,
      installed: (until) => sleep(clock, 30_000, until),
    });
    signal.addEventListener("abort", () => this.#wake?.(), { once: true });
    await Promise.all([reflector.run(signal), this.#work(signal)]);
  }

  async #work(signal: AbortSignal): Promise<void> {
    const { clock, log, name } = this.#options;
    const backoff = new Backoff(100, 30_000);
    let failures = 0;
    while (!signal.aborted) {
      if (!this.#isDue) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
        this.#wake = undefined;
        continue;
      }
      this.#isDue = false;
      try {
        await this.#mend(signal);
        backoff.reset();
        failures = 0;
      } catch (thrown) {
        if (signal.aborted) return;
        // A control plane that has just become ready is not reached at once.
        const level = ++failures > expectedFailures ? "warn" : "debug";
        log[level]({ name, error: explain(thrown) }, "the webhook is not in force yet: trying again");
        this.#isDue = true;
        await sleep(clock, backoff.nextMs(), signal).catch(() => undefined);
      }
    }
  }

  async #mend(signal: AbortSignal): Promise<void> {
    const webhooks = this.#webhooks;
    if (webhooks === undefined) return;
    const { log, name } = this.#options;
    const caBundle = Buffer.from(this.#options.bundle()).toString("base64");
    const untold = webhooks.filter(({ clientConfig }) => clientConfig?.caBundle !== caBundle);
    if (untold.length > 0) {
      await this.#patch(
        untold.map((webhook) => ({ name: webhook.name, clientConfig: { caBundle } })),
        signal,
      );
      log.info({ name }, "the webhook's configuration has our roots");
    }
    this.#installed.resolve();
    const lenient = webhooks.some((webhook) => webhook.name === strictWebhook && webhook.failurePolicy !== "Fail");
    if (!lenient) return;
    await this.#prove(signal);
    await this.#patch([{ name: strictWebhook, failurePolicy: "Fail" }], signal);
    log.info({ name }, "the API server reaches the webhook: what it cannot ask us about is refused from now on");
  }

  async #patch(webhooks: readonly object[], signal: AbortSignal): Promise<void> {
    const { client, name } = this.#options;
    const path = objectPath({ ...configurations, version: "v1" }, { namespace: "", name });
    await client.request(path, {
      method: "PATCH",
      contentType: "application/strategic-merge-patch+json",
      query: { fieldManager: "ambit-admission" },
      body: { webhooks },
      signal,
    });
  }

  /** @throws Error where the API server takes what we would refuse: it does not reach us */
  async #prove(signal: AbortSignal): Promise<void> {
    const { client, namespace } = this.#options;
    const path = collectionPath({ ...telemetries, namespace }, "v1");
    try {
      await client.request(path, { method: "POST", query: { dryRun: "All" }, body: wrongObject(namespace), signal });
    } catch (thrown) {
      const isRefused = thrown instanceof KubeError && thrown.message.includes(`"${strictWebhook}" denied the request`);
      if (isRefused) return;
      // Another control plane's Telemetry kind is not installed here: nothing can be proved, nothing needs to be.
      if (isStatus(thrown, 404))
        throw new Error("Cannot try the webhook: there is no kind Telemetry", { cause: thrown });
      throw thrown;
    }
    throw new Error("The API server does not reach the webhook yet");
  }
}

const telemetries: Collection = {
  group: "telemetry.istio.io",
  versions: ["v1"],
  kind: "Telemetry",
  plural: "telemetries",
};

/** Of the right form, and of no meaning: a tag without a value. Never stored. */
const wrongObject = (namespace: string): object => ({
  apiVersion: "telemetry.istio.io/v1",
  kind: "Telemetry",
  metadata: { name: "ambit-admission-is-in-force", namespace },
  spec: { tracing: [{ customTags: { wrong: {} } }] },
});
