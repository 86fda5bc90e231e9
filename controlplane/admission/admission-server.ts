import type { Server } from "node:https";
import { fastify } from "fastify";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { ServingPair } from "#controlplane/ca/certificate-authority.ts";
import type { ListenAddress } from "#controlplane/xds/grpc-listener.ts";
import { decide } from "./decide.ts";
import { withNamedConfigMaps, type FetchConfigMap } from "./named-config-maps.ts";
import { answerReview, readReview, type Decision, type ReviewRequest } from "./review.ts";
import type { Scene } from "./scene.ts";

export interface AdmissionOptions {
  readonly address: ListenAddress;
  readonly certificate: ServingPair;
  readonly scene: Scene;
  readonly fetchConfigMap: FetchConfigMap;
  readonly log: Logger;
  /** After each answer, for metrics. */
  readonly onReviewed: (request: ReviewRequest, isAllowed: boolean) => void;
}

export interface AdmissionServer extends AsyncDisposable {
  readonly port: number;
  /** For handshakes from now on. */
  setCertificate(certificate: ServingPair): void;
}

/** An object and its predecessor, 3 MiB each at most in an API server, and their envelope. */
const maxBodyBytes = 8 * 1024 * 1024;
/** An API server keeps a few connections open; a bound against everybody else. */
const maxConnections = 512;
const requestTimeoutMs = 10_000;
const headersTimeoutMs = 5_000;
/** API servers close idle connections after 90 seconds; where we were first, a question could meet a closed door. */
const keepAliveMs = 120_000;

/**
 * 15017: `/validate`, which API servers ask before they store an object. Who asks is not checked, as nowhere in
 * Kubernetes: an answer tells nothing that the question did not hold but names of services and waypoints, and whether a
 * ConfigMap holds certificates.
 *
 * @throws the system's error where the port is taken
 */
export async function openAdmissionServer(options: AdmissionOptions): Promise<AdmissionServer> {
  const { address, certificate, log } = options;
  const server = fastify({
    https: { ...contextOf(certificate), headersTimeout: headersTimeoutMs, connectionsCheckingInterval: 1_000 },
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveMs,
    handlerTimeout: requestTimeoutMs,
    bodyLimit: maxBodyBytes,
    exposeHeadRoutes: false,
  });
  const tls: Server = server.server;
  tls.maxConnections = maxConnections;
  tls.on("tlsClientError", (error) => log.debug({ error: explain(error) }, "TLS handshake failed"));
  server.removeAllContentTypeParsers();
  server.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  server.post("/validate", async (request, reply) => {
    const review = readReview(Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0));
    if ("wrong" in review) return reply.code(400).type("text/plain; charset=utf-8").send(`${review.wrong}\n`);
    const decision = await judge(review, options);
    options.onReviewed(review, decision.mistakes.length === 0);
    return reply.type("application/json").send(JSON.stringify(answerReview(review, decision)));
  });
  await server.listen(address);
  const bound = tls.address();
  return {
    port: typeof bound === "object" && bound !== null ? bound.port : address.port,
    setCertificate: (next) => tls.setSecureContext(contextOf(next)),
    [Symbol.asyncDispose]: async () => {
      const closed = server.close();
      tls.closeIdleConnections();
      await closed;
    },
  };
}

const contextOf = ({ chainPem, keyPem }: ServingPair) => ({
  cert: chainPem,
  key: keyPem,
  minVersion: "TLSv1.2" as const,
});

/** A mistake of ours must not keep others from their work: what cannot be judged is let pass, and says so. */
async function judge(review: ReviewRequest, options: AdmissionOptions): Promise<Decision> {
  const { scene, log } = options;
  try {
    const known = await knownScene(review, options);
    const decision = decide(review, known ?? scene);
    const { mistakes } = decision;
    if (mistakes.length > 0) log.info({ ...named(review), problems: mistakes }, "object refused when written");
    return known === undefined ? { mistakes, warnings: [...decision.warnings, unreadConfigMaps] } : decision;
  } catch (error) {
    log.error({ ...named(review), error: explain(error) }, "object cannot be checked: it is let pass");
    return { mistakes: [], warnings: ["the control plane could not check this object: see its log"] };
  }
}

const unreadConfigMaps = "ConfigMaps could not be read: what is said of them may be wrong";

/** undefined where what the object names cannot be read now. */
async function knownScene(
  review: ReviewRequest,
  { scene, fetchConfigMap, log }: AdmissionOptions,
): Promise<Scene | undefined> {
  if (review.object === undefined) return scene;
  try {
    return await withNamedConfigMaps(review.object, scene, fetchConfigMap);
  } catch (error) {
    log.warn({ ...named(review), error: explain(error) }, "ConfigMaps that an object names cannot be read");
    return undefined;
  }
}

function named({ object, resource: { resource } }: ReviewRequest) {
  const { namespace, name } = (object?.["metadata"] ?? {}) as { namespace?: unknown; name?: unknown };
  return { resource, namespace, name };
}
