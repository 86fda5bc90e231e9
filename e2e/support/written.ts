/** A write with all that the API server answers: client libraries keep its warnings to themselves. */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { request, type RequestOptions } from "node:https";
import { text } from "node:stream/consumers";
import { KubeConfig } from "@kubernetes/client-node";
import type { Cluster, Manifest } from "./cluster.ts";

export interface Written {
  /** Why it was refused; empty where it was taken. */
  readonly refusal: string;
  readonly warnings: readonly string[];
}

/** Server-side applies an object of a namespaced kind. */
export async function write(cluster: Cluster, object: Manifest, query = ""): Promise<Written> {
  const config = new KubeConfig();
  config.loadFromFile(cluster.kubeconfigPath);
  const { apiVersion = "", kind = "", metadata } = object;
  const plural = kind.toLowerCase().replace(/([^aeiou])y$/, "$1ie");
  const path = `/apis/${apiVersion}/namespaces/${metadata.namespace ?? "default"}/${plural}s/${metadata.name}`;
  const url = `${config.getCurrentCluster()?.server ?? ""}${path}?fieldManager=ambit-e2e&force=true${query}`;
  const options: RequestOptions = { method: "PATCH", headers: { "content-type": "application/apply-patch+yaml" } };
  await config.applyToHTTPSOptions(options);
  const [answer] = (await once(request(url, options).end(JSON.stringify(object)), "response")) as [IncomingMessage];
  const body = JSON.parse(await text(answer)) as { readonly message?: string };
  const isTaken = (answer.statusCode ?? 0) < 300;
  return {
    refusal: isTaken ? "" : (body.message ?? ""),
    warnings: warningsIn(answer.headersDistinct["warning"] ?? []),
  };
}

/** `299 - "text"`, in UTF-8, which Node reads as Latin-1. */
const warningsIn = (headers: readonly string[]): readonly string[] =>
  headers.map((header) => {
    const quoted = /^299 - "(.*)"$/s.exec(Buffer.from(header, "latin1").toString("utf8"))?.[1] ?? "";
    return quoted.replaceAll(/\\(.)/gs, "$1");
  });

/** As in a cluster without the webhook: whatever has the right form is stored, and its status tells the rest. */
export async function withoutWebhook(cluster: Cluster): Promise<void> {
  const name = "istio-validator-istio-system";
  await cluster.delete("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", name);
}
