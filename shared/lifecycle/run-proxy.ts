/** What the processes of proxies have in common, from the first setting to the exit status. */
import { systemClock } from "#shared/clock/clock.ts";
import { readIfThere } from "#shared/config/read-if-there.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { Logging, openStdoutSink } from "#shared/observe/logging.ts";
import { awaitShutdown, type Shutdown } from "./shutdown.ts";
import { surviveMistakes } from "./survive.ts";

interface LogSettings {
  readonly logFormat: ConstructorParameters<typeof Logging>[0];
  readonly logFilter: ConstructorParameters<typeof Logging>[1];
}

export interface ProxyRun<Config extends LogSettings> {
  /** @throws where settings are wrong, with every reason */
  readonly readConfig: (readFile: typeof readIfThere) => Config | Promise<Config>;
  /** Runs until the shutdown; resolves with the exit status. */
  readonly serve: (config: Config, logging: Logging, shutdown: Shutdown) => Promise<number>;
}

/** Runs until told to stop; the exit status. What is wrong with the settings goes to stderr: there is no log yet. */
export async function runProxy<Config extends LogSettings>(
  process: NodeJS.Process,
  { readConfig, serve }: ProxyRun<Config>,
): Promise<number> {
  let config: Config;
  try {
    config = await readConfig(readIfThere);
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    return 1;
  }
  const sink = openStdoutSink();
  const logging = new Logging(config.logFormat, config.logFilter, sink);
  const log = logging.scope("app");
  surviveMistakes(process, log, () => systemClock.now());
  using shutdown = awaitShutdown(process);
  try {
    return await serve(config, logging, shutdown);
  } catch (error) {
    log.error({ error: explain(error) }, "cannot start");
    return 1;
  } finally {
    sink.flushSync();
  }
}
