/** The telemetry of a process: what its chains ask for is compiled against one registry, one output, one exporter each. */
import type { Clock } from "#shared/clock/clock.ts";
import type { LineSink } from "#shared/observe/logging.ts";
import type { MetricsRegistry } from "#shared/observe/metrics.ts";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import { compileLoggers, logTo, type Logger } from "./access-log/compile-loggers.ts";
import { ProcessSinks } from "./access-log/sinks.ts";
import type { NodeFacts } from "#waypoint/expressions/attributes.ts";
import { HttpMetrics } from "./metrics/http-metrics.ts";
import { compileOverrides, noOverrides } from "./metrics/overrides.ts";
import { OpenConnections, TcpMetrics } from "./metrics/tcp-metrics.ts";
import { TrafficFamilies } from "./metrics/traffic-families.ts";
import type { ExchangeObserver, TcpObserver } from "./observers.ts";
import type { Peers } from "./peers.ts";
import { connectSubject, tcpSubject } from "./subject.ts";
import type { TelemetryKinds } from "./telemetry-kinds.ts";
import { Tracers } from "./trace/tracers.ts";

export interface TelemetryOptions {
  readonly registry: MetricsRegistry;
  readonly clock: Clock;
  readonly stdout: LineSink;
  readonly node: NodeFacts;
  readonly peers: Peers;
  /** [0, 1). */
  readonly random: () => number;
}

export interface Telemetry extends TelemetryKinds {
  /** Sends what is still to be sent, within a deadline. */
  flush(deadlineMs: number): Promise<void>;
}

export function openTelemetry(options: TelemetryOptions): Telemetry {
  const { registry, clock, node, peers, random } = options;
  const families = new TrafficFamilies(registry);
  const open = new OpenConnections(families);
  const sinks = new ProcessSinks(options.stdout);
  const tracers = new Tracers({ clock, registry, node, peers, random });
  const overridesOf = (stats: Parameters<typeof compileOverrides>[0] | undefined, { problem }: LayerContext) =>
    stats === undefined
      ? noOverrides
      : compileOverrides(stats, node, (path, message) => problem(`istio.stats ${path}`, message));
  return {
    http({ accessLog, tracing, requestId, stats }, chain, context) {
      const { clusters, problem, skipped } = context;
      const observers: ExchangeObserver[] = [];
      const tracer = tracing === undefined ? undefined : tracers.compile({ tracing, requestId }, chain, context);
      if (tracer !== undefined) observers.push(tracer);
      observers.push(new HttpMetrics({ families, peers, clusters, overrides: overridesOf(stats, context), chain }));
      const loggers = compileLoggers(accessLog, sinks, { node, problem, skipped, random });
      if (loggers.length > 0) observers.push(httpLog(loggers, peers, chain));
      return observers;
    },
    tcp({ accessLog, stats }, _chain, context) {
      const { clusters, problem, skipped } = context;
      const overrides = overridesOf(stats, context);
      const observers: TcpObserver[] = [new TcpMetrics({ families, open, peers, clusters, overrides })];
      const loggers = compileLoggers(accessLog, sinks, { node, problem, skipped, random });
      if (loggers.length > 0) observers.push(tcpLog(loggers, peers));
      return observers;
    },
    connects(accessLog, { problem, skipped }) {
      const loggers = compileLoggers(accessLog, sinks, { node, problem, skipped, random });
      return (refused) => loggers.length > 0 && logTo(loggers, connectSubject(refused, peers));
    },
    refusals(accessLog, _listener, { problem, skipped }) {
      const loggers = compileLoggers(accessLog, sinks, { node, problem, skipped, random });
      return loggers.length === 0 ? [] : [tcpLog(loggers, peers)];
    },
    async flush(deadlineMs) {
      sinks.flushSync();
      await tracers.flush(deadlineMs);
    },
  };
}

const httpLog = (loggers: readonly Logger[], peers: Peers, chain: string): ExchangeObserver => ({
  onEnd(exchange, end) {
    logTo(loggers, { exchange, response: exchange.response, end, peers, chain, isHttp: true });
  },
});

const tcpLog = (loggers: readonly Logger[], peers: Peers): TcpObserver => ({
  onEnd(facts, durationMs) {
    logTo(loggers, tcpSubject(facts, durationMs, peers));
  },
});
