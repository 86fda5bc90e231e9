/** How a cluster's bytes get to its hosts, compiled from its configuration. Order on the wire: HBONE(PROXY(TLS(data))). */
import type { KeyPair } from "#waypoint/upstream/secrets.ts";
import type { SocketAddress } from "#waypoint/http/exchange.ts";

export interface Transport {
  /** Milliseconds for everything until the connection can be used: TCP, tunnel and TLS. */
  readonly connectTimeoutMs: number;
  readonly tls?: UpstreamTls | undefined;
  /** A header with the client's addresses before everything else; such connections are never shared by clients. */
  readonly proxyProtocol?: "v1" | "v2" | undefined;
  /** TCP keep-alive; the system's defaults where a value is missing, off where the whole is. */
  readonly keepAlive?: TcpKeepAlive | undefined;
  /** Address to connect from. */
  readonly localAddress?: string | undefined;
}

export interface TcpKeepAlive {
  readonly probes?: number | undefined;
  readonly timeSeconds?: number | undefined;
  readonly intervalSeconds?: number | undefined;
}

/** TLS that the waypoint begins itself, with a server that need not know the mesh. */
export interface UpstreamTls {
  /** Sent as SNI; empty: none. */
  readonly serverName: string;
  /** The host's own name (`Host.hostname`) instead of `serverName`, where it has one (`auto_host_sni`). */
  readonly usesHostName?: boolean | undefined;
  /** In order of preference; empty: none offered, but what the HTTP protocol needs is added by the pool. */
  readonly alpn: readonly string[];
  /** Against what the server's chain is verified. `none`: not at all (insecureSkipVerify). */
  readonly trust:
    | { readonly kind: "pem"; readonly pem: string }
    | { readonly kind: "secret"; readonly secret: string }
    | { readonly kind: "system" }
    | { readonly kind: "none" };
  /** Ours, for mutual TLS, or the name under which it comes. */
  readonly certificate?: KeyPair | { readonly secret: string } | undefined;
  /** One of them has to match one of the certificate's names. Empty: the chain alone counts, as in Envoy. */
  readonly subjectAltNames: readonly SubjectAltNameMatcher[];
  /** Also the names of `subjectAltNames` come from SNI (`auto_sni_san_validation`). */
  readonly verifiesServerName?: boolean | undefined;
  readonly minVersion?: TlsVersion | undefined;
  readonly maxVersion?: TlsVersion | undefined;
  /** OpenSSL names. */
  readonly ciphers?: readonly string[] | undefined;
}

export type TlsVersion = "TLSv1" | "TLSv1.1" | "TLSv1.2" | "TLSv1.3";

export interface SubjectAltNameMatcher {
  readonly type: "dns" | "uri" | "ip" | "email" | "any";
  /** Names are compared as strings; a DNS name of the certificate may be a wildcard, which `matches` has to know. */
  matches(value: string): boolean;
}

/** Whose connection it is that needs one upstream: what PROXY protocol and `forwarded` of a tunnel tell. */
export interface OnBehalfOf {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
}
