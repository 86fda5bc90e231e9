/** How bytes to an endpoint are wrapped: tunnel( PROXY( TLS( data ))), each only where it is wanted. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ClientTls } from "#controlplane/mesh/destination-rule.ts";
import {
  ProxyProtocolConfig_Version as Version,
  ProxyProtocolConfigSchema,
} from "#shared/proto/gen/envoy/config/core/v3/proxy_protocol_pb.js";
import type { DataSourceSchema, TransportSocketSchema } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import {
  InternalUpstreamTransportSchema,
  type InternalUpstreamTransport_MetadataValueSourceSchema,
} from "#shared/proto/gen/envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream_pb.js";
import { ProxyProtocolUpstreamTransportSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";
import { RawBufferSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js";
import {
  CertificateValidationContext_TrustChainVerification as Verification,
  SubjectAltNameMatcher_SanType as SanType,
  type CertificateValidationContextSchema,
} from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { UpstreamTlsContextSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { MetadataKindSchema } from "#shared/proto/gen/envoy/type/metadata/v3/metadata_pb.js";
import { pack } from "./messages.ts";

type TransportInit = MessageInitShape<typeof TransportSocketSchema>;
type DataInit = MessageInitShape<typeof DataSourceSchema>;

/** What a TLS client shows and trusts; files are those of the waypoint. */
export interface Credentials {
  readonly certificate: DataInit | undefined;
  readonly privateKey: DataInit | undefined;
  /** undefined: what the operating system trusts. */
  readonly trusted: DataInit | undefined;
  readonly crl: DataInit | undefined;
}

export interface TlsOrigination {
  readonly settings: ClientTls;
  readonly credentials: Credentials;
  /** Names that the server must have one of; empty: any, where it is not the host that is asked for. */
  readonly subjectAltNames: readonly string[];
  readonly alpn: readonly string[];
}

export interface Wrapping {
  /** Whether endpoints may be reached through tunnels. */
  readonly isTunnelled: boolean;
  readonly proxyProtocol: "V1" | "V2" | undefined;
  readonly tls: TlsOrigination | undefined;
}

const named = (name: string, typedConfig: ReturnType<typeof pack>): TransportInit => ({
  name,
  configType: { case: "typedConfig", value: typedConfig },
});

/** undefined: plain bytes. */
export function transportSocket({ isTunnelled, proxyProtocol, tls }: Wrapping): TransportInit | undefined {
  let socket = tls === undefined ? undefined : tlsSocket(tls);
  if (proxyProtocol !== undefined) {
    const config = create(ProxyProtocolConfigSchema, { version: proxyProtocol === "V1" ? Version.V1 : Version.V2 });
    socket = named(
      "envoy.transport_sockets.upstream_proxy_protocol",
      pack(ProxyProtocolUpstreamTransportSchema, { config, transportSocket: socket ?? raw }),
    );
  }
  if (!isTunnelled) return socket;
  return named(
    "envoy.transport_sockets.internal_upstream",
    pack(InternalUpstreamTransportSchema, { passthroughMetadata, transportSocket: socket ?? raw }),
  );
}

const raw = named("envoy.transport_sockets.raw_buffer", pack(RawBufferSchema));

const from = (
  kind: "host" | "cluster",
  name: string,
): MessageInitShape<typeof InternalUpstreamTransport_MetadataValueSourceSchema> => ({
  kind: create(MetadataKindSchema, { kind: { case: kind, value: {} } }),
  name,
});

/** What the tunnel is told of the endpoint that was chosen. */
const passthroughMetadata = [
  from("host", "envoy.filters.listener.original_dst"),
  from("cluster", "istio"),
  from("host", "istio"),
];

function tlsSocket({ settings, credentials, subjectAltNames, alpn }: TlsOrigination): TransportInit {
  const { certificate, privateKey } = credentials;
  return named(
    "envoy.transport_sockets.tls",
    pack(UpstreamTlsContextSchema, {
      sni: settings.sni,
      commonTlsContext: {
        alpnProtocols: [...alpn],
        tlsCertificates:
          certificate === undefined || privateKey === undefined ? [] : [{ certificateChain: certificate, privateKey }],
        validationContextType: { case: "validationContext", value: validation(settings, credentials, subjectAltNames) },
      },
    }),
  );
}

function validation(
  { insecureSkipVerify }: ClientTls,
  { trusted, crl }: Credentials,
  subjectAltNames: readonly string[],
): MessageInitShape<typeof CertificateValidationContextSchema> {
  if (insecureSkipVerify) return { trustChainVerification: Verification.ACCEPT_UNTRUSTED };
  return {
    ...(trusted === undefined ? { systemRootCerts: {} } : { trustedCa: trusted }),
    ...(crl === undefined ? {} : { crl }),
    matchTypedSubjectAltNames: subjectAltNames.map((name) => ({
      sanType: sanType(name),
      matcher: { matchPattern: { case: "exact", value: name } },
    })),
  };
}

function sanType(name: string): SanType {
  if (name.includes("://")) return SanType.URI;
  return /^[\d.]+$|:/.test(name) ? SanType.IP_ADDRESS : SanType.DNS;
}
