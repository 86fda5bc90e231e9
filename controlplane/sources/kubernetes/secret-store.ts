import type { AuthorityStore } from "#controlplane/ca/self-signed.ts";
import { objectPath } from "./collection.ts";
import { isStatus, type KubeClient } from "./kube-client.ts";

interface Secret {
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly data?: Readonly<Record<string, string>> | null;
}

export interface SecretStoreOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  /** `istio-ca-secret`: Istio's own control plane finds the same root there. */
  readonly name: string;
}

const secrets = { group: "", version: "v1", plural: "secrets" };

/** Keeps the mesh's self-signed root in a Secret. */
export function secretStore({ client, namespace, name }: SecretStoreOptions): AuthorityStore {
  const path = objectPath(secrets, { namespace, name });
  /** As last read: an update says what it replaces, so that two control planes do not overwrite each other. */
  let metadata: Readonly<Record<string, unknown>> | undefined;
  return {
    name: `Secret ${namespace}/${name}`,
    async read(signal) {
      try {
        const secret = await client.request<Secret>(path, { signal });
        metadata = secret.metadata;
        const entries = Object.entries(secret.data ?? {}).map(
          ([key, value]) => [key, Buffer.from(value, "base64").toString("utf8")] as const,
        );
        return Object.fromEntries(entries);
      } catch (thrown) {
        if (isStatus(thrown, 404)) return undefined;
        throw thrown;
      }
    },
    async write(data, { create }, signal) {
      const secret = {
        apiVersion: "v1",
        kind: "Secret",
        metadata: create ? { name, namespace } : { ...metadata, name, namespace },
        type: "istio.io/ca-root",
        data: Object.fromEntries(
          Object.entries(data).map(([key, text]) => [key, Buffer.from(text, "utf8").toString("base64")]),
        ),
      };
      try {
        const written = await client.request<Secret>(
          create ? objectPath(secrets, { namespace, name: "" }).slice(0, -1) : path,
          {
            method: create ? "POST" : "PUT",
            body: secret,
            signal,
          },
        );
        metadata = written.metadata;
        return true;
      } catch (thrown) {
        if (isStatus(thrown, 409)) return false;
        throw thrown;
      }
    },
  };
}
