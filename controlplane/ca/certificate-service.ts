import { status, type Server, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import { parseSpiffeId, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Logger } from "#shared/observe/logger.ts";
import {
  IstioCertificateRequestSchema,
  IstioCertificateResponseSchema,
  type IstioCertificateRequest,
} from "#shared/proto/gen/ca/ca_pb.js";
import type { Caller } from "./caller.ts";
import type { CertificateAuthority } from "./certificate-authority.ts";
import { mayImpersonate, type ImpersonationOptions } from "./impersonation.ts";

/** For metrics, in Istio's order of things. */
export type CertificateEvent = "request" | "authentication-failed" | "csr-malformed" | "sign-failed" | "issued";

export interface CertificateServiceOptions extends ImpersonationOptions {
  readonly authority: CertificateAuthority;
  readonly log: Logger;
  readonly onEvent?: (event: CertificateEvent) => void;
}

type Call = ServerUnaryCall<IstioCertificateRequest, readonly string[]>;

/** Who calls. @throws MeshError UNAUTHENTICATED */
export type Identify = (call: Call) => Promise<Caller>;

/** What goes back to the caller: a status, and a sentence that helps without telling what others are allowed. */
interface Refusal {
  readonly code: status;
  readonly details: string;
  readonly event: CertificateEvent;
}

/**
 * Requests under way at once. Each costs a question to the API server before we know whether its caller is anybody, so
 * a flood must not become one there; every node's burst at a start fits.
 */
export const maxPendingRequests = 1_000;

/** Adds Istio's CA service to a server. */
export function addCertificateService(server: Server, identify: Identify, options: CertificateServiceOptions): void {
  const { log, onEvent } = options;
  let pending = 0;
  const createCertificate = async (call: Call, callback: sendUnaryData<readonly string[]>) => {
    onEvent?.("request");
    if (pending >= maxPendingRequests) {
      log.debug({ peer: call.getPeer() }, "certificate request turned away: too many are under way");
      callback({ code: status.UNAVAILABLE, details: "Too many certificate requests are under way: try again" });
      return;
    }
    pending++;
    let caller: Caller | undefined;
    try {
      caller = await identify(call);
      const identity = identityToCertify(caller, call.request, options);
      const ttlMs = Number(call.request.validityDuration) * 1_000;
      const { chain, notAfterMs } = await options.authority.certify(call.request.csr, identity, ttlMs);
      onEvent?.("issued");
      log.debug(
        { identity, caller: caller.identity, notAfter: new Date(notAfterMs).toISOString() },
        "certificate issued",
      );
      callback(null, chain);
    } catch (error) {
      const { code, details, event } = refusalOf(error);
      onEvent?.(event);
      log.warn(
        { peer: call.getPeer(), caller: caller?.identity, code: status[code], error: explain(error) },
        "certificate request refused",
      );
      callback({ code, details });
    } finally {
      pending--;
    }
  };
  server.addService(
    {
      createCertificate: {
        path: "/istio.v1.auth.IstioCertificateService/CreateCertificate",
        requestStream: false,
        responseStream: false,
        requestSerialize: (request: IstioCertificateRequest) =>
          Buffer.from(toBinary(IstioCertificateRequestSchema, request)),
        requestDeserialize: (bytes: Buffer) => fromBinary(IstioCertificateRequestSchema, bytes),
        responseSerialize: (certChain: readonly string[]) =>
          Buffer.from(
            toBinary(
              IstioCertificateResponseSchema,
              create(IstioCertificateResponseSchema, { certChain: [...certChain] }),
            ),
          ),
        responseDeserialize: (bytes: Buffer) => fromBinary(IstioCertificateResponseSchema, bytes).certChain,
      },
    },
    {
      createCertificate: ((call: Call, callback: sendUnaryData<readonly string[]>) =>
        void createCertificate(call, callback)) as never,
    },
  );
}

/** The caller, or who it may stand in for. Names in the request do not count. */
function identityToCertify(
  caller: Caller,
  { metadata }: IstioCertificateRequest,
  options: ImpersonationOptions,
): SpiffeId {
  const requested = metadata?.["ImpersonatedIdentity"];
  if (requested === undefined || requested === "") return caller.identity;
  if (typeof requested !== "string") throw new NotAllowed("ImpersonatedIdentity is no text");
  const verdict = mayImpersonate(caller, requested, options);
  if (!verdict.allowed) throw new NotAllowed(verdict.why);
  return parseSpiffeId(requested);
}

/** Kept apart from other failures of authentication, since its reason stays in our log. */
class NotAllowed extends Error {}

function refusalOf(error: unknown): Refusal {
  if (error instanceof NotAllowed) {
    const details = "The caller may not have a certificate of the requested identity";
    return { code: status.UNAUTHENTICATED, details, event: "authentication-failed" };
  }
  if (error instanceof MeshError && error.code === "UNAUTHENTICATED") {
    return { code: status.UNAUTHENTICATED, details: error.message, event: "authentication-failed" };
  }
  if (error instanceof MeshError && error.code === "RESOURCE_MALFORMED") {
    return { code: status.INVALID_ARGUMENT, details: error.message, event: "csr-malformed" };
  }
  return { code: status.INTERNAL, details: "The certificate cannot be signed now", event: "sign-failed" };
}
