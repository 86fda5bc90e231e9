/** Small messages that many others hold. */
import {
  create,
  type DescMessage,
  type JsonObject,
  type MessageInitShape,
  type UnknownField,
} from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { anyPack, durationFromMs, type Any, type Duration } from "@bufbuild/protobuf/wkt";
import { StatusCode } from "#shared/proto/gen/envoy/type/v3/http_status_pb.js";

/** A message for a `typed_config`. */
export const pack = <D extends DescMessage>(schema: D, init: MessageInitShape<D> = {} as MessageInitShape<D>): Any =>
  anyPack(schema, create(schema, init));

export const duration = (ms: number): Duration => durationFromMs(Math.round(ms));

/** As a field that is absent where nothing is said. */
export const optionalDuration = <K extends string>(key: K, ms: number | undefined): { [_ in K]?: Duration } =>
  (ms === undefined ? {} : { [key]: duration(ms) }) as { [_ in K]?: Duration };

/** The bytes of a message as a field that the definitions we generate from are too old for. */
export const newerField = (no: number, bytes: Uint8Array): UnknownField => ({
  no,
  wireType: WireType.LengthDelimited,
  data: new BinaryWriter().bytes(bytes).finish(),
});

/** Facts about the mesh beside a resource, where Istio's filters look for them. */
export const istioMetadata = (facts: JsonObject) => ({ filterMetadata: { istio: facts } });

/** Undefined for a status that Envoy does not know, and refuses. */
export const statusCode = (digits: string): StatusCode | undefined =>
  Object.values(StatusCode).find(
    (code): code is StatusCode => typeof code === "number" && code !== StatusCode.Empty && String(code) === digits,
  );
