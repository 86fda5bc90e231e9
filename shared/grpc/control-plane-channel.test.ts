import { relative } from "node:path";
import { expect, test } from "@jest/globals";
import { parseTokenSource, type TokenSource } from "./control-plane-channel.ts";

const here = import.meta.filename;
const near = relative(process.cwd(), here);

// prettier-ignore
test.each<[string | undefined, TokenSource, string]>([ // AUTH_TOKEN  source                                                       why
  [undefined,       { from: "file", path: "/usual", optional: true },           "the usual place, if there is one"],
  ["/no/such/file", { from: "file", path: "/no/such/file", optional: false },   "it may come later"],
  ["./token",       { from: "file", path: "./token", optional: false },         "so may this"],
  [near,            { from: "file", path: near, optional: false },              "a file that exists"],
  ["ab.cd.ef\n",    { from: "literal", token: "ab.cd.ef" },                     "the token itself"],
])("AUTH_TOKEN %j: %j (%s)", (setting, source) => {
  expect(parseTokenSource(setting, "/usual")).toEqual(source);
});
