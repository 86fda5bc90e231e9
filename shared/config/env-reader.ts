import { MeshError } from "#shared/errors/mesh-error.ts";

/**
 * Reads settings from environment variables and collects every mistake, so that an operator mends all at once.
 * An absent or empty variable means its default. Call {@link finish} after the last one.
 */
export class EnvReader {
  readonly #env: Readonly<Record<string, string | undefined>>;
  readonly #mistakes: string[] = [];

  constructor(env: Readonly<Record<string, string | undefined>>) {
    this.#env = env;
  }

  text(name: string, fallback: string): string {
    return this.optionalText(name) ?? fallback;
  }

  optionalText(name: string): string | undefined {
    const value = this.#env[name];
    return value === undefined || value === "" ? undefined : value;
  }

  /** Exactly `true` or `false`, as ztunnel reads them. */
  boolean(name: string, fallback: boolean): boolean {
    const value = this.optionalText(name);
    if (value === undefined) return fallback;
    if (value === "true") return true;
    if (value === "false") return false;
    return this.#mistake(name, value, 'write "true" or "false"', fallback);
  }

  integer(name: string, fallback: number, { min = 0, max = Number.MAX_SAFE_INTEGER } = {}): number {
    const value = this.optionalText(name);
    if (value === undefined) return fallback;
    const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
    if (number >= min && number <= max) return number;
    return this.#mistake(name, value, `write a whole number from ${min} to ${max}`, fallback);
  }

  /** 0 lets the system choose. */
  port(name: string, fallback: number): number {
    return this.integer(name, fallback, { min: 0, max: 65_535 });
  }

  /** A number with a unit, such as `500ms`, `10s`, `5m`, `24h`; units may follow each other. */
  durationMs(name: string, fallback: number): number {
    const value = this.optionalText(name);
    if (value === undefined) return fallback;
    return (
      parseDurationMs(value) ?? this.#mistake(name, value, 'write a duration such as "10s", "5m" or "1h30m"', fallback)
    );
  }

  oneOf<const T extends string>(name: string, choices: readonly T[], fallback: T): T {
    const value = this.optionalText(name);
    if (value === undefined) return fallback;
    const found = choices.find((choice) => choice === value);
    return found ?? this.#mistake(name, value, `write one of ${choices.join(", ")}`, fallback);
  }

  /** Variables whose name starts with `prefix`, with it cut off. */
  prefixed(prefix: string): Record<string, string> {
    return Object.fromEntries(
      Object.entries(this.#env).flatMap(([name, value]) =>
        name.startsWith(prefix) && value !== undefined ? [[name.slice(prefix.length), value]] : [],
      ),
    );
  }

  /** Adds a mistake found by the caller, to be reported with the others. */
  reject(name: string, value: string, remedy: string): void {
    this.#mistakes.push(`${name}="${value}": ${remedy}`);
  }

  /** @throws MeshError CONFIG_INVALID once, naming every variable that is wrong */
  finish(): void {
    if (this.#mistakes.length === 0) return;
    throw new MeshError("CONFIG_INVALID", `Cannot read the environment: ${this.#mistakes.join("; ")}`);
  }

  #mistake<T>(name: string, value: string, remedy: string, fallback: T): T {
    this.reject(name, value, remedy);
    return fallback;
  }
}

const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Milliseconds, or undefined where `text` is not a duration. */
export function parseDurationMs(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h|d))+$/.test(text)) return undefined;
  let totalMs = 0;
  for (const [, amount, , unit] of text.matchAll(/(\d+(\.\d+)?)(ns|us|µs|ms|s|m|h|d)/g)) {
    totalMs += Number(amount) * (unitMs[unit ?? ""] ?? 0);
  }
  return totalMs;
}
