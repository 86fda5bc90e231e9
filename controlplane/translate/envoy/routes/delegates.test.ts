import { describe, expect, test } from "@jest/globals";
import { parse } from "yaml";
import { Field } from "#controlplane/mesh/field.ts";
import { readVirtualService, type HttpMatch, type HttpRule } from "#controlplane/mesh/virtual-service.ts";
import { readMeta } from "#controlplane/mesh/read-meta.ts";
import { mergeRules } from "./delegates.ts";

/** @param yaml a rule for HTTP */
function rule(yaml: string): HttpRule {
  const meta = readMeta(new Field({ metadata: { name: "a", namespace: "shop" } }));
  const [read] = readVirtualService(meta, new Field({ http: [parse(yaml)] }), []).http;
  if (read === undefined) throw new TypeError(`${yaml} is no rule`);
  return read;
}

/** What is said of a match, in the words of the object. */
function written(match: HttpMatch): string {
  const words = Object.entries(match).flatMap(([name, value]: [string, unknown]) => {
    const text = wordOf(value);
    return text === "" ? [] : [`${name} ${text}`];
  });
  return words.join(", ");
}

function wordOf(value: unknown): string {
  if (value instanceof Map) return [...value].map(([key, each]) => `${key as string}=${wordOf(each)}`).join(" ");
  if (Array.isArray(value)) return value.join(" ");
  if (typeof value === "object" && value !== null && "kind" in value) {
    const { kind, value: wanted = "" } = value as { kind: string; value?: string };
    return `${kind}(${wanted})`;
  }
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}

const merged = (root: string, inner: string): readonly string[] | undefined =>
  mergeRules(rule(`{match: [${root}]}`), rule(`{match: [${inner}]}`))?.matches.map(written);

