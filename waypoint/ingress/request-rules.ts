/** What a chain does to the head of every request before anything looks at it. */
import { randomUUID } from "node:crypto";
import { isLoopback } from "#shared/net/ip.ts";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import type { Headers } from "#waypoint/http/headers.ts";
import type { PathRules } from "#waypoint/http/normalise-path.ts";
import type { Protocol, RequestHead } from "#waypoint/http/streams.ts";

export interface RequestSettings {
  /** Ours is the first proxy: the client's address is appended to `x-forwarded-for`, its protocol overwrites. */
  readonly usesRemoteAddress: boolean;
  readonly skipsForwardedFor: boolean;
  readonly generatesRequestId: boolean;
  /** Keeps a request id that an outside client sent, where ours is the first proxy. */
  readonly preservesRequestId: boolean;
  readonly clientCertificate: "sanitize" | "forward" | "append" | "sanitize-and-set" | "always-forward";
  readonly clientCertificateDetails: { readonly subject: boolean; readonly uri: boolean };
  readonly appendsForwardedPort: boolean;
  /** Port in `host`: kept, cut off where it is the listener's, cut off always. */
  readonly stripsPort: "no" | "matching" | "any";
  readonly stripsTrailingDot: boolean;
  readonly via: string;
  /** Instead of the scheme that the client says. */
  readonly scheme: string | undefined;
  /** Removed from what clients send, and never believed. */
  readonly internalOnly: ReadonlySet<string>;
  readonly path: PathRules;
}

/**
 * Commands to the proxy that only a trusted caller may give; no caller is one, as in Envoy without a list of internal
 * addresses. The last two describe a workload to Istio's own proxies and never reach an application.
 */
const internalHeaders: ReadonlySet<string> = new Set([
  "x-envoy-internal",
  "x-envoy-retriable-status-codes",
  "x-envoy-retriable-header-names",
  "x-envoy-retry-on",
  "x-envoy-retry-grpc-on",
  "x-envoy-max-retries",
  "x-envoy-upstream-alt-stat-name",
  "x-envoy-upstream-rq-timeout-ms",
  "x-envoy-upstream-rq-per-try-timeout-ms",
  "x-envoy-upstream-rq-timeout-alt-response",
  "x-envoy-expected-rq-timeout-ms",
  "x-envoy-force-trace",
  "x-envoy-ip-tags",
  "x-envoy-original-url",
  "x-envoy-hedge-on-per-try-timeout",
  "x-envoy-peer-metadata",
  "x-envoy-peer-metadata-id",
]);

/** These too where ours is the first proxy. */
const edgeHeaders: readonly string[] = [
  "x-envoy-decorator-operation",
  "x-envoy-downstream-service-cluster",
  "x-envoy-downstream-service-node",
];

/** Compiled once; {@link apply} runs for every request. */
export class RequestRules {
  readonly settings: RequestSettings;
  readonly #removed: ReadonlySet<string>;

