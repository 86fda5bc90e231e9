/** Forms of single values in policies. Each function says what is wrong, or nothing. */

/** A trust domain: at most one star, first or last. */
export function identityPatternProblem(text: string): string | undefined {
  if (text.includes("/")) return "holds a slash";
  const stars = text.split("*").length - 1;
  if (stars > 1) return "has more than one wildcard";
  if (stars === 1 && !text.startsWith("*") && !text.endsWith("*")) return 'has "*" in the middle';
  return undefined;
}

const literalSegment = /^[a-zA-Z0-9\-._~%!$&'()+,;:@=]*$/;

/** `{*}` stands for one segment, `{**}` for any number of them; behind it there may be letters, but no other such sign. */
export function pathTemplateProblem(text: string): string | undefined {
  if (!text.startsWith("/")) return "does not begin with a slash";
  const segments = text.slice(1).split("/");
  let isOpen = false;
  for (const [index, segment] of segments.entries()) {
    const isSign = segment === "{*}" || segment === "{**}";
    if (isSign && isOpen) return `has "${segment}" behind "{**}"`;
    isOpen ||= segment === "{**}";
    if (segment === "" && index < segments.length - 1) return "has an empty segment";
    if (!isSign && !literalSegment.test(segment)) return `has the segment "${segment}"`;
  }
  return undefined;
}
