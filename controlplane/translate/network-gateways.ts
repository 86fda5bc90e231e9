/** Where other networks are entered: Gateways of class `istio-remote` with the label of their network. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { AddressSchema, type Address, type GatewayAddressSchema } from "#shared/proto/gen/workload/workload_pb.js";
import type { MeshConfig } from "#controlplane/mesh/mesh-config.ts";
import type { Gateway, GatewayAddress } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { addressBytes } from "./address-bytes.ts";
import { gatewayServiceAccountAnnotation, networkLabel } from "./annotations.ts";
import { controllerOf, unmanagedController } from "./gateway-classes.ts";
import { writtenTrustDomain } from "./trust-domain.ts";

export interface NetworkGateway {
  readonly network: string;
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  /** IP or hostname. */
  readonly address: string;
  readonly port: number;
}

export function collectNetworkGateways(
  world: WorldView,
  gateways: readonly Gateway[],
  addressesOf: (gateway: Gateway) => readonly GatewayAddress[],
): readonly NetworkGateway[] {
  return gateways
    .filter((gateway) => controllerOf(world, gateway) === unmanagedController)
    .flatMap((gateway) => {
      const { namespace, name, labels, annotations } = gateway.meta;
      const network = labels.get(networkLabel) ?? "";
      if (network === "") return [];
      const account = annotations.get(gatewayServiceAccountAnnotation) ?? `${name}-${gateway.className}`;
      const port = gateway.listeners.find(({ protocol }) => protocol === "HBONE")?.port ?? 0;
      if (port === 0) return [];
      return addressesOf(gateway)
        .filter(({ type }) => type === "IPAddress" || type === "Hostname")
        .map(({ value }) => ({ network, namespace, name, serviceAccount: account, address: value, port }));
    });
}

export const networkGatewayUid = ({ network, address, port }: NetworkGateway): string =>
  `NetworkGateway/${network}/${address}/${port}`;

/** The gateway as a workload, so that clients know the identity that must answer there. */
export function networkGatewayWorkload(gateway: NetworkGateway, mesh: MeshConfig): Address {
  const uid = networkGatewayUid(gateway);
  const octets = addressBytes(gateway.address);
  return create(AddressSchema, {
    type: {
      case: "workload",
      value: {
        uid,
        name: uid,
        namespace: gateway.namespace,
        serviceAccount: gateway.serviceAccount,
        network: gateway.network,
        trustDomain: writtenTrustDomain(mesh),
        ...(octets === undefined ? { hostname: gateway.address } : { addresses: [octets] }),
      },
    },
  });
}

export function networkGatewayAddress(gateway: NetworkGateway): MessageInitShape<typeof GatewayAddressSchema> {
  const octets = addressBytes(gateway.address);
  return {
    destination:
      octets === undefined
        ? { case: "hostname", value: { namespace: gateway.namespace, hostname: gateway.address } }
        : { case: "address", value: { network: gateway.network, address: octets } },
    hboneMtlsPort: gateway.port,
  };
}
