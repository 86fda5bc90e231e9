/** `UpstreamTlsContext`: TLS that this proxy begins itself. */
import { isIP } from "node:net";
import type { DataSource } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import {
  CertificateValidationContextSchema,
  CertificateValidationContext_TrustChainVerification,
  SubjectAltNameMatcher_SanType,
  TlsCertificateSchema,
  TlsParametersSchema,
  TlsParameters_TlsProtocol,
  type CertificateValidationContext,
  type SubjectAltNameMatcher as SanMatcher,
  type TlsCertificate,
  type TlsParameters,
} from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import {
  CommonTlsContextSchema,
  UpstreamTlsContextSchema,
  type CommonTlsContext,
  type UpstreamTlsContext,
} from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { SdsSecretConfig } from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { StringMatcher } from "#shared/proto/gen/envoy/type/matcher/v3/string_pb.js";
import { explain } from "#shared/errors/mesh-error.ts";
import { tryIp } from "#shared/net/ip.ts";
import { compileString, type Problem } from "#waypoint/matching/string-matcher.ts";
import { meshRootsName, ownCertificateName } from "../secrets.ts";
import type { SubjectAltNameMatcher, TlsVersion, UpstreamTls } from "../transport/transport.ts";
import { checkFields, newerFlag } from "./set-fields.ts";

/** Reads a file of the pod that configuration names. Throws where it cannot. */
export type ReadFile = (path: string) => string;

/** `auto_host_sni` and `auto_sni_san_validation`, newer than the schema. */
const autoHostSniField = 6;
const autoSanValidationField = 7;

export function compileTls(
  context: UpstreamTlsContext,
  path: string,
  readFile: ReadFile,
  problem: Problem,
): UpstreamTls {
  // Sessions are never resumed and renegotiation is refused: bounds on them are kept by doing neither.
  const supported = ["commonTlsContext", "sni", "maxSessionKeys", "enforceRsaKeyUsage"];
  const newer = [autoHostSniField, autoSanValidationField];
  checkFields(UpstreamTlsContextSchema, context, supported, path, problem, newer);
  if (Buffer.byteLength(context.sni) > 255) problem(`${path}.sni`, "is longer than 255 bytes");
  const common = context.commonTlsContext;
  const commonPath = `${path}.common_tls_context`;
  if (common !== undefined) {
    const known = [
      "tlsParams",
      "tlsCertificates",
      "tlsCertificateSdsSecretConfigs",
      "validationContext",
      "validationContextSdsSecretConfig",
      "combinedValidationContext",
      "alpnProtocols",
    ];
    checkFields(CommonTlsContextSchema, common, known, commonPath, problem);
  }
  return {
    serverName: context.sni,
    usesHostName: newerFlag(context, autoHostSniField),
    verifiesServerName: newerFlag(context, autoSanValidationField),
    alpn: common?.alpnProtocols ?? [],
    certificate: compileCertificate(common, commonPath, readFile, problem),
    ...compileValidation(common, commonPath, readFile, problem),
    ...compileParameters(common?.tlsParams, `${commonPath}.tls_params`, problem),
  };
}

function compileCertificate(
  common: CommonTlsContext | undefined,
  path: string,
  readFile: ReadFile,
  problem: Problem,
): UpstreamTls["certificate"] {
  const inline = common?.tlsCertificates ?? [];
  const secrets = common?.tlsCertificateSdsSecretConfigs ?? [];
  if (inline.length + secrets.length > 1) problem(path, "has several client certificates, where one can be shown");
  const [certificate] = inline;
  if (certificate !== undefined)
    return inlineCertificate(certificate, `${path}.tls_certificates[0]`, readFile, problem);
  const [secret] = secrets;
  if (secret === undefined) return undefined;
  const here = `${path}.tls_certificate_sds_secret_configs[0]`;
  if (secret.name === ownCertificateName || isFromControlPlane(secret)) return { secret: secret.name };
  const files = /^file-cert:([^~]+)~([^~]+)$/.exec(secret.name);
  if (files === null) {
    problem(here, unknownSecret(secret));
    return undefined;
  }
  const [, chain, key] = files as unknown as readonly [string, string, string];
  return { chainPem: readOr(readFile, chain, here, problem), keyPem: readOr(readFile, key, here, problem) };
}

function inlineCertificate(
  certificate: TlsCertificate,
  path: string,
  readFile: ReadFile,
  problem: Problem,
): UpstreamTls["certificate"] {
  checkFields(TlsCertificateSchema, certificate, ["certificateChain", "privateKey"], path, problem);
  const chainPem = readData(certificate.certificateChain, `${path}.certificate_chain`, readFile, problem);
  const keyPem = readData(certificate.privateKey, `${path}.private_key`, readFile, problem);
  if (chainPem === undefined) problem(`${path}.certificate_chain`, "is missing");
  if (keyPem === undefined) problem(`${path}.private_key`, "is missing");
  return chainPem === undefined || keyPem === undefined ? undefined : { chainPem, keyPem };
}

