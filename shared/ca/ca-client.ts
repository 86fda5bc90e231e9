import type { Client } from "@grpc/grpc-js";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import {
  callMetadata,
  openChannel,
  readRoots,
  type CallSettings,
  type ChannelSettings,
} from "#shared/grpc/control-plane-channel.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from "#shared/proto/gen/ca/ca_pb.js";
import type { CertificateSource } from "./certificate-manager.ts";
import { makeCertificateRequest } from "./csr.ts";
import { readCertificateResponse, type WorkloadCertificate } from "./workload-certificate.ts";

export interface CaClientSettings extends ChannelSettings, CallSettings {
  /** Asked-for life of a certificate, in seconds; 86 400 is Istio's default. The CA may cut it. */
  readonly ttlSeconds: number;
  /**
   * Asks for identities of others, as the proxy of a whole node does. False where a proxy serves one workload: then the
   * CA certifies the caller itself.
   */
  readonly impersonate: boolean;
  /** Unit: milliseconds. Istio's ztunnel waits for ever; a CA that hangs must not hold one of our eight slots. */
  readonly deadlineMs?: number;
}

const deadlineMsDefault = 15_000;
const method = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/** Asks Istio's CA service for certificates. Holds one channel; close with `using`. */
export class CaClient implements CertificateSource, Disposable {
  readonly #settings: CaClientSettings;
  readonly #log: Logger;
  #open: { readonly rootsPem: string | undefined; readonly client: Client } | undefined;

  constructor(settings: CaClientSettings, log: Logger) {
    this.#settings = settings;
    this.#log = log;
  }

  /** @throws MeshError CERTIFICATE_UNAVAILABLE with the gRPC status or what is wrong with the answer */
  async fetch(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate> {
    const [client, metadata, request] = await Promise.all([
      this.#client(),
      callMetadata(this.#settings),
      makeCertificateRequest(identity),
    ]);
    signal.throwIfAborted();
    const message = toBinary(
      IstioCertificateRequestSchema,
      create(IstioCertificateRequestSchema, {
        csr: request.csrPem,
        validityDuration: BigInt(this.#settings.ttlSeconds),
        ...(this.#settings.impersonate ? { metadata: { ImpersonatedIdentity: identity } } : {}),
      }),
    );
    const chain = await new Promise<readonly string[]>((resolve, reject) => {
      const call = client.makeUnaryRequest(
        method,
        (bytes: Uint8Array) => Buffer.from(bytes),
        (bytes: Buffer) => fromBinary(IstioCertificateResponseSchema, bytes).certChain,
        message,
        metadata,
        { deadline: Date.now() + (this.#settings.deadlineMs ?? deadlineMsDefault) },
        (error, value) => {
          signal.removeEventListener("abort", cancel);
          if (error === null && value !== undefined) resolve(value);
          else reject(new MeshError("CERTIFICATE_UNAVAILABLE", "Cannot get a certificate from the CA", error));
        },
      );
      const cancel = () => call.cancel();
      signal.addEventListener("abort", cancel, { once: true });
    });
    const { certificate, unreadableRoots } = readCertificateResponse({
      chain,
      keyPem: request.keyPem,
      ...(this.#settings.impersonate ? { requested: identity } : {}),
    });
    if (unreadableRoots > 0) this.#log.warn({ identity, unreadableRoots }, "some roots of the CA cannot be read");
    return certificate;
  }

  [Symbol.dispose](): void {
    this.#open?.client.close();
    this.#open = undefined;
  }

  /**
   * The channel, opened anew when the root file has other content than before. Reading a small file at each request
   * (one per identity and half a day) sees every way in which a mount is replaced; a watch would miss some.
   */
  async #client(): Promise<Client> {
    const before = this.#open;
    try {
      const rootsPem = await readRoots(this.#settings.roots);
      // Another request may have opened it while this one read the file.
      if (this.#open !== undefined && this.#open.rootsPem === rootsPem) return this.#open.client;
      const client = openChannel(this.#settings, rootsPem);
      this.#open?.client.close();
      this.#open = { rootsPem, client };
      return client;
    } catch (error) {
      if (before === undefined) throw error;
      this.#log.warn({ error: explain(error) }, "cannot reload the CA's root, keeping the channel");
      return before.client;
    }
  }
}
