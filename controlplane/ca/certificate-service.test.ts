import { expect, test } from "@jest/globals";
import { status, type Server } from "@grpc/grpc-js";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import type { Caller } from "./caller.ts";
import type { CertificateAuthority } from "./certificate-authority.ts";
import { addCertificateService, maxPendingRequests } from "./certificate-service.ts";

type Answer = { readonly code: status; readonly details: string } | null;
type Method = (call: unknown, callback: (error: Answer) => void) => void;

/** The method as gRPC would call it, with callers that are known when the test says so. */
function openService() {
  const waiting: ((error: Error) => void)[] = [];
  const added: { method?: Method } = {};
  const server = {
    addService: (_definition: unknown, { createCertificate }: { createCertificate: Method }) => {
      added.method = createCertificate;
    },
  };
  addCertificateService(
    server as unknown as Server,
    () => new Promise<Caller>((_resolve, reject) => waiting.push(reject)),
    {
      authority: {} as CertificateAuthority,
      log: silentLogger,
      trustedNodeAccounts: new Set(),
      pods: { pod: () => undefined, podsAs: () => [] },
      trustDomains: () => ["cluster.local"],
    },
  );
  const call = { request: { csr: "", validityDuration: 0n }, getPeer: () => "10.0.0.1:1" };
  const ask = () => new Promise<Answer>((resolve) => added.method?.(call, resolve));
  return { ask, waiting };
}

test("a flood of requests is turned away before the API server hears of it, and passes", async () => {
  const { ask, waiting } = openService();
  const first = Array.from({ length: maxPendingRequests }, ask);
  expect(await ask()).toMatchObject({ code: status.UNAVAILABLE });
  expect(waiting).toHaveLength(maxPendingRequests);
  for (const reject of waiting.splice(0)) reject(new MeshError("UNAUTHENTICATED", "nobody"));
  expect(new Set((await Promise.all(first)).map((answer) => answer?.code))).toEqual(new Set([status.UNAUTHENTICATED]));
  const next = ask();
  expect(waiting).toHaveLength(1);
  waiting[0]?.(new Error("the API server said something about a secret"));
  expect(await next).toEqual({ code: status.INTERNAL, details: "The certificate cannot be signed now" });
});
