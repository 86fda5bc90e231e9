/** Names and values of HTTP headers in configuration. */
import type { Field } from "./field.ts";
import { substitutionProblem } from "./substitutions.ts";

/** What a name may be made of, in HTTP. */
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const pseudo = [":method", ":scheme", ":authority", ":path", ":status"];
const claims = "@request.auth.claims";
/** They carry the form of a message: who could write them could split or hide messages. */
const framing = new Set([
  "connection",
  "content-length",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

const isFraming = (name: string): boolean => framing.has(name.toLowerCase());

const isClaim = (name: string): boolean => name.toLowerCase().startsWith(claims);

/** A header that is compared: `at` is where it is said, `name` its name. */
export function checkMatchedName(at: Field, name: string): void {
  if (name === "") at.error("has no name", "write the name");
  else if (isClaim(name)) checkClaim(at, name);
  else if (name.startsWith(":") && !pseudo.includes(name)) {
    at.error(`there is no header "${name}"`, `write one of ${pseudo.join(", ")}`);
  } else if (!name.startsWith(":")) checkFieldName(at, name);
}

/** A header itself, not a part of the first line or a claim. */
export function checkFieldName(at: Field, name: string): void {
  if (name === "") at.error("has no name", "write the name");
  else if (!token.test(name)) at.error(`"${name}" is no name of a header`, "use letters, digits and dashes");
}

function checkClaim(at: Field, name: string): void {
  const rest = name.slice(claims.length);
  if (/^(\.[^.[\]]+)+$/.test(rest) || /^(\[[^\][]+\])+$/.test(rest)) return;
  at.error(`"${name}" names no claim`, `write ${claims}.group, or ${claims}[name.with.dots][inner]`);
}

/** `side`: the host of a request can be changed, but not taken away, and a response has none. */
export function checkHeaderOperations(operations: Field, side: "request" | "response"): void {
  for (const kind of ["set", "add"]) {
    for (const [name, value] of operations.at(kind).entries()) {
      const isHost = side === "request" && (name.toLowerCase() === "host" || name === ":authority");
      if (isHost) checkHostValue(value);
      else checkWrittenName(value, name);
      checkHeaderValue(value);
    }
  }
  for (const item of operations.at("remove").items()) if (item.text !== undefined) checkChangedName(item, item.text);
}

export function checkChangedName(at: Field, name: string): void {
  if (name.startsWith(":") || name.toLowerCase() === "host") {
    at.error(
      `"${name}" cannot be changed so`,
      "the host of a request can be set; the rest of the first line is no header",
    );
  } else checkFieldName(at, name);
}

/** A header that is set or added; taking one away that the proxy writes itself does no harm. */
export function checkWrittenName(at: Field, name: string): void {
  if (isFraming(name)) at.error(`"${name}" belongs to the connection`, "leave it out: proxies write it themselves");
  else checkChangedName(at, name);
}

export function checkHostValue(value: Field): void {
  if (value.text !== undefined && /\s/.test(value.text))
    value.error(`${value.quoted} is no host`, "write it without blanks");
}

export function checkHeaderValue(value: Field): void {
  const { text } = value;
  if (text === undefined) return;
  // oxlint-disable-next-line no-control-regex -- the tab is the only one that a value may have
  const control = /[\u0000-\u0008\u000a-\u001f\u007f]/.exec(text);
  if (control !== null) {
    value.error(`${value.quoted} has a control character at ${control.index}`, "leave it out");
    return;
  }
  const problem = substitutionProblem(text);
  if (problem !== undefined) value.error(`${value.quoted} ${problem.message}`, problem.remedy);
}
