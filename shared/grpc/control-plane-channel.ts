import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { checkServerIdentity, createSecureContext, type SecureContext } from "node:tls";
import { connectivityState, credentials, Client, Metadata, type ChannelCredentials } from "@grpc/grpc-js";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { isLoopback, tryIp } from "#shared/net/ip.ts";

/** Where the control plane listens; always TLS, but for one on this machine. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
  /** No TLS: only of a loopback address, and no token is ever sent there. */
  readonly plaintext?: boolean;
}

/** Whom the control plane's certificate must come from. */
export type RootSource =
  | { readonly from: "file"; readonly path: string }
  | { readonly from: "pem"; readonly pem: string }
  | { readonly from: "system" };

/** Where the bearer token comes from. `optional` means that a missing file is no mistake: then nothing is sent. */
export type TokenSource =
  | { readonly from: "file"; readonly path: string; readonly optional: boolean }
  | { readonly from: "literal"; readonly token: string }
  | { readonly from: "nowhere" };

export interface ChannelSettings {
  readonly endpoint: Endpoint;
  readonly roots: RootSource;
  /** A second name that the server's certificate may carry. */
  readonly alternativeHostname?: string;
  /** Also accept TLS 1.2; 1.3 only otherwise. */
  readonly allowTls12?: boolean;
}

export interface CallSettings {
  readonly token: TokenSource;
  /** Sent as `clusterid`, by which the control plane picks the API server that reviews the token. */
  readonly clusterId: string;
  /** From `XDS_HEADER_*` or `CA_HEADER_*`. */
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * Reads `https://host:port`; the scheme may be left out, the port is then still needed. With `allowsLocalPlaintext` also
 * `http://` and a loopback address, for benches and tests without a certificate authority.
 *
 * @throws MeshError CONFIG_INVALID quoting the address
 */
export function parseEndpoint(address: string, { allowsLocalPlaintext = false } = {}): Endpoint {
  const hasScheme = address.includes("://");
  const url = URL.parse(hasScheme ? address : `https://${address}`);
  const refuse = (remedy: string) =>
    new MeshError("CONFIG_INVALID", `Cannot use "${address}" as the control plane's address: ${remedy}`);
  if (url === null || url.hostname === "") throw refuse('write "https://host:port"');
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const ip = tryIp(host);
  const plaintext = allowsLocalPlaintext && url.protocol === "http:" && ip !== undefined && isLoopback(ip);
  if (url.protocol !== "https:" && !plaintext) {
    throw refuse("only https is spoken, as tokens must not travel in the clear");
  }
  if (!/^\/?$/.test(url.pathname) || url.search !== "" || url.username !== "")
    throw refuse('write "https://host:port"');
  const port = url.port === "" ? (plaintext ? 80 : 443) : Number(url.port);
  return { host, port, ...(plaintext && { plaintext }) };
}

/** `SYSTEM` for the system's roots, PEM text itself, else a file's path. */
export function parseRootSource(setting: string): RootSource {
  if (setting === "SYSTEM") return { from: "system" };
  return setting.includes("-----BEGIN ") ? { from: "pem", pem: setting } : { from: "file", path: setting };
}

/** A file that exists, or at least looks like a path, is one: no JWT starts with `/` or `.`. */
export function parseTokenSource(setting: string | undefined, fallbackPath: string): TokenSource {
  if (setting === undefined) return { from: "file", path: fallbackPath, optional: true };
  return /^[./]/.test(setting) || existsSync(setting)
    ? { from: "file", path: setting, optional: false }
    : { from: "literal", token: setting.trim() };
}

/** The roots now, as PEM; undefined stands for the system's. Files are read anew, since a mounted root may change. */
export async function readRoots(source: RootSource): Promise<string | undefined> {
  switch (source.from) {
    case "system":
      return undefined;
    case "pem":
      return source.pem;
    case "file":
      return readFile(source.path, "utf8").catch((error: unknown) => {
        throw new MeshError("XDS_STREAM_FAILED", `Cannot read the control plane's root "${source.path}"`, error);
      });
  }
}

/** Metadata of one call. The token's file is read each time: kubelet replaces it before it expires. */
export async function callMetadata({ token, clusterId, headers = {} }: CallSettings): Promise<Metadata> {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name.toLowerCase(), value);
  metadata.set("clusterid", clusterId);
  const bearer = await readToken(token);
  if (bearer !== undefined) metadata.set("authorization", `Bearer ${bearer}`);
  return metadata;
}