type Validation = Pick<UpstreamTls, "trust" | "subjectAltNames">;

function compileValidation(
  common: CommonTlsContext | undefined,
  path: string,
  readFile: ReadFile,
  problem: Problem,
): Validation {
  const type = common?.validationContextType;
  switch (type?.case) {
    case "validationContext":
      return fromContext(type.value, `${path}.validation_context`, readFile, problem);
    case "validationContextSdsSecretConfig":
      return {
        trust: trustOf(type.value, `${path}.validation_context_sds_secret_config`, readFile, problem),
        subjectAltNames: [],
      };
    case "combinedValidationContext": {
      const here = `${path}.combined_validation_context`;
      const { defaultValidationContext, validationContextSdsSecretConfig } = type.value;
      const secret = validationContextSdsSecretConfig;
      const at = `${here}.default_validation_context`;
      const base = fromContext(defaultValidationContext, at, readFile, problem, secret !== undefined);
      if (secret === undefined) return base;
      const secretPath = `${here}.validation_context_sds_secret_config`;
      return { ...base, trust: trustOf(secret, secretPath, readFile, problem) };
    }
    case undefined:
    case "validationContextCertificateProvider":
    case "validationContextCertificateProviderInstance":
      // As Envoy: without a validation context, nothing is verified.
      return { trust: { kind: "none" }, subjectAltNames: [] };
  }
}

function fromContext(
  context: CertificateValidationContext | undefined,
  path: string,
  readFile: ReadFile,
  problem: Problem,
  isTrustElsewhere = false,
): Validation {
  if (context === undefined) return { trust: { kind: "none" }, subjectAltNames: [] };
  const supported = [
    "trustedCa",
    "systemRootCerts",
    "matchTypedSubjectAltNames",
    "matchSubjectAltNames",
    "trustChainVerification",
  ];
  checkFields(CertificateValidationContextSchema, context, supported, path, problem);
  const typed = context.matchTypedSubjectAltNames.map((matcher, index) =>
    compileSan(matcher, `${path}.match_typed_subject_alt_names[${index}]`, problem),
  );
  const untyped = context.matchSubjectAltNames.map((matcher, index): SubjectAltNameMatcher => {
    const matches = compileString(matcher, `${path}.match_subject_alt_names[${index}]`, problem);
    return { type: "any", matches: wildcardAware(matcher, matches) };
  });
  const subjectAltNames = [...typed, ...untyped];
  const trust = compileTrust(context, path, readFile, problem);
  const { ACCEPT_UNTRUSTED } = CertificateValidationContext_TrustChainVerification;
  if (isTrustElsewhere) return { trust, subjectAltNames };
  if (trust.kind === "none" && subjectAltNames.length > 0 && context.trustChainVerification !== ACCEPT_UNTRUSTED) {
    problem(`${path}.trusted_ca`, "is missing: names prove nothing in a certificate that nobody vouches for");
  }
  return { trust, subjectAltNames };
}

function compileTrust(
  context: CertificateValidationContext,
  path: string,
  readFile: ReadFile,
  problem: Problem,
): UpstreamTls["trust"] {
  const { ACCEPT_UNTRUSTED } = CertificateValidationContext_TrustChainVerification;
  if (context.trustChainVerification === ACCEPT_UNTRUSTED) return { kind: "none" };
  const pem = readData(context.trustedCa, `${path}.trusted_ca`, readFile, problem);
  if (pem !== undefined) return pemTrust(pem, `${path}.trusted_ca`, problem);
  return context.systemRootCerts === undefined ? { kind: "none" } : { kind: "system" };
}

/** Where Istio's agent would serve a file as a secret, the file itself is read; so the same configuration works here. */
function trustOf(secret: SdsSecretConfig, path: string, readFile: ReadFile, problem: Problem): UpstreamTls["trust"] {
  const file = /^file-root:(.+)$/.exec(secret.name)?.[1];
  if (file === "system") return { kind: "system" };
  if (file !== undefined) return pemTrust(readOr(readFile, file, path, problem), path, problem);
  if (secret.name === meshRootsName || isFromControlPlane(secret)) return { kind: "secret", secret: secret.name };
  problem(path, unknownSecret(secret));
  return { kind: "none" };
}

function pemTrust(pem: string, path: string, problem: Problem): UpstreamTls["trust"] {
  // What could not be read is told already.
  if (pem !== "" && !pem.includes("-----BEGIN CERTIFICATE-----")) problem(path, "holds no certificate in PEM form");
  return { kind: "pem", pem };
}

/** With the stream that brings clusters. */
const isFromControlPlane = ({ sdsConfig }: SdsSecretConfig): boolean =>
  sdsConfig?.configSourceSpecifier.case === "ads" || sdsConfig?.configSourceSpecifier.case === "self";

const unknownSecret = ({ name }: SdsSecretConfig): string =>
  `asks for the secret "${name}" elsewhere than at the control plane (ads); only ${ownCertificateName}, ${meshRootsName}, file-cert: and file-root: names are known here`;

