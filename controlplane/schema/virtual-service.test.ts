import { describe, expect, test } from "@jest/globals";
import type { Problem } from "./problem.ts";
import { lines, problemsOf } from "./testing/told.ts";

const problems = (spec: string): readonly Problem[] => problemsOf("networking.istio.io/v1", "VirtualService", spec);

const told = (severity: Problem["severity"], spec: string): readonly string[] => lines(problems(spec), severity);

/** One rule for HTTP that goes to a service. */
const rule = (more: string): string => `{hosts: [a], http: [{route: [{destination: {host: b}}], ${more}}]}`;
const match = (more: string): string => rule(`match: [{${more}}]`);

// prettier-ignore
test.each([ // spec, the whole message
  ["{hosts: ['*.a.com', b.a.com], http: [{redirect: {uri: /}}]}",  'spec.hosts[1]: "b.a.com" and hosts[0], "*.a.com", cover the same names: keep one'],
  ["{http: [{redirect: {uri: /}}], gateways: [mesh]}",             "spec.gateways: a delegate (an object without hosts) cannot have it: write hosts, or leave it out"],
  ["{hosts: [a], gateways: [mesh, A_b], http: [{redirect: {uri: /}}]}", 'spec.gateways[1]: "A_b" is no name of a gateway: write "mesh", a name, or "namespace/name"'],
  [rule("redirect: {uri: /}"),                                      "spec.http[0]: route and redirect are exclusive: keep one of them"],
  ["{hosts: [a], http: [{redirect: {uri: /}, fault: {abort: {httpStatus: 500, percentage: {value: 1}}}}]}", "spec.http[0].fault: has no effect with redirect: remove one"],
  ["{hosts: [a], http: [{redirect: {}}]}",                          "spec.http[0].redirect: leads nowhere: write one of uri, prefixRewrite, authority, port, derivePort, scheme"],
  ["{hosts: [a], http: [{redirect: {uri: /, redirectCode: 304}}]}", "spec.http[0].redirect.redirectCode: 304 is no redirect that clients follow: write 301, 302, 303, 307 or 308"],
  ["{hosts: [a], http: [{match: [{uri: {exact: /a}}], redirect: {prefixRewrite: /b}}]}", "spec.http[0].redirect.prefixRewrite: replaces the prefix that a match took: match by uri.prefix everywhere in the rule"],
  ["{hosts: [a], http: [{directResponse: {status: 200, body: {bytes: '*'}}}]}", "spec.http[0].directResponse.body.bytes: is not base64: encode the body, or write it as string"],
  ["{hosts: [a], http: [{directResponse: {status: 200, body: {bytes: AA==, string: a}}}]}", 'spec.http[0].directResponse.body.bytes: excludes "string", which is written too: keep one of them'],
  ["{hosts: [a], http: [{directResponse: {status: 600}}]}",         "spec.http[0].directResponse.status: 600 is no status of HTTP: write 200 to 599"],
  [`{hosts: [a], http: [{directResponse: {status: 200, body: {string: ${"a".repeat(1_000_001)}}}}]}`, "spec.http[0].directResponse.body: has 1000001 bytes, at most 1000000 are allowed: shorten it"],
  ["{hosts: [a], http: [{delegate: {name: b}, route: [{destination: {host: b}}]}]}", 'spec.http[0].route: excludes "delegate", which is written too: keep one of them'],
  ["{http: [{delegate: {name: b}}]}",                               "spec.http[0].delegate: a delegate cannot delegate: leave it out"],
  ["{hosts: [a], http: [{route: [{destination: {host: '*'}}]}]}",   'spec.http[0].route[0].destination.host: "*" is no destination: name the service'],
  [rule("mirror: {host: c}, mirrors: []"),                          'spec.http[0].mirror: excludes "mirrors", which is written too: use mirrors only; mirror is the single form'],
  [rule("mirrors: [{destination: {host: c}, percentage: {value: 101}}]"), "spec.http[0].mirrors[0].percentage.value: 101 is out of range: write at most 100"],
  [rule("rewrite: {}"),                                             "spec.http[0].rewrite: is empty: write uri, uriRegexRewrite or authority"],
  [rule("rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}"), 'spec.http[0].rewrite.uriRegexRewrite: excludes "uri", which is written too: keep one of them'],
  [rule("rewrite: {uriRegexRewrite: {match: '(', rewrite: b}}"),    'spec.http[0].rewrite.uriRegexRewrite.match: "(" is not RE2: missing closing ): `(`: RE2 has no look-around and no back-references'],
  [rule("headers: {request: {set: {Host: 'a b'}}}"), 'spec.http[0].headers.request.set.Host: "a b" is no host: write it without blanks'],
  [rule("rewrite: {authority: b}, headers: {request: {set: {Host: c}}}"), "spec.http[0].headers.request.set.Host: the host is changed elsewhere in this rule: keep one of them"],
  [rule("retries: {attempts: 1, retryOn: '5xx, reset'}"),           'spec.http[0].retries.retryOn: unknown condition " reset": write no spaces around commas'],
  [rule("retries: {attempts: 1, retryOn: '999'}"),                  expect.stringContaining('unknown condition "999"')],
  [rule("retries: {attempts: 0, retryOn: 5xx}"),                    "spec.http[0].retries: attempts 0 disables retries: remove retryOn"],
  [rule("retries: {retryOn: 5xx}"),                                 "spec.http[0].retries: has no attempts, which disables retries: write how many, or remove retryOn"],
  [rule("retries: {attempts: 1, retryOn: '5xx,'}"),                 expect.stringContaining('spec.http[0].retries.retryOn: unknown condition ""')],
  ["{hosts: [a.123], http: [{redirect: {uri: /}}]}",                expect.stringContaining('spec.hosts[0]: "a.123" is not a host name: it ends in the number "123"')],
  [String.raw`{hosts: [a], http: [{route: [{destination: {host: b}}], rewrite: {uriRegexRewrite: {match: (a), rewrite: '\2'}}}]}`, String.raw`spec.http[0].rewrite.uriRegexRewrite.rewrite: "\\2" names group 2, match has 1: put what you mean in parentheses in match`],
  [String.raw`{hosts: [a], http: [{route: [{destination: {host: b}}], rewrite: {uriRegexRewrite: {match: (a), rewrite: '\n'}}}]}`, expect.stringContaining("has a backslash before n")],
  [match("sourceNamespace: A_"),                                    'spec.http[0].match[0].sourceNamespace: "A_" is not a namespace: write the name of one'],
  [match("gateways: [A_b]"),                                        'spec.http[0].match[0].gateways[0]: "A_b" is no name of a gateway: write "mesh", a name, or "namespace/name"'],
  [match("sourceLabels: {app: a b}"),                               'spec.http[0].match[0].sourceLabels.app: "a b" is not a label value: use at most 63 letters, digits, "-", "_" and "."'],
  [rule("fault: {}"),                                               "spec.http[0].fault: has neither delay nor abort: write at least one of them"],
  [rule("fault: {delay: {fixedDelay: 1s, percentage: {value: 0.00001}}}"), "spec.http[0].fault.delay.percentage.value: 0.00001 is too small: write at least 0.0001"],
  [rule("fault: {delay: {fixedDelay: 1s, exponentialDelay: 1s, percentage: {value: 1}}}"), expect.stringContaining('spec.http[0].fault.delay.exponentialDelay: unknown field "exponentialDelay"')],
  [rule("fault: {abort: {grpcStatus: unavailable, percentage: {value: 1}}}"), 'spec.http[0].fault.abort.grpcStatus: unknown gRPC status "unavailable": did you mean "UNAVAILABLE"?'],
  [rule("timeout: 100us"),                                          'spec.http[0].timeout: "100us" is too fine: must be at least 1ms with millisecond precision'],
  [rule("corsPolicy: {allowOrigins: [{}]}"),                        "spec.http[0].corsPolicy.allowOrigins[0]: says nothing: write one of exact, prefix, regex"],
  [rule("corsPolicy: {allowMethods: [get]}"),                       'spec.http[0].corsPolicy.allowMethods[0]: unknown method "get": did you mean "GET"?'],
  [rule("corsPolicy: {maxAge: 1500ms}"),                            'spec.http[0].corsPolicy.maxAge: "1500ms" is no whole number of seconds: browsers count seconds'],
  [rule("headers: {request: {set: {':path': /}}}"),                 'spec.http[0].headers.request.set[":path"]: ":path" cannot be changed so: the host of a request can be set; the rest of the first line is no header'],
  [rule("headers: {response: {set: {host: a}}}"),                   'spec.http[0].headers.response.set.host: "host" cannot be changed so: the host of a request can be set; the rest of the first line is no header'],
  [rule("headers: {request: {add: {Transfer-Encoding: chunked}}}"), 'spec.http[0].headers.request.add.Transfer-Encoding: "Transfer-Encoding" belongs to the connection: leave it out: proxies write it themselves'],
  [rule("headers: {response: {set: {content-length: '5'}}}"),       'spec.http[0].headers.response.set.content-length: "content-length" belongs to the connection: leave it out: proxies write it themselves'],
  [rule("headers: {request: {set: {x: '%REQ()%'}}}"),              'spec.http[0].headers.request.set.x: "%REQ()%" has %REQ()%, which waypoints cannot read: write it as %REQ(x-user)%'],
  [rule("headers: {request: {set: {x: '%PROTOCOL(a)%'}}}"),         'spec.http[0].headers.request.set.x: "%PROTOCOL(a)%" has %PROTOCOL(a)%, but %PROTOCOL% takes nothing in parentheses: write %PROTOCOL%'],
  [rule("headers: {request: {set: {x: '%START_TIME(%n)%'}}}"),      expect.stringContaining("which waypoints cannot read: write it as %START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%")],
  [rule("headers: {request: {remove: [host]}}"),                    'spec.http[0].headers.request.remove[0]: "host" cannot be changed so: the host of a request can be set; the rest of the first line is no header'],
  [rule("headers: {request: {add: {x-a: 100%}}}"),                  'spec.http[0].headers.request.add.x-a: "100%" has a "%" at 3 that begins nothing: write "%%" for a percent sign'],
  [rule("headers: {request: {add: {x-a: '%REQ(a'}}}"),              'spec.http[0].headers.request.add.x-a: "%REQ(a" has a "%" at 0 that begins nothing: write "%%" for a percent sign'],
  [rule("headers: {request: {add: {x-a: '%UPSTREAM_HOSTS%'}}}"),     'spec.http[0].headers.request.add.x-a: "%UPSTREAM_HOSTS%" has %UPSTREAM_HOSTS%, which stands for nothing: did you mean %UPSTREAM_HOST%?'],
  [rule(String.raw`headers: {request: {add: {x-a: "a\nb"}}}`),      String.raw`spec.http[0].headers.request.add.x-a: "a\nb" has a control character at 1: leave it out`],
  [rule("headers: {request: {add: {'x a': b}}}"),                   'spec.http[0].headers.request.add["x a"]: "x a" is no name of a header: use letters, digits and dashes'],
  [match("uri: {exact: /a, prefix: /b}"),                           'spec.http[0].match[0].uri.prefix: excludes "exact", which is written too: keep one of them'],
  [match("method: {prefix: ''}"),                                   "spec.http[0].match[0].method.prefix: must not be empty (only uri allows that): write a prefix, or leave the match out"],
  [match("uri: {regex: ''}"),                                       "spec.http[0].match[0].uri.regex: must not be empty: write an RE2 expression"],
  [match(String.raw`headers: {x: {regex: "(a)\\1"}}`),              expect.stringContaining("is not RE2: invalid escape sequence")],
  [match("headers: {x: null}"),                                     "spec.http[0].match[0].headers.x: expected an object, found nothing (null): write an object, or leave the field out"],
  [match("headers: {':body': {}}"),                                 'spec.http[0].match[0].headers[":body"]: there is no header ":body": write one of :method, :scheme, :authority, :path, :status'],
  [match("headers: {'x y': {}}"),                                   'spec.http[0].match[0].headers["x y"]: "x y" is no name of a header: use letters, digits and dashes'],
  [match("headers: {'@request.auth.claims': {exact: b}}"),          'spec.http[0].match[0].headers["@request.auth.claims"]: "@request.auth.claims" names no claim: write @request.auth.claims.group, or @request.auth.claims[name.with.dots][inner]'],
  [match("port: 0"),                                                "spec.http[0].match[0].port: 0 is out of range: write at least 1"],
  ["{hosts: [a], tls: [{match: [], route: [{destination: {host: b}}]}]}", "spec.tls[0].match: must not be empty: write an entry, or leave the field out"],
  ["{hosts: [a.com], tls: [{match: [{sniHosts: [b.com]}], route: [{destination: {host: b}}]}]}", 'spec.tls[0].match[0].sniHosts[0]: "b.com" is none of the hosts of this object: add it to spec.hosts'],
  ["{hosts: [a], tcp: [{match: [{destinationSubnets: [1.2.3]}], route: [{destination: {host: b}}]}]}", 'spec.tcp[0].match[0].destinationSubnets[0]: "1.2.3" is not an IP address or range: write it as 10.0.0.7, 10.0.0.0/8 or fd00::/8'],
  ["{hosts: [a], tcp: [{}]}",                                       "spec.tcp[0]: has no route: write a destination"],
])("%s is refused", (spec, message) => {
  expect(told("error", spec)).toEqual([message]);
});

