import { quote, type FieldPath, type Problem } from "./problem.ts";

/**
 * A place in an object, to walk it whatever its form: what is missing or of another type reads as absent, because the
 * schema reports that already. So the checks that no schema can carry run on broken objects too, and a user sees all
 * mistakes at once. `null` counts as absent, as in Kubernetes.
 */
export class Field {
  readonly value: unknown;
  readonly path: FieldPath;
  readonly #problems: Problem[];

  constructor(value: unknown, path: FieldPath, problems: Problem[]) {
    this.value = value ?? undefined;
    this.path = path;
    this.#problems = problems;
  }

  get isSet(): boolean {
    return this.value !== undefined;
  }

  /** Present, but with nothing in it. */
  get isEmpty(): boolean {
    if (Array.isArray(this.value)) return this.value.length === 0;
    return typeof this.value === "object" && this.value !== null && Object.keys(this.value).length === 0;
  }

  get text(): string | undefined {
    return typeof this.value === "string" ? this.value : undefined;
  }

  get number(): number | undefined {
    return typeof this.value === "number" ? this.value : undefined;
  }

  at(key: string): Field {
    const own = this.record;
    return new Field(Object.hasOwn(own, key) ? own[key] : undefined, [...this.path, key], this.#problems);
  }

  has(key: string): boolean {
    return this.at(key).isSet;
  }

  items(): readonly Field[] {
    if (!Array.isArray(this.value)) return [];
    return this.value.map((item: unknown, index) => new Field(item, [...this.path, index], this.#problems));
  }

  entries(): readonly (readonly [string, Field])[] {
    return Object.keys(this.record).map((key) => [key, this.at(key)]);
  }

  keys(): readonly string[] {
    return Object.keys(this.record);
  }

  /** Those of `keys` that are written here. */
  written<const K extends string>(keys: readonly K[]): readonly K[] {
    return keys.filter((key) => this.has(key));
  }

  error(message: string, remedy: string): void {
    this.#problems.push({ severity: "error", path: this.path, message, remedy });
  }

  warn(message: string, remedy: string): void {
    this.#problems.push({ severity: "warning", path: this.path, message, remedy });
  }

  /** Reports where more than one of `keys` is written. */
  atMostOne(keys: readonly string[]): void {
    const [first, ...others] = this.written(keys);
    if (first === undefined) return;
    for (const other of others) this.at(other).error(`excludes "${first}", which is written too`, "keep one of them");
  }

  /** The value as written, for a message. */
  get quoted(): string {
    return quote(this.value);
  }

  private get record(): Readonly<Record<string, unknown>> {
    const { value } = this;
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Readonly<Record<string, unknown>>)
      : {};
  }
}
