/**
 * Reads a plain object field by field and remembers where it is, so that a wrong type is reported with its path.
 * `null` counts as absent, as in Kubernetes.
 */

/** A field has another type than its schema says. */
export class ShapeError extends Error {
  override readonly name = "ShapeError";
  readonly path: string;

  constructor(path: string, expected: string, value: unknown) {
    super(`${path === "" ? "object" : path}: expected ${expected}, found ${describe(value)}`);
    this.path = path;
  }
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  return value === undefined ? "nothing" : JSON.stringify(value).slice(0, 80);
}

type Plain = Readonly<Record<string, unknown>>;

export class Field {
  readonly path: string;
  private readonly value: unknown;

  constructor(value: unknown, path = "") {
    this.value = value ?? undefined;
    this.path = path;
  }

  get isPresent(): boolean {
    return this.value !== undefined;
  }

  get isObject(): boolean {
    return typeof this.value === "object" && !Array.isArray(this.value);
  }

  at(key: string): Field {
    const own = this.record();
    const value = Object.hasOwn(own, key) ? own[key] : undefined;
    return new Field(value, this.path === "" ? key : `${this.path}.${key}`);
  }

  text(absent = ""): string {
    if (this.value === undefined) return absent;
    if (typeof this.value === "string") return this.value;
    throw new ShapeError(this.path, "text", this.value);
  }

  optionalText(): string | undefined {
    return this.value === undefined ? undefined : this.text();
  }

  whole(absent = 0): number {
    if (this.value === undefined) return absent;
    // Istio writes 64-bit numbers as text.
    const value = typeof this.value === "string" && /^-?\d{1,15}$/.test(this.value) ? Number(this.value) : this.value;
    if (typeof value === "number" && Number.isSafeInteger(value)) return value;
    throw new ShapeError(this.path, "a whole number", this.value);
  }

  decimal(): number | undefined {
    if (this.value === undefined) return undefined;
    if (typeof this.value === "number" && Number.isFinite(this.value)) return this.value;
    throw new ShapeError(this.path, "a number", this.value);
  }

  /** 0 where absent. */
  port(): number {
    return this.within(65_535);
  }

  uint32(): number {
    return this.within(0xffff_ffff);
  }

  /** A port number or the name of one, as an `IntOrString` is. */
  portOrName(): number | string | undefined {
    if (this.value === undefined || typeof this.value === "string") return this.value;
    return this.port();
  }

  private within(largest: number): number {
    const value = this.whole();
    if (value >= 0 && value <= largest) return value;
    throw new ShapeError(this.path, `a number from 0 to ${largest}`, this.value);
  }

  flag(): boolean {
    return this.optionalFlag() ?? false;
  }

  optionalFlag(): boolean | undefined {
    if (this.value === undefined || typeof this.value === "boolean") return this.value;
    throw new ShapeError(this.path, "true or false", this.value);
  }

  /** Text, number or boolean. */
  scalar(): string | number | boolean {
    const { value } = this;
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
    throw new ShapeError(this.path, "text", value);
  }

  /** As it is, for what is handed on unread. */
  plain(): unknown {
    return this.value;
  }

  list(): readonly Field[] {
    if (this.value === undefined) return [];
    if (!Array.isArray(this.value)) throw new ShapeError(this.path, "a list", this.value);
    return this.value.map((item: unknown, index) => new Field(item, `${this.path}[${index}]`));
  }

  texts(): readonly string[] {
    return this.list().map((item) => item.text());
  }

  textMap(): ReadonlyMap<string, string> {
    return new Map(this.entries().map(([key, value]) => [key, value.text()]));
  }

  entries(): readonly (readonly [string, Field])[] {
    return Object.entries(this.record()).map(([key, value]) => [key, new Field(value, `${this.path}.${key}`)]);
  }

  private record(): Plain {
    if (this.value === undefined) return {};
    if (typeof this.value !== "object" || Array.isArray(this.value)) {
      throw new ShapeError(this.path, "an object", this.value);
    }
    return this.value as Plain;
  }
}
