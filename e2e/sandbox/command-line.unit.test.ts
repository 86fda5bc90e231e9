import { expect, test } from "@jest/globals";
import { splitCommand } from "./command-line.ts";

const exists = (path: string) => path === "/here/dist/agent.js";

// prettier-ignore
test.each([ // text                         words                                    why
  ["ztunnel",                               ["ztunnel"],                             "from PATH"],
  ["/opt/ztunnel proxy",                    ["/opt/ztunnel", "proxy"],               "absolute"],
  ["./ztunnel",                             ["/here/ztunnel"],                       "from here"],
  ["bin/ztunnel -v",                        ["/here/bin/ztunnel", "-v"],             "a program's path"],
  ["node dist/agent.js a/b",                ["node", "/here/dist/agent.js", "a/b"],  "a file that is there, and a word that is none"],
  [`sh -c 'echo "a b"' "" x\\ y "q\\"q"`,   ["sh", "-c", 'echo "a b"', "", "x y", 'q"q'], "quotes"],
])("splitCommand(%j) is %j: %s", (text, words) => {
  expect(splitCommand(text, "/here", exists)).toEqual(words);
});

test.each([
  ["", "empty"],
  ["  ", "empty"],
  ["sh -c 'open", "not closed"],
])("splitCommand(%j) refuses: %s", (text, why) => {
  expect(() => splitCommand(text, "/here", exists)).toThrow(why);
});
