/**
 * `envoy.filters.http.grpc_web`: calls of browsers, which cannot read trailers, become gRPC calls and their answers are
 * given back with the trailers as a last message of the body (PROTOCOL-WEB.md of gRPC), as base64 where asked for.
 */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { GrpcWebSchema } from "#shared/proto/gen/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.js";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { Headers } from "#waypoint/http/headers.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { BodyTransform, Layer, LayerKind, LayerResult } from "#waypoint/layers/layer.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";

export const grpcWebLayer: LayerKind = {
  type: GrpcWebSchema.typeName,
  compile(name, any, { problem }) {
    const config = anyUnpack(any, GrpcWebSchema);
    if (config === undefined) return undefined;
    reportUnknownFields(config, problem);
    return new GrpcWebLayer(name);
  },
};

const webTypes = { binary: "application/grpc-web", text: "application/grpc-web-text" } as const;

interface WebCall {
  readonly sendsText: boolean;
  readonly wantsText: boolean;
}

class GrpcWebLayer implements Layer {
  readonly name: string;
  readonly #calls = new WeakMap<Exchange, WebCall>();

  constructor(name: string) {
    this.name = name;
  }

  onRequest(exchange: Exchange): LayerResult {
    const { headers, method } = exchange.request;
    const type = headers.get("content-type");
    if (method !== "POST" || !isWebType(type)) return undefined;
    const call = { sendsText: isTextType(type), wantsText: isTextType(headers.get("accept")) };
    this.#calls.set(exchange, call);
    headers.set("content-type", "application/grpc");
    headers.set("te", "trailers");
    // A browser unpacks what HTTP packs, not what gRPC does.
    headers.set("grpc-accept-encoding", "identity");
    headers.delete("content-length");
    return undefined;
  }

  transform(exchange: Exchange): BodyTransform | undefined {
    const call = this.#calls.get(exchange);
    return call && new WebTransform(call);
  }

  onResponse(exchange: Exchange, { headers }: ResponseHead): void {
    const call = this.#calls.get(exchange);
    if (call === undefined || headers.get("content-type")?.startsWith("application/grpc") !== true) return;
    headers.set("content-type", `${call.wantsText ? webTypes.text : webTypes.binary}+proto`);
    headers.delete("content-length");
  }
}

const isWebType = (type: string | undefined): boolean =>
  type !== undefined && /^application\/grpc-web(?:-text)?(?:[+;]|$)/.test(type);

const isTextType = (type: string | undefined): boolean => type?.startsWith(webTypes.text) ?? false;

const noBytes = Buffer.alloc(0);

class WebTransform implements BodyTransform {
  readonly #call: WebCall;
  /** Up to three characters of base64 that wait for their fourth. */
  #partial = "";

  constructor(call: WebCall) {
    this.#call = call;
  }

  request(chunk: Buffer): Buffer {
    if (!this.#call.sendsText) return chunk;
    const text = this.#partial + chunk.toString("latin1");
    const whole = text.length - (text.length % 4);
    this.#partial = text.slice(whole);
    return decodeBase64(text.slice(0, whole));
  }

  /** Each piece is padded for itself, so that a client sees it at once. */
  response(chunk: Buffer): Buffer {
    return this.#call.wantsText ? Buffer.from(chunk.toString("base64"), "latin1") : chunk;
  }

  responseEnd(trailers: Headers | undefined) {
    if (trailers === undefined) return { rest: undefined, trailers };
    return { rest: this.response(trailerMessage(trailers)), trailers: undefined };
  }
}

/** Pieces may have been padded for themselves. @throws where it is no base64 */
function decodeBase64(text: string): Buffer {
  if (text === "") return noBytes;
  if (!/^(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)*$/.test(text)) {
    throw new TypeError("the body of a gRPC-Web call is no base64");
  }
  if (!/=[^=]/.test(text)) return Buffer.from(text, "base64");
  const parts = text.match(/[^=]+={0,2}/g) ?? [];
  return Buffer.concat(parts.map((part) => Buffer.from(part, "base64")));
}

/** A frame with the flag for trailers, its length, and lines as in HTTP/1.1. */
function trailerMessage(trailers: Headers): Buffer {
  let text = "";
  for (const [name, value] of trailers) text += `${name}:${value}\r\n`;
  const lines = Buffer.from(text, "latin1");
  const head = Buffer.alloc(5);
  head[0] = 0x80;
  head.writeUInt32BE(lines.length, 1);
  return Buffer.concat([head, lines]);
}
