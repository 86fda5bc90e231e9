/** What the node agent and ztunnel say to each other, as bytes and as our own types. One message is one datagram. */
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { explain } from "#shared/errors/mesh-error.ts";
import {
  AckSchema,
  Version,
  WorkloadRequestSchema,
  WorkloadResponseSchema,
  ZdsHelloSchema,
} from "#shared/proto/gen/zds/zds_pb.js";
import type { PodInfo } from "./pod-manager.ts";

/** Default of ztunnel's INPOD_UDS, and of the agent's ZTUNNEL_UDS_ADDRESS. */
export const zdsPathDefault = "/var/run/ztunnel/ztunnel.sock";

/** As ztunnel's read buffer: a longer message is an error. */
export const maxZdsBytes = 1_024;

/** An acknowledgement must fit the peer's buffer, whatever it quotes. */
const longestRefusal = 900;

export type ZdsRequest =
  | { readonly kind: "add"; readonly uid: string; readonly info: PodInfo }
  | { readonly kind: "keep"; readonly uid: string }
  | { readonly kind: "del"; readonly uid: string }
  | { readonly kind: "snapshot-sent" };

/**
 * - `unreadable`: not a message of this protocol: refuse and connect anew.
 * - `violation`: readable, but not allowed: refuse and give up.
 */
export type ReadRequest =
  | { readonly kind: "request"; readonly request: ZdsRequest }
  | { readonly kind: "unreadable" | "violation"; readonly why: string };

const unreadable = (why: string): ReadRequest => ({ kind: "unreadable", why });

/** @param hasFd whether a descriptor came along, which an Add needs and nothing else may have */
export function readRequest(bytes: Uint8Array, hasFd: boolean): ReadRequest {
  let payload;
  try {
    payload = fromBinary(WorkloadRequestSchema, bytes).payload;
  } catch (error) {
    return unreadable(`Cannot parse a WorkloadRequest of ${bytes.length} bytes: ${explain(error)}`);
  }
  if (payload.case === undefined) return unreadable("WorkloadRequest without a known payload");
  if (payload.case === "add" && !hasFd) return unreadable(`AddWorkload "${payload.value.uid}" without a descriptor`);
  if (payload.case !== "add" && hasFd) return unreadable(`Descriptor with a message other than AddWorkload`);
  switch (payload.case) {
    case "add": {
      const { uid, workloadInfo: info } = payload.value;
      if (info === undefined) return { kind: "violation", why: `AddWorkload "${uid}" without workload_info` };
      const { name, namespace, serviceAccount } = info;
      return { kind: "request", request: { kind: "add", uid, info: { name, namespace, serviceAccount } } };
    }
    case "keep":
    case "del":
      return { kind: "request", request: { kind: payload.case, uid: payload.value.uid } };
    case "snapshotSent":
      return { kind: "request", request: { kind: "snapshot-sent" } };
  }
}

export function writeRequest(request: ZdsRequest): Uint8Array {
  return toBinary(WorkloadRequestSchema, create(WorkloadRequestSchema, { payload: payloadOf(request) }));
}

type Payload = NonNullable<MessageInitShape<typeof WorkloadRequestSchema>["payload"]>;

function payloadOf(request: ZdsRequest): Payload {
  switch (request.kind) {
    case "add":
      return { case: "add", value: { uid: request.uid, workloadInfo: request.info } };
    case "keep":
      return { case: "keep", value: { uid: request.uid } };
    case "del":
      return { case: "del", value: { uid: request.uid } };
    case "snapshot-sent":
      return { case: "snapshotSent", value: {} };
  }
}

export function writeHello(): Uint8Array {
  return toBinary(ZdsHelloSchema, create(ZdsHelloSchema, { version: Version.V1 }));
}

/** Undefined if this is the hello of a version we speak, else why not. */
export function refuseHello(bytes: Uint8Array): string | undefined {
  try {
    const { version } = fromBinary(ZdsHelloSchema, bytes);
    return version === Version.V1 ? undefined : `ZdsHello has version ${version}, expected ${Version.V1}`;
  } catch (error) {
    return `Cannot parse a ZdsHello of ${bytes.length} bytes: ${explain(error)}`;
  }
}

/** @param refusal empty acknowledges */
export function writeAck(refusal = ""): Uint8Array {
  const payload = { case: "ack" as const, value: create(AckSchema, { error: refusal.slice(0, longestRefusal) }) };
  return toBinary(WorkloadResponseSchema, create(WorkloadResponseSchema, { payload }));
}

/** The refusal, empty where the message was acknowledged; undefined where this is no acknowledgement. */
export function readAck(bytes: Uint8Array): string | undefined {
  try {
    const { payload } = fromBinary(WorkloadResponseSchema, bytes);
    return payload.case === "ack" ? payload.value.error : undefined;
  } catch {
    return undefined;
  }
}
