/** TLS that the waypoint begins itself, with servers that need not know the mesh. */
import { isIP } from "node:net";
import type { Duplex } from "node:stream";
import {
  connect,
  createSecureContext,
  getCACertificates,
  rootCertificates,
  type SecureContext,
  type TLSSocket,
} from "node:tls";
import { tryIp } from "#shared/net/ip.ts";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { alternativeNamesOf, type AlternativeName } from "#shared/tls/certificate-names.ts";
import type { KeyPair, SecretLookup } from "../secrets.ts";
import type { UpstreamTls } from "./transport.ts";

/** What the names in a configuration stand for, now. */
export interface TlsMaterial {
  readonly certificate: KeyPair | undefined;
  /** Undefined where the configuration itself says whom to trust. */
  readonly roots: readonly string[] | undefined;
}

/** @throws what the look-up throws */
export async function materialFor(
  { certificate, trust }: UpstreamTls,
  secrets: SecretLookup,
  signal: AbortSignal,
): Promise<TlsMaterial> {
  return {
    certificate:
      certificate !== undefined && "secret" in certificate
        ? await secrets.certificate(certificate.secret, signal)
        : certificate,
    roots: trust.kind === "secret" ? await secrets.roots(trust.secret, signal) : undefined,
  };
}

interface KnownContext extends TlsMaterial {
  readonly context: SecureContext;
}

/** One context for each configuration and what it is made with; it goes when the configuration does. */
const contexts = new WeakMap<UpstreamTls, KnownContext>();

function contextFor(tls: UpstreamTls, { certificate, roots }: TlsMaterial): SecureContext {
  const known = contexts.get(tls);
  if (known !== undefined && known.certificate === certificate && known.roots === roots) return known.context;
  const { minVersion, maxVersion, ciphers = [] } = tls;
  const context = createSecureContext({
    ca: rootsOf(tls, roots),
    ...(certificate !== undefined && { cert: certificate.chainPem, key: certificate.keyPem }),
    // As Envoy's clients.
    minVersion: minVersion ?? "TLSv1.2",
    maxVersion: maxVersion ?? "TLSv1.3",
    ...(ciphers.length > 0 && { ciphers: ciphers.join(":") }),
  });
  contexts.set(tls, { certificate, roots, context });
  return context;
}

/** Empty instead of missing: otherwise OpenSSL would take the public authorities. */
function rootsOf({ trust }: UpstreamTls, roots: readonly string[] = []): string[] {
  switch (trust.kind) {
    case "pem":
      return [trust.pem];
    case "system":
      return systemRoots();
    case "secret":
      return [...roots];
    case "none":
      return [];
  }
}

/** The machine's; where it has none (a bare container), those that Node brings. */
function systemRoots(): string[] {
  const roots = getCACertificates("system");
  return roots.length > 0 ? roots : [...rootCertificates];
}

export interface TlsOriginationOptions {
  /** Of the host, where the configuration wants that one to be asked for. */
  readonly hostName: string;
  readonly alpn: readonly string[];
  readonly signal: AbortSignal;
  /** Of {@link materialFor}. */
  readonly material: TlsMaterial;
}

/**
 * Over a carrier that is connected. The socket owns it, and is destroyed with it when the signal aborts.
 *
 * @throws MeshError UPSTREAM_CONNECT_FAILED, PEER_UNVERIFIED
 */
export function originateTls(
  carrier: Duplex,
  tls: UpstreamTls,
  { hostName, alpn, signal, material }: TlsOriginationOptions,
): Promise<TLSSocket> {
  const wished = tls.usesHostName === true && hostName !== "" ? hostName : tls.serverName;
  return new Promise((resolve, reject) => {
    let refusal: string | undefined;
    const verify = (raw: Buffer) => (refusal = whyRefused(alternativeNamesOf(raw), tls, wished));
    const socket = connect({
      socket: carrier,
      secureContext: contextFor(tls, material),
      servername: isIP(wished) === 0 ? wished : "", // an address is no server name (RFC 6066 §3)
      rejectUnauthorized: tls.trust.kind !== "none",
      checkServerIdentity: (_host, { raw }) => {
        const why = verify(raw);
        return why === undefined ? undefined : new Error(why);
      },
      ...(alpn.length > 0 && { ALPNProtocols: [...alpn] }),
    });
    const fail = (error: Error) => {
      done();
      socket.on("error", () => {});
      socket.destroy();
      carrier.destroy();
      reject(errorOf(error, refusal));
    };
    const onAbort = () => fail(signal.reason as Error);
    const onClose = () => fail(new Error("the server closed the connection during the TLS handshake"));
    const done = () => {
      signal.removeEventListener("abort", onAbort);
      carrier.off("error", fail);
      socket.off("error", fail);
      socket.off("close", onClose);
    };
    signal.addEventListener("abort", onAbort);
    carrier.once("error", fail);
    socket.once("error", fail);
    socket.once("close", onClose);
    socket.once("secureConnect", () => {
      // Where no chain is verified Node asks for no names either; what is configured still counts.
      const raw = tls.trust.kind === "none" ? socket.getPeerX509Certificate()?.raw : undefined;
      if (raw !== undefined && verify(raw) !== undefined) {
        fail(new Error(refusal));
        return;
      }
      done();
      carrier.on("error", () => {}); // the TLS socket tells
      resolve(socket);
    });
    if (signal.aborted) onAbort();
  });
}

function errorOf(error: Error, refusal: string | undefined): Error {
  if (error instanceof MeshError) return error;
  if (refusal !== undefined) return new MeshError("PEER_UNVERIFIED", `Cannot trust the server: ${refusal}`);
  return new MeshError("UPSTREAM_CONNECT_FAILED", "Cannot set up TLS with the server", error);
}

/** Why a certificate with these names is not the expected one; undefined: it is. */
function whyRefused(
  names: readonly AlternativeName[],
  { subjectAltNames, verifiesServerName = false }: UpstreamTls,
  serverName: string,
): string | undefined {
  const isListed =
    subjectAltNames.length === 0 ||
    subjectAltNames.some((matcher) =>
      names.some(({ type, value }) => (matcher.type === "any" || matcher.type === type) && matcher.matches(value)),
    );
  if (!isListed) return `its certificate names ${shown(names)}, none of which is expected`;
  if (verifiesServerName && !isNamed(names, serverName)) {
    return `its certificate names ${shown(names)}, not "${serverName}"`;
  }
  return undefined;
}

function isNamed(names: readonly AlternativeName[], serverName: string): boolean {
  const ip = tryIp(serverName);
  if (ip !== undefined) return names.some(({ type, value }) => type === "ip" && value === ip);
  return names.some(({ type, value }) => type === "dns" && isSameName(value, serverName));
}

/** A wildcard stands for one whole label, the first (RFC 9525 §6.3). */
function isSameName(pattern: string, name: string): boolean {
  const [expected, actual] = [pattern.toLowerCase(), name.toLowerCase()];
  if (!expected.startsWith("*.")) return expected === actual;
  const dot = actual.indexOf(".");
  return dot > 0 && actual.slice(dot) === expected.slice(1);
}

/** The server wrote these names, and they end in a log line: some of each suffices. */
function shown(names: readonly AlternativeName[]): string {
  if (names.length === 0) return "nobody";
  const texts = names.slice(0, 4).map(({ value }) => JSON.stringify(value.slice(0, 200)));
  return names.length > 4 ? `${texts.join(", ")} and ${names.length - 4} others` : texts.join(", ");
}
