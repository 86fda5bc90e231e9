/** Adding, setting and removing of headers, as routes, virtual hosts and route configurations ask for it. */
import { HeaderValueOption_HeaderAppendAction as Action } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import type { HeaderValueOption } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { Headers } from "#waypoint/http/headers.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { compileFormat, type CompiledFormat } from "./format.ts";

export type HeaderEdit = (headers: Headers, exchange: Exchange, response: ResponseHead | undefined) => void;

interface Addition {
  readonly name: string;
  readonly value: CompiledFormat;
  readonly action: Action;
  readonly keepsEmpty: boolean;
}

const nameForm = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
/** Fields that carry a message's framing: an edit of them could split or hide messages. */
const framing = new Set([
  "content-length",
  "transfer-encoding",
  "connection",
  "upgrade",
  "te",
  "trailer",
  "keep-alive",
]);

/** As headers are kept: one character for each byte. */
const unfit = /[^\t\u0020-\u007e\u0080-\u00ff]/;

/** Whether somebody else's word may become a header as it is: it ends no line, and says nothing of a message's form. */
export const isWritableHeader = (name: string, value: string): boolean =>
  nameForm.test(name) && name !== "host" && !framing.has(name) && !unfit.test(value);

/** Undefined where there is nothing to do. */
export function compileHeaderEdit(
  additions: readonly HeaderValueOption[],
  removals: readonly string[],
  { add, remove }: { readonly add: string; readonly remove: string },
  problem: Problem,
): HeaderEdit | undefined {
  const removed = removals.map((name, index) => {
    checkName(name.toLowerCase(), `${remove}[${index}]`, problem);
    return name.toLowerCase();
  });
  const added = additions.map((option, index) => compileAddition(option, `${add}[${index}]`, problem));
  if (removed.length === 0 && added.length === 0) return undefined;
  return (headers, exchange, response) => {
    for (const name of removed) headers.delete(name);
    if (added.length > 0) apply(added, headers, exchange, response);
  };
}

function compileAddition(option: HeaderValueOption, path: string, problem: Problem): Addition {
  const name = option.header?.key.toLowerCase() ?? "";
  checkName(name, `${path}.header.key`, problem);
  if (framing.has(name)) problem(`${path}.header.key`, `"${name}" belongs to the connection and may not be set`);
  const text =
    option.header !== undefined && option.header.value === "" && option.header.rawValue.length > 0
      ? Buffer.from(option.header.rawValue).toString("utf8")
      : (option.header?.value ?? "");
  if (/[\r\n\0]/.test(text)) problem(`${path}.header.value`, "has a line break or a zero byte");
  // The older field wins where it is set, as it does in Envoy.
  const action =
    option.append === undefined
      ? option.appendAction
      : option.append
        ? Action.APPEND_IF_EXISTS_OR_ADD
        : Action.OVERWRITE_IF_EXISTS_OR_ADD;
  if (Action[action] === undefined) problem(`${path}.append_action`, `${action} is unknown`);
  return {
    name,
    value: compileFormat(text, `${path}.header.value`, problem),
    action,
    keepsEmpty: option.keepEmptyValue,
  };
}

function checkName(name: string, path: string, problem: Problem): void {
  if (name.startsWith(":") || name === "host")
    problem(path, `"${name}" may not be changed here; use a host or path rewrite`);
  else if (!nameForm.test(name)) problem(path, `"${name}" is no header name`);
}

/** Values see the headers before any of this level's additions; then what overwrites, then what adds. */
function apply(
  additions: readonly Addition[],
  headers: Headers,
  exchange: Exchange,
  response: ResponseHead | undefined,
): void {
  const subject = { exchange, response, end: undefined };
  if (additions.length === 1) {
    const [only] = additions as [Addition];
    put(only, evaluate(only, subject), headers, headers.has(only.name));
    return;
  }
  const values = additions.map((addition) => evaluate(addition, subject));
  const existed = additions.map(({ name }) => headers.has(name));
  for (const [index, addition] of additions.entries())
    if (overwrites(addition.action)) put(addition, values[index], headers, existed[index] === true);
  for (const [index, addition] of additions.entries())
    if (!overwrites(addition.action)) put(addition, values[index], headers, existed[index] === true);
}

const overwrites = (action: Action): boolean =>
  action === Action.OVERWRITE_IF_EXISTS_OR_ADD || action === Action.OVERWRITE_IF_EXISTS;

/** Undefined where it yields nothing and an empty value is not wanted. */
function evaluate(
  { value, keepsEmpty }: Addition,
  subject: Parameters<CompiledFormat["format"]>[0],
): string | undefined {
  const text = value.literal ?? clean(value.format(subject, ""));
  return text === "" && !keepsEmpty ? undefined : text;
}

/** What comes from requests or tokens must not end a line. */
const clean = (text: string): string => (/[\r\n\0]/.test(text) ? text.replace(/[\r\n\0]/g, " ") : text);

function put({ name, action }: Addition, value: string | undefined, headers: Headers, existed: boolean): void {
  if (value === undefined) return;
  switch (action) {
    case Action.APPEND_IF_EXISTS_OR_ADD:
      headers.append(name, value);
      return;
    case Action.ADD_IF_ABSENT:
      if (!existed) headers.append(name, value);
      return;
    case Action.OVERWRITE_IF_EXISTS:
      if (existed) headers.set(name, value);
      return;
    case Action.OVERWRITE_IF_EXISTS_OR_ADD:
      headers.set(name, value);
  }
}
