import { isObject } from "./schema.ts";

/** Steps of a simple JSON path, the form that printer columns and scale paths use. */
type Step =
  | { readonly kind: "field"; readonly name: string }
  | { readonly kind: "index"; readonly at: number }
  | { readonly kind: "all" }
  | { readonly kind: "filter"; readonly path: readonly string[]; readonly equal: boolean; readonly value: unknown };

const compiled = new Map<string, readonly Step[]>();

/** The values at `.spec.ports[*].port`, `.status.conditions[?(@.type=="Ready")].status`, `.metadata.labels.a\.b`. */
export function readJsonPath(object: unknown, path: string): readonly unknown[] {
  let steps = compiled.get(path);
  if (steps === undefined) {
    steps = compile(path);
    if (compiled.size >= 1024) compiled.clear();
    compiled.set(path, steps);
  }
  let values: unknown[] = [object];
  for (const step of steps) values = values.flatMap((value) => follow(value, step));
  return values;
}

const token =
  /\.((?:\\.|[^.[\]\\])+)|\[(\*)\]|\[(-?\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]|\[\?\(\s*@((?:\.[\w-]+)+)\s*(==|!=)\s*(.+?)\s*\)\]/uy;

function compile(path: string): readonly Step[] {
  const text = path.startsWith(".") || path.startsWith("[") ? path : `.${path}`;
  const steps: Step[] = [];
  token.lastIndex = 0;
  for (let at = 0; at < text.length; at = token.lastIndex) {
    const found = token.exec(text);
    if (found === null) return [{ kind: "field", name: text }]; // a form we do not read: it matches nothing
    const [, name, all, index, single, double, filter, operator, literal] = found;
    if (name !== undefined)
      steps.push(name === "*" ? { kind: "all" } : { kind: "field", name: name.replaceAll(/\\(.)/gu, "$1") });
    else if (all !== undefined) steps.push({ kind: "all" });
    else if (index !== undefined) steps.push({ kind: "index", at: Number(index) });
    else if (filter !== undefined) {
      steps.push({
        kind: "filter",
        path: filter.slice(1).split("."),
        equal: operator === "==",
        value: readLiteral(literal ?? ""),
      });
    } else steps.push({ kind: "field", name: (single ?? double ?? "").replaceAll(/\\(.)/gu, "$1") });
  }
  return steps;
}

function readLiteral(text: string): unknown {
  if (/^'.*'$/su.test(text)) return text.slice(1, -1);
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function follow(value: unknown, step: Step): unknown[] {
  switch (step.kind) {
    case "field":
      return isObject(value) && Object.hasOwn(value, step.name) ? [value[step.name]] : [];
    case "all":
      return Array.isArray(value) ? value : isObject(value) ? Object.values(value) : [];
    case "index": {
      const item: unknown = Array.isArray(value) ? value.at(step.at) : undefined;
      return item === undefined ? [] : [item];
    }
    case "filter":
      return Array.isArray(value) ? value.filter((item) => matches(item, step)) : [];
  }
}

function matches(item: unknown, { path, equal, value }: Extract<Step, { kind: "filter" }>): boolean {
  let found = item;
  for (const name of path) found = isObject(found) ? found[name] : undefined;
  return found !== undefined && (found === value) === equal;
}
