import type { IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import { explain } from "#shared/errors/mesh-error.ts";
import type { ObjectStore } from "./object-store.ts";
import { ids } from "./resources.ts";
import { child, isObject, listOf, numberOf, objectsOf, textOf, type JsonObject } from "./schema.ts";

/** Where a webhook listens: what is dialled, and what its certificate must name. */
interface Target {
  readonly url: URL;
  readonly host: string;
  readonly port: number;
}

/** @throws Error in the words of Kubernetes' API server */
function targetOf(client: JsonObject, store: Pick<ObjectStore, "get" | "list">): Target {
  const written = textOf(client, "url");
  if (written !== undefined) {
    const url = new URL(written);
    return { url, host: url.hostname.replaceAll(/^\[|\]$/gu, ""), port: Number(url.port === "" ? 443 : url.port) };
  }
  const reference = child(client, "service");
  const namespace = textOf(reference, "namespace") ?? "";
  const name = textOf(reference, "name") ?? "";
  const port = numberOf(reference, "port") ?? 443;
  const url = new URL(`https://${name}.${namespace}.svc:${port}`);
  url.pathname = textOf(reference, "path") ?? "/";
  const service = store.get(ids.services, namespace, name);
  if (service === undefined) throw new Error(`service "${name}" not found`);
  const servicePort = objectsOf(child(service, "spec"), "ports").find((each) => each["port"] === port);
  if (servicePort === undefined) throw new Error(`no service port ${port} found for service "${name}"`);
  const endpoint = readyEndpoint(store, namespace, name, textOf(servicePort, "name") ?? "");
  if (endpoint === undefined) throw new Error(`no endpoints available for service "${name}"`);
  return { url, ...endpoint };
}

/** Straight to a pod, as API servers do that know endpoints: rules for the service's address may lag behind. */
function readyEndpoint(
  store: Pick<ObjectStore, "list">,
  namespace: string,
  service: string,
  portName: string,
): { readonly host: string; readonly port: number } | undefined {
  const slices = store.list(ids.endpointSlices, { namespace, labels: { "kubernetes.io/service-name": service } });
  const all = slices.flatMap((slice) => {
    const port = objectsOf(slice, "ports").find((each) => (each["name"] ?? "") === portName);
    const number = port === undefined ? undefined : numberOf(port, "port");
    if (number === undefined) return [];
    return objectsOf(slice, "endpoints")
      .filter((endpoint) => child(endpoint, "conditions")["ready"] !== false)
      .flatMap((endpoint) => listOf(endpoint, "addresses").slice(0, 1))
      .map((address) => ({ host: String(address), port: number }));
  });
  return all[Math.floor(Math.random() * all.length)];
}

export interface WebhookAnswer {
  readonly allowed: boolean;
  readonly status: JsonObject;
  readonly warnings: readonly string[];
}

/** Kubernetes' bound for one answer. */
const maxAnswerBytes = 3 * 1024 * 1024;

/**
 * Asks one webhook.
 *
 * @throws Error where no usable answer came in time
 */
export async function callWebhook(
  webhook: JsonObject,
  review: { readonly request: { readonly uid: string } },
  store: Pick<ObjectStore, "get" | "list">,
): Promise<WebhookAnswer> {
  const client = child(webhook, "clientConfig");
  const seconds = numberOf(webhook, "timeoutSeconds") ?? 10;
  const { url, host, port } = targetOf(client, store);
  url.searchParams.set("timeout", `${seconds}s`);
  const bundle = textOf(client, "caBundle") ?? "";
  const where = `Post "${url.href}"`;
  const signal = AbortSignal.timeout(seconds * 1000);
  try {
    const body = await post({ url, host, port }, { bundle, signal, text: JSON.stringify(review) });
    return readAnswer(body, review.request.uid);
  } catch (error) {
    throw new Error(`${where}: ${signal.aborted ? "context deadline exceeded" : explain(error)}`, { cause: error });
  }
}

interface Sent {
  readonly bundle: string;
  readonly signal: AbortSignal;
  readonly text: string;
}

async function post({ url, host, port }: Target, { bundle, signal, text: payload }: Sent): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const request = httpsRequest(
    {
      method: "POST",
      host,
      port,
      path: `${url.pathname}${url.search}`,
      // A certificate may name an address, the handshake cannot.
      ...(isIP(host) !== 0 && url.hostname.includes(host) ? {} : { servername: url.hostname }),
      agent: false,
      signal,
      headers: { host: url.host, "content-type": "application/json", "content-length": Buffer.byteLength(payload) },
      ...(bundle === "" ? {} : { ca: Buffer.from(bundle, "base64").toString("utf8") }),
    },
    (response) => resolve(read(response)),
  );
  request.on("error", reject);
  request.end(payload);
  return promise;
}

async function read(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) throw new Error(`the answer exceeds ${maxAnswerBytes} bytes`);
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks).toString("utf8");
  if (response.statusCode === 200) return body;
  throw new Error(`the server answered ${response.statusCode}: ${body.slice(0, 200).trim()}`);
}

function readAnswer(body: string, uid: string): WebhookAnswer {
  const review: unknown = JSON.parse(body);
  const response = isObject(review) ? review["response"] : undefined;
  if (!isObject(review) || !isObject(response)) throw new Error("webhook response is missing");
  if (review["kind"] !== "AdmissionReview" || review["apiVersion"] !== "admission.k8s.io/v1") {
    throw new Error("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview");
  }
  if (response["uid"] !== uid) throw new Error(`expected response.uid=${JSON.stringify(uid)}`);
  return {
    allowed: response["allowed"] === true,
    status: child(response, "status"),
    warnings: listOf(response, "warnings").map(String),
  };
}
