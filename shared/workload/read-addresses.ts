/** `istio.workload.Address` resources as they arrive over xDS → changes for a workload store. */
import { fromBinary } from "@bufbuild/protobuf";
import { explain } from "#shared/errors/mesh-error.ts";
import { AddressSchema } from "#shared/proto/gen/workload/workload_pb.js";
import type { Rejection, XdsResource } from "#shared/xds/delta-client.ts";
import { addressFromProto } from "./from-proto.ts";
import type { Service, Workload } from "./workload.ts";
import type { AddressChanges } from "./workload-store.ts";

export interface ReadAddresses {
  readonly changes: AddressChanges;
  readonly rejections: readonly Rejection[];
}

/** What cannot be read is refused by name and spoils no other. */
export function readAddresses(resources: readonly XdsResource[], removals: readonly string[]): ReadAddresses {
  const workloads: Workload[] = [];
  const services: Service[] = [];
  const rejections = eachResource(resources, (bytes) => {
    const read = addressFromProto(fromBinary(AddressSchema, bytes));
    if (!read.ok) return read.errors;
    if (read.value.kind === "workload") workloads.push(read.value.workload);
    else services.push(read.value.service);
    return [];
  });
  return { changes: { workloads, services, removals }, rejections };
}

/** Reads each resource by itself: one that cannot be read spoils no other. */
export function eachResource(
  resources: readonly XdsResource[],
  read: (bytes: Uint8Array) => readonly string[],
): readonly Rejection[] {
  return resources.flatMap(({ name, value }) => {
    const errors = tryRead(() => read(value));
    return errors.length === 0 ? [] : [{ name, reason: errors.join(", ") }];
  });
}

function tryRead(read: () => readonly string[]): readonly string[] {
  try {
    return read();
  } catch (error) {
    return [explain(error)];
  }
}
