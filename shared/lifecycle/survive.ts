import type { EventEmitter } from "node:events";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";

/** More mistakes than this within a minute are no accident of one connection: better start anew. */
const mistakesPerMinute = 100;

/**
 * Keeps a proxy of thousands of connections alive when the code of one of them throws where nobody catches: it is
 * logged with its stack, and that one connection is lost. Past a bound the process ends with status 1.
 */
export function surviveMistakes(
  process: Pick<EventEmitter, "on"> & { exit(code: number): void },
  log: Logger,
  now: () => number,
): void {
  let minute = 0;
  let mistakes = 0;
  const onMistake = (thrown: unknown) => {
    const current = Math.floor(now() / 60_000);
    mistakes = current === minute ? mistakes + 1 : 1;
    minute = current;
    log.error({ error: explain(thrown), stack: thrown instanceof Error ? thrown.stack : undefined }, "uncaught error");
    if (mistakes > mistakesPerMinute) process.exit(1);
  };
  process.on("uncaughtException", onMistake);
  process.on("unhandledRejection", onMistake);
}
