/**
 * Filters that write facts of a tunnel where Envoy's other filters read them. Here a connection carries these facts from
 * its tunnel on, so such a filter has nothing to do as long as it says what is so in any case; anything else is refused.
 */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import type { FilterStateValue } from "#shared/proto/gen/envoy/extensions/filters/common/set_filter_state/v3/value_pb.js";
import { ConfigSchema } from "#shared/proto/gen/envoy/extensions/filters/network/set_filter_state/v3/set_filter_state_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { NetworkLayerKind } from "./network-layer.ts";

/** Key → every value that it may be given. */
const known: ReadonlyMap<string, readonly string[]> = new Map([
  [
    "envoy.filters.listener.original_dst.local_ip",
    ["%REQ(:AUTHORITY)%", "%FILTER_STATE(envoy.filters.listener.original_dst.local_ip:PLAIN)%"],
  ],
  ["envoy.filters.listener.original_dst.remote_ip", ["%DOWNSTREAM_REMOTE_ADDRESS%"]],
  ["io.istio.connect_authority", ["%REQ(:AUTHORITY)%"]],
  ["io.istio.peer_principal", ["%DOWNSTREAM_PEER_URI_SAN%"]],
  ["io.istio.local_principal", ["%DOWNSTREAM_LOCAL_URI_SAN%"]],
]);

/** Where connections to the original destination go: there in any case, as names are given their address when they come. */
const originalDestination = "envoy.network.transport_socket.original_dst_address";

/** The address of a service where the tunnel was asked for its name, else the address that it was asked for. */
const orAddress =
  /^%CEL\('envoy\.filters\.listener\.original_dst\.local_ip' in filter_state \? filter_state\['envoy\.filters\.listener\.original_dst\.local_ip'\]: r'[^']+'\)%$/;

/** Reports every value that would not be so by itself. */
export function checkFilterState(values: readonly FilterStateValue[], path: string, problem: Problem): void {
  values.forEach(({ key, value }, index) => {
    const at = `${path}[${index}]`;
    const source = value.value?.format;
    const text =
      source?.case === "textFormatSource" && source.value.specifier.case === "inlineString"
        ? source.value.specifier.value
        : undefined;
    if (key.value === originalDestination && text !== undefined && orAddress.test(text)) return;
    const allowed = known.get(key.value ?? "");
    if (allowed === undefined) problem(`${at}.object_key`, `"${key.value ?? ""}" is not known here`);
    else if (text === undefined || !allowed.includes(text)) {
      problem(`${at}.format_string`, `has to be ${allowed.join(" or ")} for "${key.value ?? ""}"`);
    }
  });
}

export const setFilterStateNetworkLayer: NetworkLayerKind = {
  type: ConfigSchema.typeName,
  compile(_name, any, { problem }) {
    const config = anyUnpack(any, ConfigSchema);
    if (config !== undefined) checkFilterState(config.onNewConnection, "on_new_connection", problem);
    return undefined;
  },
};
