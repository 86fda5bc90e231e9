/**
 * Envoy's format strings: text with commands such as `%REQ(x-user?:authority):40%`, in header operations and access logs.
 * Parsed once; a command that we do not know is a problem, never a blank. What comes out is bytes, as in field values: whoever
 * writes text makes it of them.
 */
import { toBytes } from "#waypoint/http/latin1.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { commands } from "./format-commands.ts";
import type { FormatSubject, Value } from "./format-subject.ts";

export interface CompiledFormat {
  /** Text without any command. */
  readonly literal: string | undefined;
  /** One command and nothing else. */
  readonly isSingle: boolean;
  /** `missing` stands for what yields nothing: empty in headers, `-` in logs. */
  format(subject: FormatSubject, missing: string): string;
  /** The value itself where the format is one single command (numbers stay numbers in JSON logs), else the text. */
  value(subject: FormatSubject, missing: string): Value;
}

type Part = string | ((subject: FormatSubject) => Value);

const commandForm = /^%([A-Z_0-9]+)(?:\(((?:[^)]|\)(?!%|:\d+%))*)\))?(?::(\d+))?%/;

export function compileFormat(text: string, path: string, problem: Problem): CompiledFormat {
  const parts = parse(text, path, problem);
  const [only] = parts;
  if (parts.length === 0 || (parts.length === 1 && typeof only === "string")) {
    const literal = parts.length === 0 ? "" : (only as string);
    return { literal, isSingle: false, format: () => literal, value: () => literal };
  }
  const format = (subject: FormatSubject, missing: string) => {
    let out = "";
    for (const part of parts) out += typeof part === "string" ? part : asText(part(subject), missing);
    return out;
  };
  const isSingle = parts.length === 1;
  const value =
    isSingle && typeof only === "function"
      ? (subject: FormatSubject, missing: string) => only(subject) ?? missing
      : format;
  return { literal: undefined, isSingle, format, value };
}

const asText = (value: Value, missing: string): string =>
  value === undefined ? missing : typeof value === "object" ? toBytes(JSON.stringify(value)) : String(value);

function parse(text: string, path: string, problem: Problem): Part[] {
  const parts: Part[] = [];
  let literal = "";
  let index = 0;
  const flush = () => {
    if (literal !== "") parts.push(toBytes(literal));
    literal = "";
  };
  while (index < text.length) {
    const percent = text.indexOf("%", index);
    if (percent < 0) {
      literal += text.slice(index);
      break;
    }
    literal += text.slice(index, percent);
    if (text[percent + 1] === "%") {
      literal += "%";
      index = percent + 2;
      continue;
    }
    const match = commandForm.exec(text.slice(percent));
    if (match === null) {
      problem(path, `"${text}" has a "%" that begins no command; write "%%" for a percent sign`);
      return [];
    }
    const [whole, name = "", argument, length] = match;
    const make = Object.hasOwn(commands, name) ? commands[name] : undefined;
    if (make === undefined) {
      problem(path, `command "%${name}%" is not known`);
      return [];
    }
    const command = make(argument, (message) => problem(path, `%${name}%: ${message}`));
    flush();
    parts.push(length === undefined ? command : cut(command, Number(length)));
    index = percent + whole.length;
  }
  flush();
  return parts;
}

const cut = (command: (subject: FormatSubject) => Value, length: number) => (subject: FormatSubject) => {
  const value = command(subject);
  return value === undefined ? undefined : asText(value, "").slice(0, length);
};
