/** From the object's root: `["spec", "rules", 0, "from"]`. */
export type FieldPath = readonly (string | number)[];

/**
 * One thing wrong in a configuration object. An error keeps the object from taking force; a warning does not, but its
 * author should know.
 */
export interface Problem {
  readonly severity: "error" | "warning";
  readonly path: FieldPath;
  /** What is wrong, without a full stop. Values are quoted. */
  readonly message: string;
  /** What to write instead. */
  readonly remedy: string;
}

/** `spec.rules[0].from[1].source`, with keys that are no identifiers quoted: `metadata.labels["istio.io/rev"]`. */
export function formatPath(path: FieldPath): string {
  return path
    .map((step, index) => {
      if (typeof step === "number") return `[${step}]`;
      if (!/^[A-Za-z_$][\w$-]*$/.test(step)) return `[${JSON.stringify(step)}]`;
      return index === 0 ? step : `.${step}`;
    })
    .join("");
}

/** `spec.hosts[0]: "*" is not a host: name the service`. */
export function formatProblem({ path, message, remedy }: Problem): string {
  const where = formatPath(path);
  const sentence = remedy === "" ? message : `${message}: ${remedy}`;
  return where === "" ? sentence : `${where}: ${sentence}`;
}

export const hasErrors = (problems: readonly Problem[]): boolean =>
  problems.some(({ severity }) => severity === "error");

/** Values as a user wrote them, shortened: an error line is no place for a whole document. */
export function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= longestQuote ? text : `${text.slice(0, longestQuote)}…`;
}
const longestQuote = 120;
