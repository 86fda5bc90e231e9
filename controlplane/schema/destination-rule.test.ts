import { describe, expect, test } from "@jest/globals";
import type { Problem } from "./problem.ts";
import { lines, problemsOf } from "./testing/told.ts";

const problems = (spec: string): readonly Problem[] => problemsOf("networking.istio.io/v1", "DestinationRule", spec);

const told = (severity: Problem["severity"], spec: string): readonly string[] => lines(problems(spec), severity);

const policy = (text: string): string => `{host: a, trafficPolicy: ${text}}`;
/** In messages `@` stands for the policy's own place. */
const whole = (messages: string | readonly string[]): readonly string[] =>
  [messages].flat().map((message) => message.replace(/^@/, "spec.trafficPolicy"));

// prettier-ignore
test.each<[string, string | string[]]>([ // spec, everything that is wrong with it
  ["{}", "spec.host: is missing: write text"],
  [policy("{}"), "@: is empty: write a setting, or leave it out"],
  ['{host: "a_b"}', 'spec.host: "a_b" is not a host name: it has the label "a_b": write a DNS name such as api.example.com or "*.example.com"'],
  [policy("{tunnel: {targetHost: b, targetPort: 1}, proxyProtocol: {}}"), '@.proxyProtocol: excludes "tunnel", which is written too: keep one of them'],
  [policy("{tunnel: {targetPort: 1}}"), "@.tunnel.targetHost: is missing: write text"],
  [policy("{tunnel: {targetHost: b, targetPort: 0}}"), "@.tunnel.targetPort: 0 is out of range: write at least 1"],
  [policy('{tunnel: {targetHost: "b_", targetPort: 1}}'), '@.tunnel.targetHost: "b_" is not a host name: it has the label "b_": write a DNS name such as api.example.com'],
  [policy("{tunnel: {protocol: GET, targetHost: b, targetPort: 1}}"), '@.tunnel.protocol: "GET" is not one of CONNECT, POST: write one of CONNECT, POST'],
  [policy("{proxyProtocol: {version: V3}}"), '@.proxyProtocol.version: "V3" is not one of V1, V2: did you mean "V1"?'],
  ["{host: a, subsets: [{}]}", "spec.subsets[0].name: is missing: write text"],
  ["{host: a, subsets: [{name: v1}, {name: v1}]}", 'spec.subsets[1].name: "v1" repeats that of entry 0: give each entry its own'],
  ['{host: a, subsets: [{name: "V_1"}]}', 'spec.subsets[0].name: "V_1" is not a DNS label: use lower-case letters, digits and "-", and begin and end with a letter or digit'],
  ['{host: a, subsets: [{name: v1, labels: {"a b": c}}]}', 'spec.subsets[0].labels["a b"]: "a b" is not a label key: write it as "app" or "example.com/app"'],
  ['{host: a, subsets: [{name: v1, labels: {a: "c d"}}]}', 'spec.subsets[0].labels.a: "c d" is not a label value: use at most 63 letters, digits, "-", "_" and "."'],
  ["{host: a, subsets: [{name: v1, trafficPolicy: {}}]}", "spec.subsets[0].trafficPolicy: is empty: write a setting, or leave it out"],
  ['{host: a, workloadSelector: {matchLabels: {a: b}}, exportTo: ["*"]}', 'spec.exportTo[0]: a rule with a workloadSelector stays in its namespace: write "." or leave exportTo out'],
  ['{host: a, workloadSelector: {matchLabels: {a: b}}, exportTo: ["other"]}', 'spec.exportTo[0]: a rule with a workloadSelector stays in its namespace: write "." or leave exportTo out'],
  ['{host: a, exportTo: [".", "shop"]}', 'spec.exportTo[1]: "shop" is named twice: keep one'],
  [policy("{loadBalancer: {simple: FOO}}"), '@.loadBalancer.simple: "FOO" is not one of UNSPECIFIED, LEAST_CONN, RANDOM, PASSTHROUGH, ROUND_ROBIN, LEAST_REQUEST: write one of UNSPECIFIED, LEAST_CONN, RANDOM, PASSTHROUGH, ROUND_ROBIN, LEAST_REQUEST'],
  [policy("{loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}"), '@.loadBalancer.consistentHash: excludes "simple", which is written too: keep one of them'],
  [policy("{loadBalancer: {warmupDurationSecs: 0s}}"), '@.loadBalancer.warmupDurationSecs: "0s" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{loadBalancer: {warmup: {}}}"), "@.loadBalancer.warmup.duration: is missing: write text"],
  [policy("{loadBalancer: {warmup: {duration: 1s, minimumPercent: 101}}}"), "@.loadBalancer.warmup.minimumPercent: 101 is out of range: write at most 100"],
  [policy("{loadBalancer: {warmup: {duration: 1s, aggression: 0}}}"), "@.loadBalancer.warmup.aggression: 0 would never let a host warm up: write a number above 0; 1 warms up evenly"],
  [policy("{loadBalancer: {consistentHash: {}}}"), "@.loadBalancer.consistentHash: has no key: write one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName"],
  [policy("{loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}}"), '@.loadBalancer.consistentHash.useSourceIp: excludes "httpHeaderName", which is written too: keep one of them'],
  [policy('{loadBalancer: {consistentHash: {httpHeaderName: ""}}}'), "@.loadBalancer.consistentHash.httpHeaderName: has no name: write the name"],
  [policy('{loadBalancer: {consistentHash: {httpHeaderName: "a b"}}}'), '@.loadBalancer.consistentHash.httpHeaderName: "a b" is no name of a header: use letters, digits and dashes'],
  [policy("{loadBalancer: {consistentHash: {httpCookie: {}}}}"), "@.loadBalancer.consistentHash.httpCookie.name: is missing: write text"],
  [policy('{loadBalancer: {consistentHash: {httpCookie: {name: a, attributes: [{name: "", value: a}]}}}}'), "@.loadBalancer.consistentHash.httpCookie.attributes[0].name: must not be empty: write a value, or leave the field out"],
  [policy("{loadBalancer: {consistentHash: {httpCookie: {name: a, attributes: [{name: x}, {name: x}]}}}}"), '@.loadBalancer.consistentHash.httpCookie.attributes[1].name: "x" repeats that of entry 0: give each entry its own'],
  [policy('{loadBalancer: {consistentHash: {httpCookie: {name: "a b"}}}}'), '@.loadBalancer.consistentHash.httpCookie.name: "a b" is no name of a cookie: use letters, digits and dashes'],
  [policy("{loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 10, ringHash: {minimumRingSize: 20}}}}"), "@.loadBalancer.consistentHash.minimumRingSize: excludes ringHash and maglev: write ringHash: {minimumRingSize: ...} alone"],
  [policy("{loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {}, maglev: {tableSize: 7}}}}"), '@.loadBalancer.consistentHash.maglev: excludes "ringHash", which is written too: keep one of them'],
  [policy("{loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 9000000}}}}"), "@.loadBalancer.consistentHash.ringHash.minimumRingSize: 9000000 is more than a ring can have: write up to 8388608"],
  [policy("{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}}}}"), "@.loadBalancer.consistentHash.maglev.tableSize: no number is not a prime below 5000011: write one, such as 65537"],
  [policy("{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 65536}}}}"), "@.loadBalancer.consistentHash.maglev.tableSize: 65536 is not a prime below 5000011: write one, such as 65537"],
  [policy("{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}}}"), "@.loadBalancer.consistentHash.maglev.tableSize: 5000011 is not a prime below 5000011: write one, such as 65537"],
  [policy("{loadBalancer: {localityLbSetting: {}, zoneAwareLbSetting: {}}}"), '@.loadBalancer.zoneAwareLbSetting: excludes "localityLbSetting", which is written too: keep one of them'],
  [policy("{loadBalancer: {localityLbSetting: {distribute: [{from: a/b/c, to: {a/b/c: 90}}], failover: [{from: a, to: b}]}}}"), ["@.loadBalancer.localityLbSetting.distribute[0].to: sums to 90: must be 100: write shares in percent", '@.loadBalancer.localityLbSetting.failover: excludes "distribute", which is written too: keep one of them']],
  [policy("{loadBalancer: {localityLbSetting: {distribute: [{from: a/b/c, to: {a/b/c: 90}}]}}}"), "@.loadBalancer.localityLbSetting.distribute[0].to: sums to 90: must be 100: write shares in percent"],
  [policy("{loadBalancer: {localityLbSetting: {distribute: [{from: a/b/c, to: {a/b/c: 0, b: 100}}]}}}"), '@.loadBalancer.localityLbSetting.distribute[0].to["a/b/c"]: 0 is out of range: write at least 1'],
  [policy("{loadBalancer: {localityLbSetting: {distribute: [{from: a/b/c, to: {a/b/c: 101}}]}}}"), ['@.loadBalancer.localityLbSetting.distribute[0].to["a/b/c"]: 101 is out of range: write at most 100', "@.loadBalancer.localityLbSetting.distribute[0].to: sums to 101: must be 100: write shares in percent"]],
  [policy('{loadBalancer: {localityLbSetting: {distribute: [{from: "a/*/c", to: {a: 100}}]}}}'), '@.loadBalancer.localityLbSetting.distribute[0].from: "a/*/c" is no place: write "region", "region/zone" or "region/zone/subzone"; the last part may be "*"'],
  [policy('{loadBalancer: {localityLbSetting: {distribute: [{from: "a//c", to: {a: 100}}]}}}'), '@.loadBalancer.localityLbSetting.distribute[0].from: "a//c" is no place: write "region", "region/zone" or "region/zone/subzone"; the last part may be "*"'],
  [policy('{loadBalancer: {localityLbSetting: {distribute: [{from: "a/*", to: {a: 100}}, {from: "a/b", to: {a: 100}}]}}}'), '@.loadBalancer.localityLbSetting.distribute[1].from: "a/b" and "a/*" cover the same places: keep one of them'],
  [policy('{loadBalancer: {localityLbSetting: {distribute: [{from: "a", to: {"b/*": 50, "b/c": 50}}]}}}'), '@.loadBalancer.localityLbSetting.distribute[0].to["b/c"]: "b/c" and "b/*" cover the same places: keep one of them'],
  [policy("{loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}, outlierDetection: {}}"), "@.loadBalancer.localityLbSetting.failover[0].to: is where it comes from: write another region"],
  [policy("{loadBalancer: {localityLbSetting: {failover: [{from: a/b, to: c}]}}, outlierDetection: {}}"), '@.loadBalancer.localityLbSetting.failover[0].from: "a/b" is no region: write the region alone'],
  [policy('{loadBalancer: {localityLbSetting: {failover: [{from: "*", to: c}]}}, outlierDetection: {}}'), '@.loadBalancer.localityLbSetting.failover[0].from: "*" is no region: write the region alone'],
  [policy('{loadBalancer: {localityLbSetting: {failover: [{from: a, to: c}], failoverPriority: ["topology.kubernetes.io/region"]}}, outlierDetection: {}}'), '@.loadBalancer.localityLbSetting.failoverPriority[0]: "topology.kubernetes.io/region" is what failover goes by already: leave it out'],
  [policy('{loadBalancer: {zoneAwareLbSetting: {failoverPriority: ["topology.kubernetes.io/zone"]}}, outlierDetection: {}}'), '@.loadBalancer.zoneAwareLbSetting.failoverPriority[0]: "topology.kubernetes.io/zone" is what failover goes by already: leave it out'],
  [policy("{loadBalancer: {zoneAwareLbSetting: {minClusterSize: 0}}}"), "@.loadBalancer.zoneAwareLbSetting.minClusterSize: 0 is out of range: write at least 1"],
  [policy("{connectionPool: {}}"), "@.connectionPool: has neither tcp nor http: write one of them, or leave it out"],
  [policy("{connectionPool: {tcp: {maxConnections: -1}}}"), "@.connectionPool.tcp.maxConnections: -1 is out of range: write at least 0"],
  [policy("{connectionPool: {tcp: {connectTimeout: 0s}}}"), '@.connectionPool.tcp.connectTimeout: "0s" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{connectionPool: {tcp: {connectTimeout: 10us}}}"), '@.connectionPool.tcp.connectTimeout: "10us" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{connectionPool: {tcp: {tcpKeepalive: {time: 0s}}}}"), '@.connectionPool.tcp.tcpKeepalive.time: "0s" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{connectionPool: {tcp: {maxConnectionDuration: 0s}}}"), '@.connectionPool.tcp.maxConnectionDuration: "0s" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{connectionPool: {http: {http1MaxPendingRequests: -1}}}"), "@.connectionPool.http.http1MaxPendingRequests: -1 is out of range: write at least 0"],
  [policy("{connectionPool: {http: {http2MaxRequests: -1}}}"), "@.connectionPool.http.http2MaxRequests: -1 is out of range: write at least 0"],
  [policy("{connectionPool: {http: {maxRequestsPerConnection: -1}}}"), "@.connectionPool.http.maxRequestsPerConnection: -1 is out of range: write at least 0"],
  [policy("{connectionPool: {http: {maxRetries: -1}}}"), "@.connectionPool.http.maxRetries: -1 is out of range: write at least 0"],
  [policy("{connectionPool: {http: {idleTimeout: 0s}}}"), '@.connectionPool.http.idleTimeout: "0s" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}"), "@.connectionPool.http.useClientProtocol: excludes h2UpgradePolicy UPGRADE: keep one of them"],
  [policy("{connectionPool: {http: {h2UpgradePolicy: YES}}}"), '@.connectionPool.http.h2UpgradePolicy: "YES" is not one of DEFAULT, DO_NOT_UPGRADE, UPGRADE: write one of DEFAULT, DO_NOT_UPGRADE, UPGRADE'],
  [policy("{connectionPool: {http: {maxConcurrentStreams: -1}}}"), "@.connectionPool.http.maxConcurrentStreams: -1 is out of range: write at least 0"],
  [policy("{connectionPool: {http: {http2KeepAlive: {interval: 1s}}}}"), "@.connectionPool.http.http2KeepAlive.timeout: is missing: write text"],
  [policy("{retryBudget: {percent: 101}}"), "@.retryBudget.percent: 101 is out of range: write at most 100"],
  [policy("{retryBudget: {minRetryConcurrency: -1}}"), "@.retryBudget.minRetryConcurrency: -1 is out of range: write at least 0"],
  [policy("{outlierDetection: {consecutiveLocalOriginFailures: 5}}"), "@.outlierDetection.consecutiveLocalOriginFailures: needs splitExternalLocalOriginErrors: write splitExternalLocalOriginErrors: true"],
  [policy("{outlierDetection: {interval: 0s}}"), '@.outlierDetection.interval: "0s" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{outlierDetection: {baseEjectionTime: 0s}}"), '@.outlierDetection.baseEjectionTime: "0s" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{outlierDetection: {maxEjectionPercent: 101}}"), "@.outlierDetection.maxEjectionPercent: 101 is out of range: write at most 100"],
  [policy("{outlierDetection: {minHealthPercent: -1}}"), "@.outlierDetection.minHealthPercent: -1 is out of range: write at least 0"],
  [policy("{outlierDetection: {outlierDetectionHttpErrorCodes: [99]}}"), "@.outlierDetection.outlierDetectionHttpErrorCodes[0]: 99 is out of range: write at least 100"],
  [policy("{outlierDetection: {consecutive5xxErrors: -1}}"), "@.outlierDetection.consecutive5xxErrors: -1 is out of range: write at least 0"],
  [policy("{tls: {mode: MUTUAL}}"), "@.tls: mode MUTUAL has no certificate: write clientCertificate and privateKey, or credentialName"],
  [policy("{tls: {mode: MUTUAL, clientCertificate: /a}}"), "@.tls: mode MUTUAL has no certificate: write clientCertificate and privateKey, or credentialName"],
  [policy("{tls: {mode: SIMPLE, credentialName: a, caCertificates: /b}}"), '@.tls.caCertificates: excludes "credentialName", which is written too: keep one of them'],
  [policy("{tls: {mode: SIMPLE, credentialName: a, caCrl: /b}}"), '@.tls.caCrl: excludes "credentialName", which is written too: keep one of them'],
  [policy("{tls: {mode: MUTUAL, credentialName: a, clientCertificate: /b, privateKey: /c}}"), ['@.tls.clientCertificate: excludes "credentialName", which is written too: keep one of them', '@.tls.privateKey: excludes "credentialName", which is written too: keep one of them']],
  [policy("{tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: /b}}"), "@.tls.caCertificates: has no meaning with insecureSkipVerify: keep one of them"],
  [policy("{tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}}"), "@.tls.subjectAltNames: has no meaning with insecureSkipVerify: keep one of them"],
  [policy("{tls: {mode: SIMPLE, insecureSkipVerify: true, credentialName: a}}"), "@.tls.credentialName: has no meaning with insecureSkipVerify: keep one of them"],
  [policy("{tls: {mode: MUTUAL, insecureSkipVerify: true, credentialName: c, subjectAltNames: [a]}}"), "@.tls.subjectAltNames: has no meaning with insecureSkipVerify: keep one of them"],
  [policy('{tls: {mode: SIMPLE, credentialName: "configmap://other/x"}}'), `@.tls.credentialName: names a ConfigMap of namespace "other": write one of the rule's own namespace`],
  [policy("{portLevelSettings: [{}]}"), ["@.portLevelSettings[0].port: is missing: write an object", "@.portLevelSettings[0]: has no setting: write one of loadBalancer, connectionPool, outlierDetection, tls"]],
  [policy("{portLevelSettings: [{port: {number: 0}, tls: {mode: DISABLE}}]}"), "@.portLevelSettings[0].port.number: 0 is out of range: write at least 1"],
  [policy("{portLevelSettings: [{port: {number: 80}}]}"), "@.portLevelSettings[0]: has no setting: write one of loadBalancer, connectionPool, outlierDetection, tls"],
  [policy("{portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}, {port: {number: 80}, tls: {mode: DISABLE}}]}"), "@.portLevelSettings[1].port.number: 80 repeats that of entry 0: give each entry its own"],
  [policy("{connectionPool: {http: {http2KeepAlive: {interval: 0s, timeout: 1s}}}}"), '@.connectionPool.http.http2KeepAlive.interval: "0s" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{connectionPool: {http: {http2KeepAlive: {interval: 1s, timeout: 0.1ms}}}}"), '@.connectionPool.http.http2KeepAlive.timeout: "0.1ms" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{retryBudget: {percent: -1}}"), "@.retryBudget.percent: -1 is out of range: write at least 0"],
  [policy("{retryBudget: {budgetInterval: 0.1ms}}"), '@.retryBudget.budgetInterval: "0.1ms" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{retryBudget: {}}, subsets: [{name: a, trafficPolicy: {retryBudget: {percent: 200}}}]"), "spec.subsets[0].trafficPolicy.retryBudget.percent: 200 is out of range: write at most 100"],
  [policy("{connectionPool: {tcp: {idleTimeout: 0.5ms}}}"), '@.connectionPool.tcp.idleTimeout: "0.5ms" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{connectionPool: {tcp: {tcpKeepalive: {interval: 0s}}}}"), '@.connectionPool.tcp.tcpKeepalive.interval: "0s" is too fine: must be at least 1ms with millisecond precision'],
  [policy("{outlierDetection: {outlierDetectionHttpErrorCodes: [600]}}"), "@.outlierDetection.outlierDetectionHttpErrorCodes[0]: 600 is out of range: write at most 599"],
  [policy("{outlierDetection: {minHealthPercent: 101}}"), "@.outlierDetection.minHealthPercent: 101 is out of range: write at most 100"],
  [policy("{outlierDetection: {maxEjectionPercent: -1}}"), "@.outlierDetection.maxEjectionPercent: -1 is out of range: write at least 0"],
  [policy("{loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: -1s}}}}"), '@.loadBalancer.consistentHash.httpCookie.ttl: "-1s" is not a duration: write a number with a unit, such as "250ms", "10s" or "1h30m"'],
  [policy("{tunnel: {targetHost: '*.a', targetPort: 1}}"), '@.tunnel.targetHost: "*.a" is not a host name: it has "*" in the label "*": write a DNS name such as api.example.com'],
  ["{host: a, subsets: [{name: v1, trafficPolicy: {tunnel: {targetHost: b, targetPort: 1}, proxyProtocol: {}}}]}", 'spec.subsets[0].trafficPolicy.proxyProtocol: excludes "tunnel", which is written too: keep one of them'],
  ['{host: a, exportTo: ["~"]}', 'spec.exportTo[0]: "~" is not a namespace: write ".", "*" or the name of a namespace'],
  ["{host: a, exportTo: [b, b]}", 'spec.exportTo[1]: "b" is named twice: keep one'],
  ["{host: '', trafficPolicy: {tls: {}}}", "spec.host: must not be empty: write a value, or leave the field out"],
  ["{host: a, workloadSelector: {matchLabels: {a: '*'}}}", 'spec.workloadSelector.matchLabels.a: "a: *" holds "*": labels are compared as they are: write the whole value'],
  [policy("{loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}], failoverPriority: [topology.kubernetes.io/zone]}}, outlierDetection: {}}"), '@.loadBalancer.localityLbSetting.failoverPriority[0]: "topology.kubernetes.io/zone" is what failover goes by already: leave it out'],
  [policy("{loadBalancer: {localityLbSetting: {distribute: [{from: 'a/b/c/d', to: {a: 100}}]}}}"), '@.loadBalancer.localityLbSetting.distribute[0].from: "a/b/c/d" is no place: write "region", "region/zone" or "region/zone/subzone"; the last part may be "*"'],
  [policy("{loadBalancer: {localityLbSetting: {distribute: [{from: '', to: {a: 100}}]}}}"), ["@.loadBalancer.localityLbSetting.distribute[0].from: must not be empty: write a value, or leave the field out", '@.loadBalancer.localityLbSetting.distribute[0].from: "" is no place: write "region", "region/zone" or "region/zone/subzone"; the last part may be "*"']],
  [policy("{loadBalancer: {localityLbSetting: {distribute: [{from: 'a', to: {}}]}}}"), "@.loadBalancer.localityLbSetting.distribute[0].to: sums to 0: must be 100: write shares in percent"],
  [policy("{loadBalancer: {localityLbSetting: {distribute: [{from: '*', to: {a: 100}},{from: 'b/*', to: {a: 100}}]}}}"), '@.loadBalancer.localityLbSetting.distribute[1].from: "b/*" and "*" cover the same places: keep one of them'],
])("%s", (spec, messages) => {
  expect(told("error", spec)).toEqual(whole(messages));
});

describe("accepted with a warning", () => {
  // prettier-ignore
  test.each<[string, string | string[]]>([
    ["{host: a, workloadSelector: {matchLabels: {}}}", "spec.workloadSelector: selects every pod of the namespace: leave the selector out to say so, or name labels"],
    [policy("{loadBalancer: {simple: RANDOM, warmup: {duration: 1s}}}"), "@.loadBalancer.warmup: has no effect with RANDOM: write simple: ROUND_ROBIN or LEAST_REQUEST, or leave it out"],
    [policy("{loadBalancer: {simple: RANDOM, warmupDurationSecs: 1s}}"), "@.loadBalancer.warmupDurationSecs: has no effect with RANDOM: write simple: ROUND_ROBIN or LEAST_REQUEST, or leave it out"],
    [policy("{loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 10}}}"), "@.loadBalancer.consistentHash.minimumRingSize: is a former spelling: write ringHash: {minimumRingSize: ...}"],
    [policy("{loadBalancer: {localityLbSetting: {failover: [{from: a, to: c}]}}}"), "@.loadBalancer.localityLbSetting: failover without outlierDetection: nothing will fail over: write outlierDetection too"],
    [policy("{loadBalancer: {localityLbSetting: {failoverPriority: [a]}}}"), "@.loadBalancer.localityLbSetting: failoverPriority without outlierDetection: nothing will fail over: write outlierDetection too"],
    [policy("{outlierDetection: {consecutiveErrors: 5}}"), "@.outlierDetection.consecutiveErrors: has no effect any more: write consecutive5xxErrors"],
    [policy("{tls: {mode: ISTIO_MUTUAL}}"), "@.tls: mode ISTIO_MUTUAL has no effect in an ambient mesh, which encrypts anyway: leave it out"],
    [policy("{tls: {mode: ISTIO_MUTUAL, caCertificates: /a}}"), "@.tls: mode ISTIO_MUTUAL has no effect in an ambient mesh, which encrypts anyway: leave it out"],
    [policy("{connectionPool: {tcp: {maxConnections: 1}}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}"), "@.portLevelSettings[0]: replaces connectionPool of the whole policy for port 80: repeat them here if they are needed"],
    [policy("{loadBalancer: {simple: PASSTHROUGH, warmup: {duration: 1s}}}"), "@.loadBalancer.warmup: has no effect with PASSTHROUGH: write simple: ROUND_ROBIN or LEAST_REQUEST, or leave it out"],
    [policy("{loadBalancer: {consistentHash: {useSourceIp: true}, warmup: {duration: 1s}}}"), "@.loadBalancer.warmup: has no effect with consistentHash: write simple: ROUND_ROBIN or LEAST_REQUEST, or leave it out"],
  ])("%s", (spec, messages) => {
    expect(told("error", spec)).toEqual([]);
    expect(told("warning", spec)).toEqual(whole(messages));
  });
});

// prettier-ignore
test.each([
  ['{host: "*"}'],
  [policy("{loadBalancer: {}}")],
  [policy("{loadBalancer: {simple: LEAST_CONN}}")],
  [policy("{loadBalancer: {warmup: {duration: 1s}, warmupDurationSecs: 1s}}")],
  [policy("{loadBalancer: {consistentHash: {useSourceIp: false}}}")],
  [policy("{loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: 0s}}}}")],
  [policy("{connectionPool: {tcp: {idleTimeout: 0s}}}")],
  [policy("{tls: {}}")],
  [policy("{retryBudget: {budgetInterval: 0s}}")],
  [policy("{loadBalancer: {localityLbSetting: {failoverPriority: [topology.kubernetes.io/zone]}}, outlierDetection: {}}")],
])("%s is fine", (spec) => {
  expect(problems(spec)).toEqual([]);
});
