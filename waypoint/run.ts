/** The process of a waypoint: configuration, start, wait, drain, stop. */
import { readFileSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { systemClock } from "#shared/clock/clock.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import { collectAll } from "#shared/lifecycle/garbage.ts";
import { releaseProgramPages } from "#shared/lifecycle/program-pages.ts";
import { returnMemory } from "#shared/lifecycle/return-memory.ts";
import { awaitShutdown } from "#shared/lifecycle/shutdown.ts";
import { surviveMistakes } from "#shared/lifecycle/survive.ts";
import { Logging, openStdoutSink } from "#shared/observe/logging.ts";
import { trimMemory } from "#shared/sockets/libc.ts";
import { readConfig, type WaypointConfig } from "./config.ts";
import { describeVersion } from "./version.ts";
import { startWaypoint } from "./waypoint.ts";

/** Runs until told to stop; the exit status. */
export async function run(process: NodeJS.Process): Promise<number> {
  let config: WaypointConfig;
  try {
    config = readConfig({ env: process.env, args: process.argv.slice(3), readFile: readIfThere });
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    return 1;
  }
  const sink = openStdoutSink();
  const logging = new Logging(config.logFormat, config.logFilter, sink);
  const log = logging.scope("app");
  surviveMistakes(process, log, () => systemClock.now());
  using shutdown = awaitShutdown(process);
  using _memory = returnMemory({
    clock: systemClock,
    trim: trimMemory,
    collect: collectAll,
    release: releaseProgramPages,
  });
  try {
    log.info({ config: withoutSecrets(config), ...describeVersion(config.istioVersion) }, "starting");
    await using waypoint = await startWaypoint(config, {
      clock: systemClock,
      logging,
      quit: () => shutdown.request("POST /quitquitquit"),
    });
    const why = await Promise.race([waypoint.ready.then(() => undefined), shutdown.asked]);
    if (why === undefined) {
      log.info({ ports: waypoint.ports }, "serving");
      // Everything is loaded now: the next start finds it compiled, even if this process is killed.
      flushCompileCache();
    }
    const reason = why ?? (await shutdown.asked);
    log.info({ why: reason, deadlineMs: config.drainMs, connections: waypoint.connections }, "draining");
    await waypoint.drain();
    log.info("stopped");
    return 0;
  } catch (error) {
    log.error({ error: explain(error) }, "cannot start");
    return 1;
  } finally {
    sink.flushSync();
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new MeshError("CONFIG_INVALID", `Cannot read "${path}"`, error);
  }
}

function withoutSecrets({ authToken, xds, ca, ...rest }: WaypointConfig) {
  return {
    ...rest,
    xdsAddress: xds.address,
    caAddress: ca?.address ?? "none",
    authToken: authToken === undefined ? "default file" : "[given]",
  };
}