async function readToken(source: TokenSource): Promise<string | undefined> {
  if (source.from === "nowhere") return undefined;
  if (source.from === "literal") return source.token;
  try {
    // A trailing new line, which editors and `echo` leave, would make an invalid header.
    const token = (await readFile(source.path, "utf8")).trim();
    if (token !== "") return token;
  } catch (error) {
    if (source.optional && (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new MeshError("UNAUTHENTICATED", `Cannot read the service account token "${source.path}"`, error);
  }
  throw new MeshError("UNAUTHENTICATED", `Cannot use the service account token "${source.path}": it is empty`);
}

/** 200 MiB, as Istio's ztunnel: a whole large cluster may come in one response. */
const maxMessageBytes = 200 * 1024 * 1024;

/** Suites of Istio's ztunnel; OpenSSL sorts the names of both TLS versions out by itself. */
const suites = {
  tls13: "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256",
  tls12:
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256",
} as const;

/**
 * A gRPC channel to the control plane with these roots. It connects at the first call; the caller closes it.
 * Pings every 30 s notice a peer that is gone, which also stands in for TCP keepalive.
 */
export function openChannel(settings: ChannelSettings, rootsPem: string | undefined): Client {
  const { endpoint, alternativeHostname } = settings;
  const credential = endpoint.plaintext === true ? credentials.createInsecure() : tlsCredential(settings, rootsPem);
  const host = endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host;
  return new Client(`dns:${host}:${endpoint.port}`, credential, {
    // grpc-js would put an IP address into the server name indication, which TLS forbids and Node refuses.
    ...(isIP(endpoint.host) === 0 || endpoint.plaintext === true
      ? {}
      : { "grpc.ssl_target_name_override": alternativeHostname ?? "localhost" }),
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.max_send_message_length": maxMessageBytes,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 5_000,
    "grpc.dns_min_time_between_resolutions_ms": 1_000,
    // Every caller has its own retry rules; and its root may differ from that of another channel to the same address.
    "grpc.enable_retries": 0,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.service_config_disable_resolution": 1,
    // The control plane is a neighbour: proxy variables of the environment are not for it.
    "grpc.enable_http_proxy": 0,
    "grpc-node.flow_control_window": 4 * 1024 * 1024,
  });
}

function tlsCredential(settings: ChannelSettings, rootsPem: string | undefined): ChannelCredentials {
  const { endpoint, alternativeHostname } = settings;
  return credentials.createFromSecureContext(secureContext(settings, rootsPem), {
    checkServerIdentity: (_target, certificate) => {
      const mismatch = checkServerIdentity(endpoint.host, certificate);
      if (mismatch === undefined || alternativeHostname === undefined) return mismatch;
      return checkServerIdentity(alternativeHostname, certificate);
    },
  });
}

function secureContext({ allowTls12 = false }: ChannelSettings, rootsPem: string | undefined): SecureContext {
  try {
    return createSecureContext({
      ...(rootsPem === undefined ? {} : { ca: rootsPem }),
      minVersion: allowTls12 ? "TLSv1.2" : "TLSv1.3",
      ciphers: allowTls12 ? `${suites.tls13}:${suites.tls12}` : suites.tls13,
    });
  } catch (error) {
    throw new MeshError("XDS_STREAM_FAILED", "Cannot use the control plane's root certificates", error);
  }
}

/**
 * Resolves when the first attempt to connect has ended: a call made then goes out at once, or fails at once with the
 * reason, which gRPC tells nobody else.
 *
 * @throws MeshError XDS_STREAM_FAILED after `timeoutMs`
 */
export async function attempted(client: Client, timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const channel = client.getChannel();
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    signal?.throwIfAborted();
    const state = channel.getConnectivityState(true);
    if (state !== connectivityState.IDLE && state !== connectivityState.CONNECTING) return;
    await new Promise<void>((resolve, reject) => {
      channel.watchConnectivityState(state, deadline, (error) => {
        if (error === undefined || error === null) resolve();
        else {
          const what = `Cannot connect to the control plane at "${channel.getTarget()}" within ${timeoutMs} ms`;
          reject(new MeshError("XDS_STREAM_FAILED", what));
        }
      });
    });
  }
}
