import { sleep, type Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { Backoff } from "#controlplane/sources/kubernetes/backoff.ts";
import { objectPath, type Collection } from "#controlplane/sources/kubernetes/collection.ts";
import type { KubeClient } from "#controlplane/sources/kubernetes/kube-client.ts";
import { Reflector } from "#controlplane/sources/kubernetes/reflector.ts";

export interface WebhookKeeperOptions {
  readonly client: KubeClient;
  /** Of the ValidatingWebhookConfiguration, in manifests/base. */
  readonly name: string;
  /** Trust anchors of our certificate, PEM. */
  readonly bundle: () => string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** On the configuration: what shall hold while we cannot be asked. */
const policyAnnotation = "ambit.dev/failure-policy";
/** The one that the annotation is about. Others, for kinds that other controllers share, stay as they are. */
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

/** How long {@link WebhookKeeper.installed} waits at most: a cluster may have no such configuration. */
const installTimeoutMs = 5_000;

/**
 * Keeps the webhook's configuration in the cluster: writes the CA's roots into it, again when they change or somebody
 * applies the manifest anew.
 *
 * The failure policy is Ignore and stays so: what is wrong does not take force in any case, and without a control plane
 * people can go on working. Who wants Istio's way annotates the configuration with `ambit.dev/failure-policy: Fail`: then
 * the policy turns to Fail once an API server has asked us, which proves that it can.
 */
export class WebhookKeeper {
  readonly #options: WebhookKeeperOptions;
  readonly #installed = Promise.withResolvers<void>();
  #webhooks: readonly Webhook[] | undefined;
  #wantsFail = false;
  #wasAsked = false;
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

  /** To be called when an API server has asked us. */
  asked(): void {
    if (this.#wasAsked) return;
    this.#wasAsked = true;
    this.changed();
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
          this.#wantsFail = object.metadata.annotations?.[policyAnnotation] === "Fail";
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
          if (why === undefined) return;
          log.warn({ name, error: why }, "the webhook's configuration cannot be read");
          // Nobody's start waits for rights that may never be given.
          this.#installed.resolve();
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
    const backoff = new Backoff(200, 30_000);
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
      } catch (thrown) {
        if (signal.aborted) return;
        log.warn({ name, error: explain(thrown) }, "the webhook's configuration cannot be written: trying again");
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
    const isLenient = webhooks.some((webhook) => webhook.name === strictWebhook && webhook.failurePolicy !== "Fail");
    if (!this.#wantsFail || !this.#wasAsked || !isLenient) return;
    await this.#patch([{ name: strictWebhook, failurePolicy: "Fail" }], signal);
    log.info({ name }, "what the API server cannot ask us about is refused from now on");
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
}