test("a long expression is refused once, with its length", () => {
  const spec = match(`uri: {regex: ${"a".repeat(1025)}}`);
  expect(told("error", spec)).toEqual([expect.stringContaining("has 1025 characters")]);
});

describe("accepted with a warning", () => {
  // prettier-ignore
  test.each([ // spec, the whole message
    [rule("mirror: {host: c}, mirrorPercent: 5"),                  "spec.http[0].mirrorPercent: is a former spelling: write mirrorPercentage: {value: ...}"],
    [rule("fault: {delay: {fixedDelay: 1s}}"),                     "spec.http[0].fault.delay: has no percentage: nothing will happen: write percentage: {value: 100}"],
    [rule("fault: {abort: {percentage: {value: 1}}}"),             "spec.http[0].fault.abort: names no error: it has no effect: write httpStatus or grpcStatus"],
    [match("sourceLabels: {app: a}"),                              "spec.http[0].match[0].sourceLabels: is not supported at waypoints: this match will never apply there: remove it"],
    ["{hosts: [a], gateways: [mesh, a.b], http: [{redirect: {uri: /}}]}", 'spec.gateways[1]: "a.b" is a former spelling: write "namespace/name"'],
    ["{hosts: [a], http: [{directResponse: {status: 204, body: {string: a}}}]}", "spec.http[0].directResponse.body: an answer with status 204 has no body: leave it out, or write another status"],
    ["{hosts: [a], http: [{match: [{uri: {prefix: /a}}, {name: b, uri: {prefix: /a}}], redirect: {uri: /}}]}", "spec.http[0].match[1]: takes what http[0].match[0] takes already: remove one of them"],
    ["{hosts: [a], http: [{match: [{uri: {prefix: /a}}], redirect: {uri: /}}, {match: [{uri: {exact: /ab}}], redirect: {uri: /}}]}", 'spec.http[1].match[0]: is never reached: http[0] takes every path that begins with "/a": put the longer one first'],
    ["{hosts: ['1.2.3.4'], tls: [{match: [{sniHosts: ['1.2.3.4']}], route: [{destination: {host: b}}]}]}", "spec.tls[0].match[0].sniHosts[0]: is an address, and handshakes name hosts: write the name of the host"],
  ])("%s", (spec, message) => {
    expect(told("error", spec)).toEqual([]);
    expect(told("warning", spec)).toEqual([message]);
  });
});

// prettier-ignore
test.each([
  [rule("retries: {attempts: 0}")],
  [rule("retries: {attempts: 2, retryOn: '503,connect-failure'}")],
  [rule("timeout: 0s")],
  [rule("fault: {delay: {fixedDelay: 1ms, percentage: {value: 0.0001}}}")],
  [rule("headers: {request: {set: {':authority': a, x-a: '100%% %REQ(x-b?:path):10% %START_TIME(%s)%'}}}")],
  [match("headers: {x: {regex: '*'}, ':path': {exact: /}}, withoutHeaders: {y: {}}, queryParams: {q: {regex: '*'}}")],
  [match("uri: {prefix: ''}")],
  ["{hosts: [a], gateways: [mesh, edge], http: [{match: [{headers: {'@request.auth.claims[a.b][c]': {exact: d}}}], redirect: {uri: /}}]}"],
  ["{hosts: ['*.a.com'], tls: [{match: [{sniHosts: [b.a.com]}], route: [{destination: {host: b}}]}]}"],
  ["{http: [{route: [{destination: {host: b}}]}]}"],
])("%s is fine", (spec) => {
  expect(problems(spec)).toEqual([]);
});
