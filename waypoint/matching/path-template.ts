/**
 * Path templates of Envoy (`UriTemplateMatchConfig`): literals, `*` for one segment, `**` for the rest with its slashes,
 * and both with a name (`{id}`, `{path=**}`), whose value policies do not need.
 */
import { compileRegex, type TextTest } from "./regex.ts";

/** What literals consist of: RFC 3986's segments without the star, which wildcards match too. */
const letters = "a-zA-Z0-9\\-._~%!$&'()+,;:@=";
const literal = new RegExp(`^[${letters}/]*$`);
const variable = /^\{([a-zA-Z][a-zA-Z0-9_]{0,15})(?:=([^{}]+))?\}/;
const mostOperators = 5;

/** A literal, `*` or `**`. */
type Part = string;

/** @throws Error with what is wrong in the template */
export function compilePathTemplate(template: string): TextTest {
  const parts = parse(template);
  const operators = parts.filter((part) => part === "*" || part === "**").length;
  if (operators > mostOperators) throw new Error(`it has ${operators} wildcards, limit ${mostOperators}`);
  const rest = parts.indexOf("**");
  if (rest >= 0 && parts.slice(rest + 1).some((part) => part === "*" || part === "**")) {
    throw new Error('"**" must be its last wildcard');
  }
  return bySegment(parts) ?? byRegex(parts);
}

function parse(template: string): readonly Part[] {
  if (!template.startsWith("/")) throw new Error("it does not begin with a slash");
  const parts: Part[] = [];
  const names = new Set<string>();
  const addText = (text: string): void => {
    for (const piece of text.split(/(\*\*|\*)/)) {
      if (piece === "") continue;
      if (piece !== "*" && piece !== "**" && !literal.test(piece)) throw new Error(`"${piece}" is not part of a path`);
      parts.push(piece);
    }
  };
  let rest = template;
  while (rest !== "") {
    const brace = rest.indexOf("{");
    if (brace !== 0) {
      addText(brace < 0 ? rest : rest.slice(0, brace));
      rest = brace < 0 ? "" : rest.slice(brace);
      continue;
    }
    const found = variable.exec(rest);
    if (found === null) throw new Error(`"${rest.slice(0, 20)}" is not a wildcard`);
    const name = found[1] as string;
    if (names.has(name)) throw new Error(`it names "${name}" twice`);
    names.add(name);
    addText(found[2] ?? "*");
    rest = rest.slice(found[0].length);
  }
  return parts;
}

const segmentForm = new RegExp(`^[${letters}*]+$`);
const restForm = new RegExp(`^[${letters}*/]*$`);

/** Whole segments only, the common case: compared one by one, without an engine. */
function bySegment(parts: readonly Part[]): TextTest | undefined {
  const segments = parts.join("").split("/").slice(1);
  const last = segments.length - 1;
  const simple = segments.every(
    (segment, index) => segment === "*" || (segment === "**" && index === last) || !segment.includes("*"),
  );
  if (!simple) return undefined;
  const hasRest = segments[last] === "**";
  const fixed = hasRest ? segments.slice(0, -1) : segments;
  return (path) => {
    if (!path.startsWith("/")) return false;
    let from = 1;
    for (const [index, segment] of fixed.entries()) {
      if (from > path.length) return false;
      const slash = path.indexOf("/", from);
      const isLast = !hasRest && index === fixed.length - 1;
      if (isLast ? slash >= 0 : slash < 0) return false;
      const found = path.slice(from, isLast ? path.length : slash);
      if (segment === "*" ? !segmentForm.test(found) : found !== segment) return false;
      from = isLast ? path.length + 1 : slash + 1;
    }
    return !hasRest || restForm.test(path.slice(from));
  };
}

function byRegex(parts: readonly Part[]): TextTest {
  const source = parts.map((part) => {
    if (part === "*") return `[${letters}*]+`;
    if (part === "**") return `[${letters}*/]*`;
    return part.replace(/[^a-zA-Z0-9/]/g, "\\$&");
  });
  return compileRegex(source.join(""));
}
