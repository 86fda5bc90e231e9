import { toBinary } from "@bufbuild/protobuf";
import { AuthorizationSchema, type Authorization } from "#shared/proto/gen/security/authorization_pb.js";
import {
  ResourceStore,
  type ChangeListener,
  type ResourceSource,
  type ServedResource,
} from "#shared/xds/resource-store.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";

/**
 * Policies as the delta server sends them: whole for everybody, and without versions, as Istio does. A client that comes
 * back thus always gets every policy again, and nobody depends on a claim about what denies traffic.
 */
export class AuthorizationSource implements ResourceSource {
  readonly typeUrl = typeUrls.authorization;
  readonly #store = new ResourceStore(typeUrls.authorization);
  #policies: ReadonlyMap<string, Authorization> = new Map();

  get(name: string): ServedResource | undefined {
    return this.#store.get(name);
  }

  all(): Iterable<ServedResource> {
    return this.#store.all();
  }

  /** For dumps. */
  get messages(): ReadonlyMap<string, Authorization> {
    return this.#policies;
  }

  onChange(listener: ChangeListener): () => void {
    return this.#store.onChange(listener);
  }

  /** As `AddressSource.stage`. */
  stage(policies: Iterable<Authorization>): () => ReadonlySet<string> {
    const messages = new Map<string, Authorization>();
    const resources = new Map<string, ServedResource>();
    for (const policy of policies) {
      const name = `${policy.namespace}/${policy.name}`;
      messages.set(name, policy);
      resources.set(name, { name, version: "", aliases: [], value: toBinary(AuthorizationSchema, policy) });
    }
    return () => {
      this.#policies = messages;
      return this.#store.replace(resources, (a, b) => Buffer.compare(a.value, b.value) === 0);
    };
  }
}
