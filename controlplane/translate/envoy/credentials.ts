/** What TLS to a destination is made with: files of the waypoint, a Secret beside it, or authorities in ConfigMaps. */
import type { BackendTlsPolicy } from "#controlplane/mesh/backend-policy.ts";
import { configMapOf } from "#controlplane/mesh/ca-references.ts";
import type { ClientTls } from "#controlplane/mesh/destination-rule.ts";
import { authoritiesIn, trustOf } from "#controlplane/translate/authorities.ts";
import type { EnvoyContext } from "./context.ts";
import type { Credentials } from "./transport.ts";

const file = (path: string) => (path === "" ? undefined : ({ specifier: { case: "filename", value: path } } as const));

const inline = (bytes: Uint8Array | undefined) =>
  bytes === undefined ? undefined : ({ specifier: { case: "inlineBytes", value: bytes } } as const);

/** A text says why there are none. @param namespace of the rule that says so */
export function credentialsFor(
  context: EnvoyContext,
  tls: ClientTls,
  namespace = context.waypoint.namespace,
): Credentials | string {
  const configMap = configMapOf(tls.credentialName, namespace);
  if (configMap !== undefined) return fromConfigMap(context, tls, configMap);
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

const onlyTrusting = (trusted: Credentials["trusted"]): Credentials => ({
  certificate: undefined,
  privateKey: undefined,
  trusted,
  crl: undefined,
});

function fromConfigMap(
  { world }: EnvoyContext,
  { mode }: ClientTls,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): Credentials | string {
  if (mode === "MUTUAL") {
    return `ConfigMap "${namespace}/${name}", which tls.credentialName names, holds no key for mode MUTUAL: name a Secret`;
  }
  const found = authoritiesIn(world, namespace, name);
  return found.kind === "pem" ? onlyTrusting(inline(Buffer.from(found.pem))) : found.fault;
}

/** Of a BackendTLSPolicy. */
export function policyCredentials(context: EnvoyContext, policy: BackendTlsPolicy): Credentials | string {
  const { kind, pem, faults } = trustOf(context.world, policy);
  switch (kind) {
    case "system":
      return onlyTrusting(ofSystem(context));
    case "pem":
      return onlyTrusting(inline(Buffer.from(pem)));
    case "nobody":
      return faults.map(({ message }) => message).join("; ") || `"${policy.wellKnownAuthorities}" is not known here`;
  }
}
