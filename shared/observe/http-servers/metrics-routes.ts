import { promisify } from "node:util";
import { brotliCompress, constants, deflate, gzip, zstdCompress } from "node:zlib";
import { toOpenMetrics, type MetricsRegistry } from "../metrics.ts";
import type { Handler, HttpReply, HttpRequest } from "./open-server.ts";

const openMetrics = "application/openmetrics-text";

/** The body is always OpenMetrics text; the type only says so to who asked for it, as Istio's ztunnel does. */
export function metricsRoutes(registry: MetricsRegistry): Readonly<Record<string, Handler>> {
  const answer = (request: HttpRequest) => metricsReply(registry, request);
  return { "/metrics": answer, "/stats/prometheus": answer };
}

async function metricsReply(registry: MetricsRegistry, { headers }: HttpRequest): Promise<HttpReply> {
  const text = toOpenMetrics(registry.snapshot());
  const wantsOpenMetrics = (headers.accept ?? "")
    .split(",")
    .some((entry) => entry.split(";")[0]?.trim().toLowerCase() === openMetrics);
  const contentType = wantsOpenMetrics ? `${openMetrics};charset=utf-8;version=1.0.0` : "text/plain; charset=utf-8";
  const encoding = chooseEncoding(headers["accept-encoding"] ?? "");
  if (encoding === undefined) return { contentType, body: text };
  return {
    contentType,
    headers: { "content-encoding": encoding, vary: "accept-encoding" },
    body: await encodings[encoding](text),
  };
}

const encodings = {
  zstd: promisify(zstdCompress),
  // The library's default, the best quality, takes a second for what a scrape needs at once.
  br: (text: string) => promisify(brotliCompress)(text, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
  gzip: promisify(gzip),
  deflate: promisify(deflate),
};

type Encoding = keyof typeof encodings;

/** The accepted encoding of highest weight; at equal weights ours of first choice. */
export function chooseEncoding(header: string): Encoding | undefined {
  const weights = new Map<string, number>();
  for (const item of header.split(",")) {
    const [name = "", ...parameters] = item.split(";").map((part) => part.trim().toLowerCase());
    const q = parameters.find((parameter) => parameter.startsWith("q="));
    weights.set(name, q === undefined ? 1 : Number(q.slice(2)) || 0);
  }
  let best: Encoding | undefined;
  let bestWeight = weights.get("identity") ?? 0;
  for (const encoding of ["zstd", "br", "gzip", "deflate"] as const) {
    const weight = weights.get(encoding) ?? weights.get("*") ?? 0;
    if (weight > 0 && (weight > bestWeight || (best === undefined && weight === bestWeight))) {
      best = encoding;
      bestWeight = weight;
    }
  }
  return best;
}
