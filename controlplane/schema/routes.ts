import type { z } from "zod";
import { age, gatewayKind, type Column, type KindDefinition } from "./kind.ts";
import { checkRoute } from "./route-checks.ts";
import { grpcSpec, httpSpec, tcpSpec, tlsSpec } from "./route-forms.ts";

const hostColumn: Column = { name: "Hostnames", type: "string", jsonPath: ".spec.hostnames" };

const route = (
  kind: string,
  spec: z.core.$ZodType,
  { versions, columns }: { versions: readonly string[]; columns: readonly Column[] },
): KindDefinition => ({
  ...gatewayKind,
  kind,
  plural: `${kind.toLowerCase()}s`,
  shortNames: [],
  versions,
  description: `${kind.replace("Route", "")} traffic of services or gateways, by rules.`,
  columns,
  spec,
  check: checkRoute,
});

export const httpRoute = route("HTTPRoute", httpSpec, { versions: ["v1", "v1beta1"], columns: [hostColumn, age] });
export const grpcRoute = route("GRPCRoute", grpcSpec, { versions: ["v1"], columns: [hostColumn, age] });
export const tcpRoute = route("TCPRoute", tcpSpec, { versions: ["v1", "v1alpha2"], columns: [age] });
export const tlsRoute = route("TLSRoute", tlsSpec, {
  versions: ["v1", "v1alpha3", "v1alpha2"],
  columns: [hostColumn, age],
});
