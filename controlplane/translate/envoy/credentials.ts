/** What TLS to a destination is made with: files of the waypoint, or a Secret beside it. */
import type { ClientTls } from "#controlplane/mesh/destination-rule.ts";
import type { EnvoyContext } from "./context.ts";
import type { Credentials } from "./transport.ts";

const file = (path: string) => (path === "" ? undefined : ({ specifier: { case: "filename", value: path } } as const));

const inline = (bytes: Uint8Array | undefined) =>
  bytes === undefined ? undefined : ({ specifier: { case: "inlineBytes", value: bytes } } as const);

/** A text says why there are none. */
export function credentialsFor(context: EnvoyContext, tls: ClientTls): Credentials | string {
  if (tls.credentialName !== "") return fromSecret(context, tls);
  const isMutual = tls.mode === "MUTUAL";
  return {
    certificate: isMutual ? file(tls.clientCertificate) : undefined,
    privateKey: isMutual ? file(tls.privateKey) : undefined,
    trusted:
      tls.caCertificates === "system" || tls.caCertificates === "" ? ofSystem(context) : file(tls.caCertificates),
    crl: file(tls.caCrl),
  };
}

/**
 * What the operating system trusts is asked for with `system_root_certs`. Envoy knows that field and trusts everything
 * with it, so it is told the file.
 */
const ofSystem = ({ proxy }: EnvoyContext) => (proxy.isEnvoy ? file("/etc/ssl/certs/ca-certificates.crt") : undefined);

/** Keys of a Secret by either of the two conventions. */
function fromSecret(
  context: EnvoyContext,
  { credentialName, mode, insecureSkipVerify }: ClientTls,
): Credentials | string {
  const { world, waypoint, proxy } = context;
  const where = `Secret ${waypoint.namespace}/${credentialName}`;
  const data = world.get("Secret", waypoint.namespace, credentialName)?.data;
  if (data === undefined) return `${where}, which tls.credentialName names, does not exist`;
  const certificate = data.get("tls.crt") ?? data.get("cert");
  const privateKey = data.get("tls.key") ?? data.get("key");
  const ca =
    data.get("ca.crt") ??
    data.get("cacert") ??
    world.get("Secret", waypoint.namespace, `${credentialName}-cacert`)?.data.get("cacert");
  if (mode === "MUTUAL" && (certificate === undefined || privateKey === undefined)) {
    return `${where} holds no tls.crt and tls.key for mode MUTUAL`;
  }
  if (mode === "MUTUAL" && !proxy.mayHoldKeys) {
    return `the key in ${where} is told to a proxy only that has proven to be the waypoint`;
  }
  if (ca === undefined && mode === "SIMPLE" && !insecureSkipVerify) return `${where} holds no ca.crt for mode SIMPLE`;
  return {
    certificate: mode === "MUTUAL" ? inline(certificate) : undefined,
    privateKey: mode === "MUTUAL" ? inline(privateKey) : undefined,
    trusted: inline(ca) ?? ofSystem(context),
    crl: inline(data.get("ca.crl")),
  };
}
