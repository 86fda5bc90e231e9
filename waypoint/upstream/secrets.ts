/**
 * Certificates and roots that clusters name instead of holding: our own, and those that the control plane sends on its
 * stream (secret discovery) to whom it lets have them.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import { splitPem } from "#shared/ca/workload-certificate.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { DataSource } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import {
  CertificateValidationContextSchema,
  TlsCertificateSchema,
} from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { SecretSchema, type Secret } from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { Rejection, XdsResource } from "#shared/xds/delta-client.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { checkFields } from "./compile/set-fields.ts";

export interface KeyPair {
  /** Leaf first. PEM. */
  readonly chainPem: string;
  /** PEM; never logged. */
  readonly keyPem: string;
}

/** Names under which Istio's agent serves our identity's certificate and the roots of the mesh. */
export const ownCertificateName = "default";
export const meshRootsName = "ROOTCA";

export interface SecretLookup {
  /** Waits for one that has not come yet. Rejects with the signal's reason. */
  certificate(name: string, signal: AbortSignal): Promise<KeyPair>;
  /** The same for trust anchors, one PEM each. */
  roots(name: string, signal: AbortSignal): Promise<readonly string[]>;
}

export type SecretValue =
  | { readonly kind: "certificate"; readonly certificate: KeyPair }
  | { readonly kind: "roots"; readonly roots: readonly string[] };

type Own = () => WorkloadCertificate | Promise<WorkloadCertificate>;

export class Secrets implements SecretLookup {
  readonly #own: Own;
  readonly #values = new Map<string, SecretValue>();
  /** Who waits for a secret that is not there, by its name. */
  readonly #waiting = new Map<string, PromiseWithResolvers<void>>();

  constructor(own: Own) {
    this.#own = own;
  }

  /** Handler for `envoy.extensions.transport_sockets.tls.v3.Secret`. */
  apply(resources: readonly XdsResource[], removed: readonly string[]): readonly Rejection[] {
    const rejections: Rejection[] = [];
    for (const { name, value } of resources) {
      const problems: string[] = [];
      const read = readSecret(
        value,
        (path, message) => void problems.push(path === "" ? message : `${path}: ${message}`),
      );
      if (read === undefined || problems.length > 0) {
        rejections.push({ name, reason: problems.join("; ") });
        continue;
      }
      this.#values.set(name, read);
      this.#waiting.get(name)?.resolve();
      this.#waiting.delete(name);
    }
    for (const name of removed) this.#values.delete(name);
    return rejections;
  }

  /** What the control plane has given, for dumps. */
  values(): Iterable<readonly [string, SecretValue]> {
    return this.#values;
  }

  /** Forgets all but these: others are asked for anew when somebody names them again. */
  keep(names: ReadonlySet<string>): void {
    for (const name of this.#values.keys()) if (!names.has(name)) this.#values.delete(name);
  }

  async certificate(name: string, signal: AbortSignal): Promise<KeyPair> {
    if (name === ownCertificateName) return this.#own();
    const value = await this.#find(name, signal);
    if (value.kind === "certificate") return value.certificate;
    throw new TypeError(`the secret "${name}" holds roots, where a certificate is needed`);
  }

  async roots(name: string, signal: AbortSignal): Promise<readonly string[]> {
    if (name === meshRootsName) return (await this.#own()).rootsPem;
    const value = await this.#find(name, signal);
    if (value.kind === "roots") return value.roots;
    throw new TypeError(`the secret "${name}" holds a certificate, where roots are needed`);
  }

  async #find(name: string, signal: AbortSignal): Promise<SecretValue> {
    for (;;) {
      const value = this.#values.get(name);
      if (value !== undefined) return value;
      const arrival = this.#waiting.get(name) ?? Promise.withResolvers<void>();
      this.#waiting.set(name, arrival);
      await untilAborted(arrival.promise, signal);
    }
  }
}

async function untilAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason as Error);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    signal.throwIfAborted();
    await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function readSecret(bytes: Uint8Array, problem: Problem): SecretValue | undefined {
  let secret: Secret;
  try {
    secret = fromBinary(SecretSchema, bytes);
  } catch (error) {
    problem("", `Cannot read the secret: ${explain(error)}`);
    return undefined;
  }
  const { type } = secret;
  switch (type.case) {
    case "tlsCertificate": {
      checkFields(TlsCertificateSchema, type.value, ["certificateChain", "privateKey"], "tls_certificate", problem);
      const chainPem = inline(type.value.certificateChain, "tls_certificate.certificate_chain", problem);
      const keyPem = inline(type.value.privateKey, "tls_certificate.private_key", problem);
      checkPair({ chainPem, keyPem }, problem);
      return { kind: "certificate", certificate: { chainPem, keyPem } };
    }
    case "validationContext": {
      checkFields(CertificateValidationContextSchema, type.value, ["trustedCa"], "validation_context", problem);
      const roots = splitPem(inline(type.value.trustedCa, "validation_context.trusted_ca", problem));
      if (roots.length === 0) problem("validation_context.trusted_ca", "holds no certificate in PEM form");
      return { kind: "roots", roots };
    }
    case "sessionTicketKeys":
    case "genericSecret":
    case undefined:
      problem("", "is neither a tls_certificate nor a validation_context");
      return undefined;
  }
}

function inline(source: DataSource | undefined, path: string, problem: Problem): string {
  const specifier = source?.specifier;
  if (specifier?.case === "inlineString") return specifier.value;
  if (specifier?.case === "inlineBytes") return Buffer.from(specifier.value).toString("utf8");
  problem(path, specifier === undefined ? "is missing" : "has to be inline");
  return "";
}

function checkPair({ chainPem, keyPem }: KeyPair, problem: Problem): void {
  if (chainPem === "" || keyPem === "") return;
  try {
    if (!new X509Certificate(chainPem).checkPrivateKey(createPrivateKey(keyPem))) {
      problem("tls_certificate.private_key", "belongs to another certificate");
    }
  } catch (error) {
    problem("tls_certificate", `cannot be read: ${explain(error)}`);
  }
}
