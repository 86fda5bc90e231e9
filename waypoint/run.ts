/** The process of a waypoint: configuration, start, wait, drain, stop. */
import { flushCompileCache } from "node:module";
import { systemClock } from "#shared/clock/clock.ts";
import { collectAll } from "#shared/lifecycle/garbage.ts";
import { releaseProgramPages } from "#shared/lifecycle/program-pages.ts";
import { returnMemory } from "#shared/lifecycle/return-memory.ts";
import { runProxy } from "#shared/lifecycle/run-proxy.ts";
import type { Shutdown } from "#shared/lifecycle/shutdown.ts";
import type { Logging } from "#shared/observe/logging.ts";
import { trimMemory } from "#shared/sockets/libc.ts";
import { readConfig, type WaypointConfig } from "./config.ts";
import { describeVersion } from "./version.ts";
import { startWaypoint } from "./waypoint.ts";

/** Runs until told to stop; the exit status. */
export const run = (process: NodeJS.Process): Promise<number> =>
  runProxy(process, {
    readConfig: (readFile) => readConfig({ env: process.env, args: process.argv.slice(3), readFile }),
    serve,
  });

async function serve(config: WaypointConfig, logging: Logging, shutdown: Shutdown): Promise<number> {
  const log = logging.scope("app");
  const clock = systemClock;
  using _memory = returnMemory({ clock, trim: trimMemory, collect: collectAll, release: releaseProgramPages });
  log.info({ config: withoutSecrets(config), ...describeVersion(config.istioVersion) }, "starting");
  await using waypoint = await startWaypoint(config, {
    clock,
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
}

function withoutSecrets({ authToken, xds, ca, ...rest }: WaypointConfig) {
  return {
    ...rest,
    xdsAddress: xds.address,
    caAddress: ca?.address ?? "none",
    authToken: authToken === undefined ? "default file" : "[given]",
  };
}
