/** Tells a story in steps: what happens, what was seen, how long it took. Colours only on a terminal. */
import process from "node:process";

const coloured = process.stdout.isTTY && process.env["NO_COLOR"] === undefined;
const paint = (code: string) => (text: string) => (coloured ? `\u001b[${code}m${text}\u001b[0m` : text);

export const bold = paint("1");
export const dim = paint("2");
export const green = paint("32");
export const red = paint("31");

export class Storyteller {
  readonly #beganMs = performance.now();
  #chapter = 0;

  chapter(title: string): void {
    console.log(`\n${bold(`${++this.#chapter}. ${title}`)}  ${dim(this.#sinceStart())}`);
  }

  /** A command that the reader could type. */
  command(text: string): void {
    console.log(`   ${dim("$")} ${text}`);
  }

  say(text: string): void {
    console.log(`   ${text}`);
  }

  /** What was expected and seen. */
  proof(text: string): void {
    console.log(`   ${green("✓")} ${text}`);
  }

  failure(text: string): void {
    console.log(`   ${red("✗")} ${text}`);
  }

  #sinceStart(): string {
    return `${((performance.now() - this.#beganMs) / 1_000).toFixed(1)} s`;
  }
}