describe("a match of the root and one of the delegate", () => {
  // prettier-ignore
  test.each<[string, string, string | undefined]>([ // root, delegate, both; undefined: they never hold together
    // Text: equal, or a prefix of the root's that goes on; expressions agree with nothing.
    ["{uri: {prefix: /a}}",              "{uri: {prefix: /ab}}",             "uri prefix(/ab)"],
    ["{uri: {prefix: /a}}",              "{uri: {exact: /ab}}",              "uri exact(/ab)"],
    ["{uri: {prefix: /ab}}",             "{uri: {prefix: /a}}",              undefined],
    ["{uri: {exact: /a}}",               "{uri: {exact: /a}}",               "uri exact(/a)"],
    ["{uri: {exact: /a}}",               "{uri: {exact: /b}}",               undefined],
    ["{uri: {exact: /a}}",               "{uri: {prefix: /a}}",              undefined],
    ["{uri: {prefix: /a}}",              "{uri: {regex: /a.*}}",             undefined],
    ["{uri: {regex: /a.*}}",             "{uri: {prefix: /a}}",              undefined],
    ["{uri: {regex: /a.*}}",             "{method: {exact: GET}}",           "uri regex(/a.*), method exact(GET)"],
    ["{uri: {prefix: /a}}",              "{}",                               "uri prefix(/a)"],
    ["{}",                               "{uri: {prefix: /a}}",              "uri prefix(/a)"],
    ["{uri: {prefix: /a}, ignoreUriCase: true}", "{uri: {prefix: /ab}}",     undefined],
    ["{scheme: {exact: http}, method: {prefix: P}, authority: {exact: a}}", "{scheme: {exact: http}, method: {exact: PUT}, authority: {exact: a}}", "scheme exact(http), method exact(PUT), authority exact(a)"],
    ["{method: {exact: GET}}",           "{method: {exact: PUT}}",           undefined],
    // Maps add up, and what one key says has to agree.
    ["{headers: {a: {exact: x}}}",       "{headers: {b: {exact: y}}}",       "headers a=exact(x) b=exact(y)"],
    ["{headers: {a: {exact: x}}}",       "{headers: {a: {exact: y}}}",       undefined],
    ["{headers: {a: {prefix: x}}}",      "{headers: {a: {exact: xy}}}",      "headers a=exact(xy)"],
    ["{queryParams: {a: {exact: x}}}",   "{queryParams: {a: {regex: x}}}",   undefined],
    ["{queryParams: {a: {exact: x}}}",   "{queryParams: {b: {}}}",           "queryParams a=exact(x) b=present()"],
    // A delegate narrows what it is given; it cannot widen it.
    ["{headers: {a: {exact: x}}}",       "{headers: {a: {}}}",               "headers a=exact(x)"],
    ["{headers: {a: {}}}",               "{headers: {a: {exact: x}}}",       "headers a=exact(x)"],
    ["{method: {exact: GET}}",           "{method: {regex: '*'}}",           "method exact(GET)"],
    ["{queryParams: {a: {regex: x}}}",   "{queryParams: {a: {}}}",           "queryParams a=regex(x)"],
    ["{withoutHeaders: {a: {}}}",        "{withoutHeaders: {a: {exact: x}}}", "withoutHeaders a=present()"],
    ["{withoutHeaders: {a: {exact: x}}}", "{withoutHeaders: {a: {}}}",       "withoutHeaders a=present()"],
    ["{withoutHeaders: {a: {prefix: x}}}", "{withoutHeaders: {a: {exact: xy}}}", "withoutHeaders a=prefix(x)"],
    ["{withoutHeaders: {a: {exact: x}}}", "{withoutHeaders: {a: {exact: y}}}", undefined],
    // Where it applies.
    ["{port: 80}",                       "{}",                               "port 80"],
    ["{port: 80}",                       "{port: 81}",                       undefined],
    ["{sourceNamespace: a}",             "{}",                               undefined],
    ["{sourceNamespace: a}",             "{sourceNamespace: a}",             "sourceNamespace a"],
    ["{}",                               "{sourceNamespace: a}",             "sourceNamespace a"],
    ["{sourceLabels: {a: x}}",           "{sourceLabels: {b: y}}",           "sourceLabels a=x b=y"],
    ["{sourceLabels: {a: x}}",           "{sourceLabels: {a: y}}",           undefined],
    ["{gateways: [mesh, edge]}",         "{gateways: [mesh]}",               "gateways mesh"],
    ["{gateways: [edge]}",               "{gateways: [mesh]}",               undefined],
    ["{gateways: [edge]}",               "{}",                               "gateways edge"],
    ["{name: a, statPrefix: a}",         "{name: b}",                        "name a-b, statPrefix a"],
  ])("%s and %s: %s", (root, inner, expected) => {
    expect(merged(root, inner)).toEqual(expected === undefined ? undefined : [expected]);
  });

  test("every pair that can hold counts; one of the delegate's that cannot spoils its rule", () => {
    const root = "{uri: {prefix: /a}}, {uri: {prefix: /b}}, {method: {exact: GET}}";
    expect(merged(root, "{uri: {exact: /a}}, {uri: {prefix: /b/}}")).toEqual([
      "uri exact(/a)",
      "uri exact(/a), method exact(GET)",
      "uri prefix(/b/)",
      "uri prefix(/b/), method exact(GET)",
    ]);
    expect(merged("{uri: {prefix: /a}}", "{uri: {prefix: /a/}}, {uri: {prefix: /b}}")).toBeUndefined();
  });
});

test("what the delegate says of requests goes before what its root says", () => {
  const everything = (at: string, seconds: number) =>
    rule(`
      name: ${at}
      rewrite: {uri: /${at}}
      timeout: ${seconds}s
      retries: {attempts: ${seconds}}
      fault: {abort: {httpStatus: 50${seconds}, percentage: {value: 1}}}
      mirror: {host: ${at}}
      corsPolicy: {allowMethods: [${at}]}
      headers: {request: {set: {x: ${at}}}}`);
  const [root, inner] = [everything("root", 1), everything("inner", 2)];
  expect(mergeRules(root, inner)).toEqual({ ...inner, name: "root-inner" });
  const route = rule("{route: [{destination: {host: b}}]}");
  expect(mergeRules(root, route)).toEqual({ ...root, route: route.route });
});
