import { existsSync } from "node:fs";
import { resolve } from "node:path";

/**
 * Splits a command as a shell would, with quotes and backslashes but nothing else. Words that name a file from here
 * (`./agent`, `bin/agent`, `node dist/agent.js`) become absolute, because containers start in another folder.
 *
 * @throws Error on an open quote or an empty command
 */
export function splitCommand(text: string, folder: string, exists: (path: string) => boolean = existsSync): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let at = 0; at < text.length; at++) {
    const letter = text[at] ?? "";
    if (quote !== "") {
      if (letter === quote) quote = "";
      else if (letter === "\\" && quote === '"') word = `${word ?? ""}${text[++at] ?? ""}`;
      else word = `${word ?? ""}${letter}`;
    } else if (letter === "'" || letter === '"') {
      quote = letter;
      word ??= "";
    } else if (letter === "\\") word = `${word ?? ""}${text[++at] ?? ""}`;
    else if (/\s/u.test(letter)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = `${word ?? ""}${letter}`;
  }
  if (quote !== "") throw new Error(`Cannot read the command ${JSON.stringify(text)}: a ${quote} is not closed`);
  if (word !== undefined) words.push(word);
  if (words.length === 0) throw new Error("Cannot run an empty command");
  const isFromHere = (one: string, index: number) =>
    /^\.\.?\//u.test(one) ||
    (one.includes("/") && !one.startsWith("/") && (index === 0 || exists(resolve(folder, one))));
  return words.map((one, index) => (isFromHere(one, index) ? resolve(folder, one) : one));
}
