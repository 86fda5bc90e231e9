import process from "node:process";
import { pino, type Logger as PinoLogger } from "pino";

export type Logger = PinoLogger;

/** Levels that a user may name. */
export const logLevels = ["trace", "debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof logLevels)[number];

/**
 * JSON lines on standard output: `level`, `time` (RFC 3339), `scope`, then the fields, then `message`.
 * A line is a constant sentence plus fields; keys and tokens are never logged.
 */
export function openLogger(scope: string, level: LogLevel = "info"): Logger {
  return pino(
    {
      level,
      base: { scope },
      messageKey: "message",
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: ["token", "key", "privateKey", "*.token", "*.privateKey"],
        censor: "[redacted]",
      },
    },
    pino.destination({ dest: process.stdout.fd, sync: false, minLength: 0 }),
  );
}

/** For code under test that must log somewhere. */
export const silentLogger: Logger = pino({ level: "silent" });
