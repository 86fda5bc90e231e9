/**
 * How every client stands, as `istioctl proxy-status` asks for it: over discovery itself, as a type of its own. Made when
 * asked for; whoever wants to know again asks again.
 */
import { create, toBinary, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { identityOf } from "#shared/identity/spiffe-id.ts";
import {
  ClientConfigSchema,
  ConfigStatus,
  type ClientConfig_GenericXdsConfigSchema,
} from "#shared/proto/gen/envoy/service/status/v3/csds_pb.js";
import type { ResourceSource, ServedResource } from "#shared/xds/resource-store.ts";
import type { ClientSources, ClientStatus, DiscoveryClient } from "#shared/xds/served-stream.ts";
import type { TypeStatus } from "#shared/xds/type-watch.ts";
import { buildInfo } from "./build-info.ts";

/** What istioctl says that it is for. */
const toolGenerator = "event";
export const syncType = "istio.io/debug/syncz";

/** Whether somebody asks about clients and is no proxy. */
const isTool = (metadata: JsonObject): boolean => metadata["GENERATOR"] === toolGenerator;

export interface SyncStatusOptions {
  readonly clients: () => readonly ClientStatus[];
  /** Of this instance. */
  readonly podName: string;
  /** Whose accounts may know of every namespace; others know of their own. */
  readonly systemNamespace: string;
}

export class SyncStatus {
  readonly #options: SyncStatusOptions;

  constructor(options: SyncStatusOptions) {
    this.#options = options;
  }

  /** undefined for proxies. */
  open({ node, admission }: DiscoveryClient): ClientSources | undefined {
    if (!isTool(node.metadata)) return undefined;
    const { systemNamespace } = this.#options;
    const namespaces = admission.checked
      ? admission.identities.map((id) => identityOf(id)?.namespace)
      : [systemNamespace];
    const mayKnow = (namespace: string) => namespaces.includes(systemNamespace) || namespaces.includes(namespace);
    return { sources: [this.#sourceFor(mayKnow)], [Symbol.dispose]: () => {} };
  }

  #sourceFor(mayKnow: (namespace: string) => boolean): ResourceSource {
    const { clients, podName } = this.#options;
    const all = (): readonly ServedResource[] =>
      clients()
        .filter(({ node }) => !isTool(node.metadata) && mayKnow(node.namespace))
        .map(resourceOf);
    return {
      typeUrl: syncType,
      resourceType: `type.googleapis.com/${ClientConfigSchema.typeName}`,
      controlPlane: JSON.stringify({ Component: "istiod", ID: podName, Info: buildInfo }),
      all,
      get: (name) => all().find((resource) => resource.name === name),
      onChange: () => () => {},
    };
  }
}

function resourceOf({ node, types }: ClientStatus): ServedResource {
  const { id, metadata } = node;
  const known = ["CLUSTER_ID", "NAMESPACE", "ISTIO_VERSION"].flatMap((key) => {
    const value = metadata[key];
    return typeof value === "string" ? [[key, value] as const] : [];
  });
  const message = create(ClientConfigSchema, {
    node: { id, metadata: { NAMESPACE: node.namespace, ...Object.fromEntries(known) } },
    genericXdsConfigs: types.toSorted((a, b) => (a.typeUrl < b.typeUrl ? -1 : 1)).map(configOf),
  });
  return { name: id, version: "", aliases: [], value: toBinary(ClientConfigSchema, message) };
}

const statuses = {
  SYNCED: ConfigStatus.SYNCED,
  STALE: ConfigStatus.STALE,
  REJECTED: ConfigStatus.ERROR,
  "NOT SENT": ConfigStatus.NOT_SENT,
} as const satisfies Record<TypeStatus["state"], ConfigStatus>;

const configOf = ({
  typeUrl,
  state,
  lastSentMs,
  lastError,
}: TypeStatus): MessageInitShape<typeof ClientConfig_GenericXdsConfigSchema> => ({
  typeUrl,
  configStatus: statuses[state],
  ...(lastSentMs !== undefined && { lastUpdated: timestampFromMs(lastSentMs) }),
  ...(lastError !== undefined && {
    errorState: { details: lastError.message, lastUpdateAttempt: timestampFromMs(lastError.atMs) },
  }),
});
