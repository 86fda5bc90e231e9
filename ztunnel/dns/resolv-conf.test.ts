import { expect, test } from "@jest/globals";
import { readResolvConf } from "./resolv-conf.ts";

// prettier-ignore
test.each([ // text                                                                     servers                              searches                why
  ["nameserver 10.96.0.10\nsearch a.svc.cluster.local svc.cluster.local\noptions ndots:5", ["10.96.0.10"],                   ["a.svc.cluster.local", "svc.cluster.local"], "what the kubelet writes"],
  ["nameserver 10.0.0.1\nnameserver fd00::1\nnameserver ::ffff:10.0.0.2",               ["10.0.0.1", "fd00::1", "10.0.0.2"], [],                    "both families"],
  ["nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4",    ["1.1.1.1", "1.1.1.2", "1.1.1.3"],   [],                     "three at most"],
  ["search a b\ndomain C.\n",                                                           [],                                  ["c"],                  "the last of search and domain wins"],
  ["# nameserver 1.1.1.1\n; search x\n\t nameserver\t 2.2.2.2 # ours\r\n",              ["2.2.2.2"],                         [],                     "comments and blanks"],
  ["nameserver\nnameserver dns.example\nnonsense\nsearch",                              [],                                  [],                     "what cannot be read is passed over"],
  ["",                                                                                  [],                                  [],                     "nothing"],
])("%j", (text, servers, searches, _why) => {
  expect(readResolvConf(text)).toEqual({ servers, searches });
});
