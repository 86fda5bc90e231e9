import { randomUUID } from "node:crypto";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { ApiError } from "./api-error.ts";
import type { KubeObject, ObjectStore } from "./object-store.ts";
import { present } from "./read-objects.ts";
import { ids, type ResourceInfo, type ResourceVersion } from "./resources.ts";
import { numberOf, textOf, type JsonObject } from "./schema.ts";
import type { User } from "./service-account-tokens.ts";
import { callWebhook } from "./webhook-call.ts";
import { meetsConditions, selects, versionFor, webhooksIn, type WriteKind } from "./webhook-match.ts";

/** A write that is ready to be stored. */
export interface Write extends WriteKind {
  readonly namespace: string | undefined;
  readonly name: string;
  /** As it will be stored; undefined for a deletion. */
  readonly object: KubeObject | undefined;
  /** As it is stored; undefined for what is new. */
  readonly old: KubeObject | undefined;
  /** How a subresource shows an object: a Scale, say. */
  readonly shownAs?: (object: KubeObject) => JsonObject;
  readonly user: User;
  readonly dryRun: boolean;
  readonly manager: string | undefined;
}

export interface AdmissionWebhooksOptions {
  readonly store: Pick<ObjectStore, "get" | "list">;
  readonly log: Logger;
}

/** Validating webhooks, as Kubernetes calls them: all that a write concerns at once, before it is stored. */
export class AdmissionWebhooks {
  readonly #store: Pick<ObjectStore, "get" | "list">;
  readonly #log: Logger;

  constructor({ store, log }: AdmissionWebhooksOptions) {
    this.#store = store;
    this.#log = log;
  }

  /** Whether {@link review} may have anybody to ask. */
  mayConcern(write: WriteKind): boolean {
    return this.#webhooks().some((webhook) => versionFor(webhook, write) !== undefined);
  }

  /**
   * What the webhooks warn of.
   *
   * @throws ApiError of the first webhook that refuses, or that has to be asked and cannot be
   */
  async review(write: Write): Promise<readonly string[]> {
    const home = write.info.namespaced ? this.#store.get(ids.namespaces, undefined, write.namespace ?? "") : undefined;
    const outcomes = await Promise.all(
      this.#webhooks().flatMap((webhook) => {
        const version = versionFor(webhook, write);
        if (version === undefined || !selects(webhook, write, [write.object, write.old], home)) return [];
        return this.#ask(webhook, write, version);
      }),
    );
    const warnings = outcomes.flatMap((outcome) => outcome.warnings);
    const [refusal] = outcomes.flatMap((outcome) => outcome.refusal ?? []);
    if (refusal !== undefined) throw refusal.withWarnings(warnings);
    return warnings;
  }

  #webhooks(): readonly JsonObject[] {
    return this.#store.list(ids.validatingWebhooks).flatMap(webhooksIn);
  }

  async #ask(webhook: JsonObject, write: Write, version: ResourceVersion): Promise<Outcome> {
    const name = textOf(webhook, "name") ?? "";
    const request = requestOf(write, version);
    const conditions = meetsConditions(webhook, request);
    if (conditions === false) return { warnings: [] };
    const effects = textOf(webhook, "sideEffects");
    if (write.dryRun && effects !== "None" && effects !== "NoneOnDryRun") {
      return {
        warnings: [],
        refusal: new ApiError("BadRequest", `admission webhook "${name}" does not support dry run`),
      };
    }
    try {
      if (typeof conditions === "object") throw new Error(conditions.failed);
      const review = { kind: "AdmissionReview", apiVersion: "admission.k8s.io/v1", request };
      const { allowed, status, warnings } = await callWebhook(webhook, review, this.#store);
      return allowed ? { warnings } : { warnings, refusal: refusalOf(name, status) };
    } catch (error) {
      const why = `failed calling webhook "${name}": failed to call webhook: ${explain(error)}`;
      if (webhook["failurePolicy"] === "Ignore") {
        this.#log.warn({ webhook: name, error: why }, "webhook ignored");
        return { warnings: [] };
      }
      return { warnings: [], refusal: new ApiError("InternalError", `Internal error occurred: ${why}`) };
    }
  }
}

interface Outcome {
  readonly warnings: readonly string[];
  readonly refusal?: ApiError;
}

/** The webhook's own status, with its name in front. */
function refusalOf(name: string, status: JsonObject): ApiError {
  const denied = `admission webhook ${JSON.stringify(name)} denied the request`;
  const message = textOf(status, "message") ?? "";
  const reason = textOf(status, "reason") ?? "";
  const text =
    message !== "" ? `${denied}: ${message}` : reason !== "" ? `${denied}: ${reason}` : `${denied} without explanation`;
  return ApiError.of(reason, Math.max(numberOf(status, "code") ?? 0, 400), text);
}

const optionKinds = { CREATE: "CreateOptions", UPDATE: "UpdateOptions", DELETE: "DeleteOptions" } as const;

function requestOf(write: Write, version: ResourceVersion): JsonObject & { readonly uid: string } {
  const { info, operation, subresource, namespace, name, user, dryRun, manager, shownAs } = write;
  const shown = (object: KubeObject | undefined): JsonObject | null =>
    object === undefined ? null : (shownAs?.(object) ?? present(object, info, version));
  const kind = kindOf(info, version);
  const resource = { group: info.group, version: version.name, resource: info.resource };
  const requestResource = { ...resource, version: write.version.name };
  return {
    uid: randomUUID(),
    kind,
    resource,
    ...(subresource === undefined ? {} : { subResource: subresource, requestSubResource: subresource }),
    requestKind: kindOf(info, write.version),
    requestResource,
    name,
    ...(info.namespaced && namespace !== undefined ? { namespace } : {}),
    operation,
    userInfo: {
      username: user.name,
      ...(user.uid === undefined ? {} : { uid: user.uid }),
      groups: user.groups,
      ...(user.extra === undefined ? {} : { extra: user.extra }),
    },
    object: shown(write.object),
    oldObject: shown(write.old),
    dryRun,
    options: {
      kind: optionKinds[operation],
      apiVersion: "meta.k8s.io/v1",
      ...(manager === undefined || operation === "DELETE" ? {} : { fieldManager: manager }),
      ...(dryRun ? { dryRun: ["All"] } : {}),
    },
  };
}

const kindOf = ({ group, kind }: ResourceInfo, { name }: ResourceVersion) => ({ group, version: name, kind });
