/** One line per connection, formatted by hand: connections come by the thousand per second. */
import { hostPort } from "#shared/net/ip.ts";
import { timestamp, visible, type Level, type LineSink, type LogFormat } from "#shared/observe/logging.ts";
import type { ConnectionFacts, EarlyFailure } from "./connection-record.ts";
import { destinationEnd, sourceEnd } from "./traffic-labels.ts";

/** `bare`: an address or number, written without quotes in plain lines. */
type Field = readonly [key: string, value: string | number | undefined, style?: "bare"];

export interface Completion {
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly durationMs: number;
  readonly error?: string;
}

export class AccessLog {
  readonly #format: LogFormat;
  readonly #sink: LineSink;

  constructor(format: LogFormat, sink: LineSink) {
    this.#format = format;
    this.#sink = sink;
  }

  opened(nowMs: number, facts: ConnectionFacts): void {
    this.#write(nowMs, "debug", "connection opened", factFields(facts));
  }

  completed(nowMs: number, facts: ConnectionFacts, completion: Completion): void {
    const { requestBytes, responseBytes, durationMs, error } = completion;
    const isSource = facts.reporter === "source";
    const fields = factFields(facts);
    // From where the reporter stands: what its own side sent and received.
    fields.push(
      ["bytes_sent", isSource ? requestBytes : responseBytes],
      ["bytes_recv", isSource ? responseBytes : requestBytes],
      ["duration", `${Math.round(durationMs)}ms`],
      ["error", error],
    );
    this.#write(nowMs, error === undefined ? "info" : "error", "connection complete", fields);
  }

  failed(nowMs: number, { sourceAddress, destinationAddress, direction, error }: EarlyFailure): void {
    this.#write(nowMs, "warn", "connection failed", [
      ["src.addr", hostPort(sourceAddress.ip, sourceAddress.port), "bare"],
      ["dst.addr", hostPort(destinationAddress.ip, destinationAddress.port), "bare"],
      ["direction", direction],
      ["error", error],
    ]);
  }

  #write(nowMs: number, level: Level, message: string, fields: readonly Field[]): void {
    const time = timestamp(nowMs);
    let line: string;
    if (this.#format === "json") {
      line = `{"level":"${level}","time":"${time}","scope":"access","message":"${message}"`;
      for (const [key, value] of fields) {
        if (value !== undefined) line += `,"${key}":${typeof value === "number" ? value : quote(value)}`;
      }
      line += "}\n";
    } else {
      line = `${time}\t${level}\taccess\t${message}\t`;
      let space = "";
      for (const [key, value, style] of fields) {
        if (value === undefined) continue;
        line += `${space}${key}=${typeof value === "number" || (style === "bare" && isPlain(value)) ? value : quote(value)}`;
        space = " ";
      }
      line += "\n";
    }
    this.#sink.write(line);
  }
}

function factFields(facts: ConnectionFacts): Field[] {
  const { sourceAddress, destinationAddress, source, destination, destinationDescription, service } = facts;
  const from = sourceEnd(facts);
  const to = destinationEnd(facts);
  const toName = destinationDescription ? to.workload || to.canonicalService : destination?.name;
  return [
    ["src.addr", hostPort(sourceAddress.ip, sourceAddress.port), "bare"],
    ["src.workload", some(source?.name ?? from.canonicalService)],
    ["src.namespace", some(from.namespace)],
    ["src.identity", facts.mutualTls ? facts.sourceIdentity : undefined],
    ["src.cluster", some(from.cluster)],
    ["dst.addr", hostPort(destinationAddress.ip, destinationAddress.port), "bare"],
    ["dst.hbone_addr", facts.hboneAddress, "bare"],
    ["dst.service", some(service?.hostname)],
    ["dst.workload", some(toName)],
    ["dst.namespace", some(to.namespace)],
    ["dst.identity", destinationIdentity(facts)],
    ["dst.cluster", some(to.cluster)],
    ["direction", facts.reporter === "source" ? "outbound" : "inbound"],
  ];
}

function destinationIdentity(facts: ConnectionFacts): string | undefined {
  if (!facts.mutualTls) return undefined;
  return facts.destinationIdentity ?? (facts.destinationDescription ? undefined : facts.destination?.identity);
}

const some = (text: string | undefined): string | undefined => (text === "" ? undefined : text);

/** Peers write authorities: nothing in one may end the field or the line. */
const isPlain = (text: string): boolean => /^[\w.:[\]*-]+$/.test(text);

/** Names and addresses need no escaping, which is cheap to see. */
const quote = (text: string): string => (/^[\w./:@ =!-]*$/.test(text) ? `"${text}"` : visible(JSON.stringify(text)));