/**
 * Which names clients of our own port have to prove, one of them; empty: any that the mesh's roots vouch for. What is shown
 * there is our own certificate, so anything else is reported.
 */
export function compileServedNames(
  common: CommonTlsContext | undefined,
  path: string,
  problem: Problem,
): readonly SubjectAltNameMatcher[] {
  const none = () => {
    throw new TypeError("files are not served here");
  };
  const certificate = compileCertificate(common, path, none, problem);
  if (certificate === undefined || !("secret" in certificate) || certificate.secret !== ownCertificateName) {
    problem(`${path}.tls_certificate_sds_secret_configs`, `has to be the secret "${ownCertificateName}"`);
  }
  const { trust, subjectAltNames } = compileValidation(common, path, none, problem);
  if (trust.kind !== "secret" || trust.secret !== meshRootsName) {
    problem(path, `clients have to be validated with the secret "${meshRootsName}"`);
  }
  return subjectAltNames;
}

const sanTypes: Readonly<Record<number, SubjectAltNameMatcher["type"]>> = {
  [SubjectAltNameMatcher_SanType.EMAIL]: "email",
  [SubjectAltNameMatcher_SanType.DNS]: "dns",
  [SubjectAltNameMatcher_SanType.URI]: "uri",
  [SubjectAltNameMatcher_SanType.IP_ADDRESS]: "ip",
};

function compileSan(san: SanMatcher, path: string, problem: Problem): SubjectAltNameMatcher {
  const type = sanTypes[san.sanType];
  if (type === undefined) problem(`${path}.san_type`, `${san.sanType} is not supported`);
  const matches = compileString(san.matcher, `${path}.matcher`, problem);
  return { type: type ?? "any", matches: type === "dns" ? wildcardAware(san.matcher, matches) : matches };
}

/** A name that is wanted exactly is also there where the certificate has `*.` for its first label. */
function wildcardAware(
  matcher: StringMatcher | undefined,
  matches: (value: string) => boolean,
): (value: string) => boolean {
  const pattern = matcher?.matchPattern;
  if (pattern?.case !== "exact") return matches;
  const wanted = pattern.value.toLowerCase();
  return (value) => matches(value) || isCovered(wanted, value.toLowerCase());
}

function isCovered(name: string, certified: string): boolean {
  if (name === certified) return true;
  if (!certified.startsWith("*.") || certified.includes("*", 1)) return false;
  const dot = name.indexOf(".");
  return dot > 0 && name.slice(dot) === certified.slice(1);
}

/** Whether a certificate's name is the wanted host: for names that are known only when a request is there. */
export function sanFor(host: string): SubjectAltNameMatcher {
  const ip = isIP(host) === 0 ? undefined : tryIp(host);
  if (ip !== undefined) return { type: "ip", matches: (value) => tryIp(value) === ip };
  const wanted = host.toLowerCase();
  return { type: "dns", matches: (value) => isCovered(wanted, value.toLowerCase()) };
}

const versions: Readonly<Record<number, TlsVersion>> = {
  [TlsParameters_TlsProtocol.TLSv1_0]: "TLSv1",
  [TlsParameters_TlsProtocol.TLSv1_1]: "TLSv1.1",
  [TlsParameters_TlsProtocol.TLSv1_2]: "TLSv1.2",
  [TlsParameters_TlsProtocol.TLSv1_3]: "TLSv1.3",
};

function compileParameters(
  parameters: TlsParameters | undefined,
  path: string,
  problem: Problem,
): Pick<UpstreamTls, "minVersion" | "maxVersion" | "ciphers"> {
  if (parameters === undefined) return {};
  const supported = ["tlsMinimumProtocolVersion", "tlsMaximumProtocolVersion", "cipherSuites"];
  checkFields(TlsParametersSchema, parameters, supported, path, problem);
  const minVersion = versions[parameters.tlsMinimumProtocolVersion];
  const maxVersion = versions[parameters.tlsMaximumProtocolVersion];
  const suites = parameters.cipherSuites.flatMap((suite) => suite.replace(/^\[|\]$/g, "").split("|"));
  return { minVersion, maxVersion, ciphers: suites.length === 0 ? undefined : suites };
}

/** Undefined where there is none; told where it cannot be read. */
function readData(
  source: DataSource | undefined,
  path: string,
  readFile: ReadFile,
  problem: Problem,
): string | undefined {
  const specifier = source?.specifier;
  switch (specifier?.case) {
    case undefined:
      return undefined;
    case "inlineString":
      return specifier.value;
    case "inlineBytes":
      return Buffer.from(specifier.value).toString("utf8");
    case "filename":
      return readOr(readFile, specifier.value, path, problem);
    case "environmentVariable":
      problem(path, "from an environment variable is not supported");
      return undefined;
  }
}

function readOr(readFile: ReadFile, file: string, path: string, problem: Problem): string {
  try {
    return readFile(file);
  } catch (error) {
    problem(path, `cannot read "${file}": ${explain(error)}`);
    return "";
  }
}
