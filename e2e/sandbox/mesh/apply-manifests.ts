import { setTimeout as delay } from "node:timers/promises";
import type { NewObject } from "../apiserver/object-store.ts";
import { KubeError, referenceTo, type KubeClient } from "../kube-client.ts";
import { inWaves, ManifestError } from "./manifest-files.ts";

/** A CRD is served, and a namespace has its service account, a moment after it was made. */
const retryForMs = 5_000;
const retryEveryMs = 50;

/**
 * Applies objects, those that others stand on first.
 *
 * @throws ManifestError with every refusal, after all others have been applied
 */
export async function applyManifests(client: KubeClient, objects: readonly NewObject[]): Promise<void> {
  const refusals: string[] = [];
  for (const wave of inWaves(objects)) {
    await Promise.all(
      wave.map(async (object) => {
        try {
          await applyPatiently(client, object);
        } catch (error) {
          if (!(error instanceof KubeError)) throw error;
          refusals.push(`${describeObject(object)}: ${error.message}`);
        }
      }),
    );
  }
  if (refusals.length > 0) throw new ManifestError(refusals.join("\n"));
}

async function applyPatiently(client: KubeClient, object: NewObject): Promise<void> {
  const untilMs = Date.now() + retryForMs;
  for (;;) {
    try {
      await client.apply(object);
      return;
    } catch (error) {
      const message = error instanceof KubeError ? error.message : "";
      const mayCome =
        message.startsWith("no matches for kind") ||
        message.includes("service account") ||
        message.includes("not found");
      if (!mayCome || Date.now() > untilMs) throw error;
      await delay(retryEveryMs);
    }
  }
}

/** `Deployment istio-system/istiod`. */
export const describeObject = (object: NewObject): string => {
  const { kind, namespace, name } = referenceTo(object);
  return `${kind} ${namespace === undefined ? "" : `${namespace}/`}${name}`;
};
