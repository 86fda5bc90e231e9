/** What policies look at: an {@link Exchange} is one as it stands, and so is a connection of a TCP chain. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import type { RequestHead } from "#waypoint/http/streams.ts";

export interface Subject {
  readonly connection: DownstreamConnection;
  /** Undefined on TCP chains: conditions on requests hold for none there. */
  readonly request?: RequestHead | undefined;
  readonly route?: { readonly metadata: ReadonlyMap<string, unknown> } | undefined;
  metadataOf(filter: string): JsonObject | undefined;
}

export type SubjectTest = (subject: Subject) => boolean;
