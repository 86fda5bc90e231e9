import { describe, expect, test } from "@jest/globals";
import { formatFilter, Logging, parseFilter, timestamp, type LogFormat } from "./logging.ts";

function open(format: LogFormat, filter = "info") {
  const lines: string[] = [];
  const sink = { write: (line: string) => void lines.push(line), flushSync: () => {} };
  const parsed = parseFilter(filter);
  if (parsed === undefined) throw new TypeError(filter);
  return { lines, logging: new Logging(format, parsed, sink) };
}

describe("filters", () => {
  // prettier-ignore
  test.each([
    ["info",                       "info"],
    ["debug,access=off",           "access=off,debug"],
    ["access=debug",               "access=debug,info"],
    ["ztunnel::access=debug,WARN", "access=debug,warn"],
    ["bogus",                      undefined],
    ["access",                     undefined],
    ["access=bogus",               undefined],
    ["a=b=c",                      undefined],
    ["",                           undefined],
  ])("%j reads as %j", (text, expected) => {
    const filter = parseFilter(text);
    expect(filter && formatFilter(filter)).toBe(expected);
  });

  test("change loggers that exist already", () => {
    const { lines, logging } = open("json");
    const log = logging.scope("xds");
    log.debug("quiet");
    logging.setFilter(parseFilter("xds=debug", logging.filter) ?? logging.filter);
    log.debug("loud");
    logging.setFilter(parseFilter("off", logging.initialFilter) ?? logging.filter);
    log.error("silenced");
    expect(lines.map((line) => (JSON.parse(line) as { message: string }).message)).toEqual(["loud"]);
    expect(logging.isEnabled("xds", "error")).toBe(false);
  });
});

test("JSON lines carry level, time, scope, fields and message, and no tokens", () => {
  const { lines, logging } = open("json");
  logging.scope("ca").warn({ attempt: 2, token: "secret" }, "failed");
  const [line = ""] = lines;
  expect(Object.keys(JSON.parse(line) as object)).toEqual(["level", "time", "scope", "attempt", "token", "message"]);
  expect(line).not.toContain("secret");
});

test("plain lines are tab-separated, one per event whatever is in it", () => {
  const { lines, logging } = open("plain");
  logging.scope("ca").warn({ attempt: 2, error: "two\nlines" }, "failed\tbadly");
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\twarn\tca\tfailed badly\tattempt=2 error="two\\nlines"\n$/,
  );
});

test("what others wrote cannot add a line to plain logs, nor speak to the terminal", () => {
  const { lines, logging } = open("plain");
  const hostile = "a\n2027-01-15T08:00:00Z\tinfo\taccess\tforged\r\u001b[2J\u009b1A\u007f\u2028b\u202ec";
  logging.scope("ca").warn({ error: hostile, list: [hostile], [hostile]: 1 }, hostile);
  expect(lines).toHaveLength(1);
  // oxlint-disable-next-line no-control-regex -- none of them may reach a line
  expect(lines[0]?.slice(0, -1)).not.toMatch(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u2028\u202e]/);
  expect(lines[0]?.split("\t")).toHaveLength(5);
});

test("times have microseconds in UTC", () => {
  expect(timestamp(0)).toBe("1970-01-01T00:00:00.000000Z");
  expect(timestamp(1_800_000_000_007)).toBe("2027-01-15T08:00:00.007000Z");
});
