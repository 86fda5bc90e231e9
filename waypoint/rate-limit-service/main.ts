/**
 * A rate limit service, for limits that several waypoints count together. It counts in memory, or in Redis or Valkey
 * where several replicas of it count together.
 */
import process from "node:process";
import { systemClock } from "#shared/clock/clock.ts";
import { EnvReader } from "#shared/config/env-reader.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { assertNodeVersion } from "#shared/lifecycle/node-version.ts";
import { Readiness } from "#shared/lifecycle/readiness.ts";
import { awaitShutdown } from "#shared/lifecycle/shutdown.ts";
import { surviveMistakes } from "#shared/lifecycle/survive.ts";
import { metricsRoutes } from "#shared/observe/http-servers/metrics-routes.ts";
import { openHttpServer } from "#shared/observe/http-servers/open-server.ts";
import { readinessRoutes } from "#shared/observe/http-servers/readiness-routes.ts";
import { Logging, openStdoutSink, parseFilter } from "#shared/observe/logging.ts";
import { MetricsRegistry } from "#shared/observe/metrics.ts";
import { MemoryCounters, RedisCounters } from "./counters.ts";
import { LimitFolder } from "./limit-folder.ts";
import { Limits } from "./limits.ts";
import { serveRateLimits } from "./serve.ts";

const usage = `Usage: rate-limit-service [help]

Answers envoy.service.ratelimit.v3.RateLimitService. Settings come from the environment:
  PORT                8081   gRPC
  HTTP_PORT           8080   /healthz/ready, /metrics
  REDIS_URL                  such as redis://redis:6379; counts in memory if empty, which is right for one replica only
  RATE_LIMIT_CONFIG          folder of YAML files with limits, read again when they change; those
                             of a RateLimitPolicy need none
  LOG_LEVEL           info
`;

interface Config {
  readonly port: number;
  readonly httpPort: number;
  readonly redisUrl: string;
  readonly folder: string;
  readonly level: string;
}

/** @throws MeshError CONFIG_INVALID naming every variable that is wrong */
function readConfig(env: NodeJS.ProcessEnv): Config {
  const read = new EnvReader(env);
  const config = {
    port: read.port("PORT", 8081),
    httpPort: read.port("HTTP_PORT", 8080),
    redisUrl: read.text("REDIS_URL", ""),
    folder: read.text("RATE_LIMIT_CONFIG", ""),
    level: read.text("LOG_LEVEL", "info"),
  };
  if (parseFilter(config.level) === undefined) read.reject("LOG_LEVEL", config.level, 'write a level such as "info"');
  read.finish();
  return config;
}

async function serve(config: Config): Promise<void> {
  const sink = openStdoutSink();
  const logging = new Logging("plain", parseFilter(config.level) ?? { fallback: "info", scopes: new Map() }, sink);
  const log = logging.scope("rate-limit-service");
  surviveMistakes(process, log, Date.now);
  using shutdown = awaitShutdown(process);
  const registry = new MetricsRegistry();
  const answers = registry.counter({
    name: "ambit_rate_limit_service_answers",
    help: "Questions of waypoints, by what was answered",
    labels: ["result"],
  });
  const series = {
    ok: answers.series("ok"),
    over_limit: answers.series("over_limit"),
    error: answers.series("error"),
  };
  const readiness = new Readiness();
  const starting = readiness.block("the listener");
  try {
    await using stack = new AsyncDisposableStack();
    const folder =
      config.folder === "" ? undefined : stack.use(await LimitFolder.open(config.folder, systemClock, log));
    const none = new Limits();
    stack.use(
      await openHttpServer(
        { host: "::", port: config.httpPort },
        { ...readinessRoutes(readiness), ...metricsRoutes(registry) },
      ),
    );
    const counters = stack.use(
      config.redisUrl === "" ? new MemoryCounters() : RedisCounters.open(config.redisUrl, logging.scope("redis")),
    );
    const service = stack.use(
      await serveRateLimits({
        host: "[::]",
        port: config.port,
        counters,
        limits: () => folder?.limits ?? none,
        log,
        onAnswer: (outcome) => void series[outcome].value++,
      }),
    );
    starting[Symbol.dispose]();
    log.info({ port: service.port, counts: config.redisUrl === "" ? "in memory" : "in Redis" }, "serves");
    log.info({ why: await shutdown.asked }, "stops");
  } finally {
    sink.flushSync();
  }
}

assertNodeVersion(process.version);
if (process.argv[2] === "help" || process.argv[2] === "--help") process.stdout.write(usage);
else {
  try {
    await serve(readConfig(process.env));
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    process.exitCode = 1;
  }
}
process.exit();