  constructor(settings: RequestSettings) {
    this.settings = settings;
    this.#removed = new Set([
      ...internalHeaders,
      ...settings.internalOnly,
      ...(settings.usesRemoteAddress ? edgeHeaders : []),
    ]);
  }

  apply(request: RequestHead, protocol: Protocol, connection: DownstreamConnection): void {
    const { headers } = request;
    const { settings } = this;
    let forwardedProto: string | undefined;
    let hasRequestId = false;
    let hasClientCertificate = false;
    // One walk, which for most requests finds nothing to do.
    const { pairs } = headers;
    let isRemoving = false;
    for (let index = 0; index < pairs.length; index += 2) {
      const name = pairs[index] as string;
      if (name.charCodeAt(0) !== 120 || name.charCodeAt(1) !== 45) {
        if (name === "te" && pairs[index + 1] !== "trailers") isRemoving = true;
        continue;
      }
      if (name === "x-forwarded-proto") forwardedProto ??= pairs[index + 1];
      else if (name === "x-request-id") hasRequestId = true;
      else if (name === "x-forwarded-client-cert") hasClientCertificate = true;
      else if (this.#removed.has(name)) isRemoving = true;
    }
    if (isRemoving) this.#remove(headers);
    if (settings.usesRemoteAddress) this.#introduce(headers, connection, forwardedProto);
    else if (forwardedProto === undefined) headers.append("x-forwarded-proto", "http");
    if (protocol !== "HTTP/2") request.scheme = schemeOf(settings.usesRemoteAddress ? "http" : forwardedProto);
    if (settings.scheme !== undefined) request.scheme = settings.scheme;
    if (settings.appendsForwardedPort && !headers.has("x-forwarded-port")) {
      headers.append("x-forwarded-port", String(connection.destination.port));
    }
    if (settings.generatesRequestId) {
      if (!hasRequestId) headers.append("x-request-id", randomUUID());
      else if (settings.usesRemoteAddress && !settings.preservesRequestId) headers.set("x-request-id", randomUUID());
    }
    if (hasClientCertificate || settings.clientCertificate !== "sanitize") this.#tellClient(headers, connection);
    if (settings.stripsPort !== "no" || settings.stripsTrailingDot) this.#mendAuthority(request, connection);
    if (settings.via !== "") headers.append("via", settings.via);
  }

  #remove(headers: Headers): void {
    const { pairs } = headers;
    let kept = 0;
    for (let index = 0; index < pairs.length; index += 2) {
      const name = pairs[index] as string;
      let value = pairs[index + 1] as string;
      if (name === "te") {
        // Anything else concerns this hop alone.
        if (!/(?:^|,)\s*trailers\s*(?:;|,|$)/i.test(value)) continue;
        value = "trailers";
      } else if (this.#removed.has(name)) continue;
      pairs[kept] = name;
      pairs[kept + 1] = value;
      kept += 2;
    }
    pairs.length = kept;
  }

  #introduce(headers: Headers, { source }: DownstreamConnection, forwardedProto: string | undefined): void {
    if (!this.settings.skipsForwardedFor) {
      const before = headers.all("x-forwarded-for");
      headers.set("x-forwarded-for", before.length === 0 ? source.ip : `${before.join(",")},${source.ip}`);
      if (!isLoopback(source.ip)) headers.set("x-envoy-external-address", source.ip);
    }
    if (forwardedProto !== "http") headers.set("x-forwarded-proto", "http");
  }

  /** `x-forwarded-client-cert`. A client that proved nothing has nothing to tell. */
  #tellClient(headers: Headers, connection: DownstreamConnection): void {
    const { clientCertificate: mode } = this.settings;
    if (mode === "always-forward") return;
    if (mode === "sanitize" || connection.peerPrincipal === undefined) {
      headers.delete("x-forwarded-client-cert");
      return;
    }
    if (mode === "forward") return;
    const own = this.#certificateElement(connection);
    const before = mode === "append" ? headers.all("x-forwarded-client-cert") : [];
    const elements = own === "" ? before : [...before, own];
    if (elements.length === 0) headers.delete("x-forwarded-client-cert");
    else headers.set("x-forwarded-client-cert", elements.join(","));
  }

  #certificateElement({ localPrincipal, peerPrincipal }: DownstreamConnection): string {
    const { subject, uri } = this.settings.clientCertificateDetails;
    const parts: string[] = [];
    if (localPrincipal !== undefined) parts.push(`By=${localPrincipal}`);
    if (subject) parts.push('Subject=""'); // certificates of the mesh name no subject
    if (uri && peerPrincipal !== undefined) parts.push(`URI=${peerPrincipal}`);
    return parts.join(";");
  }

  #mendAuthority(request: RequestHead, { destination }: DownstreamConnection): void {
    const { stripsPort, stripsTrailingDot } = this.settings;
    const [, host = "", colonPort = ""] = /^(.*?)(:\d+)?$/.exec(request.authority) ?? [];
    const isStripped = stripsPort === "any" || (stripsPort === "matching" && colonPort === `:${destination.port}`);
    const bare = stripsTrailingDot && host.endsWith(".") ? host.slice(0, -1) : host;
    request.authority = isStripped ? bare : bare + colonPort;
  }
}

const schemeOf = (forwardedProto: string | undefined): string => (forwardedProto === "https" ? "https" : "http");
