/** New paths from the variables of the route's path template. */
import type { PathTemplate } from "#waypoint/matching/path-template.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";

/** `/v2/{id}/{version}`: fills variables of a template into another path. */
export function compileTemplateRewrite(
  rewrite: string,
  template: PathTemplate,
  path: string,
  problem: Problem,
): ((text: string) => string | undefined) | undefined {
  const parts = rewrite.split(/\{([^{}]*)\}/);
  const unknown = parts.filter((part, index) => index % 2 === 1 && !template.variables.includes(part));
  if (!rewrite.startsWith("/") || unknown.length > 0) {
    problem(
      path,
      unknown.length > 0
        ? `"${unknown.join(", ")}" is no variable of the route's path template`
        : `"${rewrite}" does not begin with /`,
    );
    return undefined;
  }
  return (text) => {
    const values = template.match(text);
    return values && parts.map((part, index) => (index % 2 === 1 ? (values.get(part) ?? "") : part)).join("");
  };
}
