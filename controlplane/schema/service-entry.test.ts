import { describe, expect, test } from "@jest/globals";
import type { Problem } from "./problem.ts";
import { lines, problemsOf } from "./testing/told.ts";

const versions = { ServiceEntry: "networking.istio.io/v1", WorkloadEntry: "networking.istio.io/v1" };

const told = (severity: Problem["severity"], kind: keyof typeof versions, spec: string): readonly string[] =>
  lines(problemsOf(versions[kind], kind, spec), severity);

// prettier-ignore
test.each<[keyof typeof versions, string, string | string[]]>([ // kind, spec, everything that is wrong with it
  ["ServiceEntry", "{}", "spec.hosts: is missing: write a list"],
  ["ServiceEntry", "{hosts: []}", "spec.hosts: must not be empty: write an entry, or leave the field out"],
  ["ServiceEntry", '{hosts: ["*"], ports: [{number: 80, name: http, protocol: HTTP}]}', 'spec.hosts[0]: "*" is every host: name the service, or a suffix such as *.example.com'],
  ["ServiceEntry", '{hosts: [a.com], addresses: ["10.0.0.0/8"], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}', 'spec.addresses[0]: "10.0.0.0/8" is a range, which resolution DNS does not take: write single addresses'],
  ["ServiceEntry", '{hosts: [a.com], addresses: ["1.2.3"], ports: [{number: 80, name: http, protocol: HTTP}]}', 'spec.addresses[0]: "1.2.3" is not an IP address or range: write it as 10.0.0.7 or 10.0.0.0/8'],
  ["ServiceEntry", '{hosts: ["*.a.com"], addresses: ["1.2.3.4"], resolution: DYNAMIC_DNS, ports: [{number: 80, name: http, protocol: HTTP}]}', "spec.addresses: DYNAMIC_DNS takes no addresses: leave them out"],
  ["ServiceEntry", '{hosts: ["a.com"], resolution: DYNAMIC_DNS, ports: [{number: 80, name: http, protocol: HTTP}]}', 'spec.hosts[0]: DYNAMIC_DNS hosts must be wildcards: "a.com" is not: use resolution DNS for a single name'],
  ["ServiceEntry", '{hosts: ["*.a.com"], resolution: DYNAMIC_DNS, ports: [{number: 80, name: http, protocol: TCP}]}', "spec.ports[0].protocol: DYNAMIC_DNS cannot serve TCP: write HTTP, HTTP2, GRPC or TLS"],
  ["ServiceEntry", '{hosts: ["*.a.com"], resolution: DYNAMIC_DNS, endpoints: [{address: 1.2.3.4}], ports: [{number: 80, name: http, protocol: HTTP}]}', "spec.endpoints: resolution DYNAMIC_DNS takes no endpoints: leave them out"],
  ["ServiceEntry", '{hosts: ["*.a.com"], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}', 'spec.hosts[0]: "*.a.com" cannot be resolved: write endpoints, or a whole name'],
  ["ServiceEntry", "{hosts: [a.com], resolution: NONE, endpoints: [{address: 1.2.3.4}], ports: [{number: 80, name: http, protocol: HTTP}]}", "spec.endpoints: resolution NONE takes no endpoints: leave them out, or use resolution STATIC"],
  ["ServiceEntry", "{hosts: [a.com], resolution: STATIC, endpoints: [{address: b.com}], ports: [{number: 80, name: http, protocol: HTTP}]}", 'spec.endpoints[0].address: "b.com" is not an IP address: write one, or use resolution DNS'],
  ["ServiceEntry", "{hosts: [a.com], resolution: DNS_ROUND_ROBIN, endpoints: [{address: b.com}, {address: c.com}], ports: [{number: 80, name: http, protocol: HTTP}]}", "spec.endpoints: resolution DNS_ROUND_ROBIN takes one endpoint, found 2: use resolution DNS"],
  ["ServiceEntry", '{hosts: [a.com], resolution: DNS, endpoints: [{address: "b_c"}], ports: [{number: 80, name: http, protocol: HTTP}]}', 'spec.endpoints[0].address: "b_c" is not a host name: it has the label "b_c": write a DNS name such as api.example.com'],
  ["ServiceEntry", '{hosts: [a.com], resolution: STATIC, endpoints: [{address: "unix:///a"}], ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: http2, protocol: HTTP}]}', "spec.endpoints[0].address: a unix socket serves exactly one port, the entry has 2: write one port"],
  ["ServiceEntry", '{hosts: [a.com], resolution: STATIC, endpoints: [{address: "unix:///a", ports: {http: 1}}], ports: [{number: 80, name: http, protocol: HTTP}]}', "spec.endpoints[0].ports: a unix socket has no ports: leave ports out"],
  ["ServiceEntry", '{hosts: [a.com], resolution: STATIC, endpoints: [{address: "1.2.3.4", ports: {nope: 1}}], ports: [{number: 80, name: http, protocol: HTTP}]}', 'spec.endpoints[0].ports.nope: "nope" is no port of this entry: ports are http'],
  ["ServiceEntry", '{hosts: [a.com], resolution: STATIC, endpoints: [{address: "1.2.3.4", ports: {http: 70000}}], ports: [{number: 80, name: http, protocol: HTTP}]}', "spec.endpoints[0].ports.http: 70000 is out of range: write at most 65535"],
  ["ServiceEntry", "{hosts: [a.com], resolution: STATIC, endpoints: [{}], ports: [{number: 80, name: http, protocol: HTTP}]}", "spec.endpoints[0]: has neither address nor network: write the address of the workload"],
  ["ServiceEntry", "{hosts: [a.com], resolution: STATIC, endpoints: [{address: 1.2.3.4}], workloadSelector: {labels: {a: b}}, ports: [{number: 80, name: http, protocol: HTTP}]}", "spec.endpoints: excludes workloadSelector, which is written too: keep one of them"],
  ["ServiceEntry", "{hosts: [a.com, b.com], resolution: STATIC, ports: [{number: 80, name: tcp, protocol: TCP}]}", "spec.ports[0]: several hosts cannot share the TCP port: write one ServiceEntry for each host"],
  ["ServiceEntry", "{hosts: [a.com], ports: [{number: 80, name: http, protocol: NOPE}]}", 'spec.ports[0].protocol: unknown protocol "NOPE": write one of HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, MYSQL, REDIS, TCP, TLS, UDP'],
  ["ServiceEntry", "{hosts: [a.com], ports: [{number: 80, name: a, protocol: HTTP}, {number: 80, name: b, protocol: HTTP}]}", "spec.ports[1].number: 80 repeats that of entry 0: give each entry its own"],
  ["ServiceEntry", "{hosts: [a.com], ports: [{number: 80, name: a, protocol: HTTP}, {number: 81, name: a, protocol: HTTP}]}", 'spec.ports[1].name: "a" repeats that of entry 0: give each entry its own'],
  ["ServiceEntry", "{hosts: [a.com], ports: [{number: 0, name: a, protocol: HTTP}]}", "spec.ports[0].number: 0 is out of range: write at least 1"],
  ["ServiceEntry", '{hosts: [a.com], ports: [{number: 80, name: "A_", protocol: HTTP}]}', 'spec.ports[0].name: "A_" is not a DNS label: use lower-case letters, digits and "-", and begin and end with a letter or digit'],
  ["ServiceEntry", "{hosts: [a.com], ports: [{number: 80, protocol: HTTP}]}", "spec.ports[0].name: is missing: write text"],
  ["ServiceEntry", "{hosts: [a.com], ports: [{number: 80, name: a, targetPort: 70000}]}", "spec.ports[0].targetPort: 70000 is out of range: write at most 65535"],
  ["ServiceEntry", '{hosts: [a.com], workloadSelector: {labels: {"a": "*"}}, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}]}', 'spec.workloadSelector.labels.a: "a: *" holds "*": labels are compared as they are: write the whole value'],
  ["ServiceEntry", '{hosts: [a.com], exportTo: ["~", "a"], ports: [{number: 80, name: http, protocol: HTTP}]}', 'spec.exportTo[0]: "~" stands beside other namespaces: write it alone'],
  ["ServiceEntry", "{hosts: [a.com], location: NOWHERE, ports: [{number: 80, name: http, protocol: HTTP}]}", 'spec.location: "NOWHERE" is not one of MESH_EXTERNAL, MESH_INTERNAL: write one of MESH_EXTERNAL, MESH_INTERNAL'],
  ["WorkloadEntry", "{}", "spec: has neither address nor network: write the address of the workload"],
  ["WorkloadEntry", '{address: "unix://"}', 'spec.address: "unix://" is not a socket path: write it as unix:///run/app.sock or unix://@name'],
  ["WorkloadEntry", '{address: "unix:///a/"}', 'spec.address: "unix:///a/" is not a socket path: write it as unix:///run/app.sock or unix://@name'],
  ["WorkloadEntry", '{address: 1.2.3.4, ports: {"a_b": 1}}', 'spec.ports.a_b: "a_b" is not a port name: use letters, digits and "-", fewer than 63'],
  ["WorkloadEntry", "{address: 1.2.3.4, ports: {a: 0}}", "spec.ports.a: 0 is out of range: write at least 1"],
  ["WorkloadEntry", '{address: 1.2.3.4, labels: {"a b": c}}', 'spec.labels["a b"]: "a b" is not a label key: write it as "app" or "example.com/app"'],
  ["WorkloadEntry", '{address: "unix:///a", ports: {a: 1}}', "spec.ports: a unix socket has no ports: leave ports out"],
  ["WorkloadEntry", '{address: "a b"}', 'spec.address: "a b" is not a host name: it has the label "a b": write a DNS name such as api.example.com'],
  ["WorkloadEntry", "{address: 1.2.3.4, weight: -1}", "spec.weight: -1 is out of range: write at least 0"],
  ["ServiceEntry", "{hosts: ['*-a.foo.com'], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}", 'spec.hosts[0]: "*-a.foo.com" cannot be resolved: write endpoints, or a whole name'],
  ["ServiceEntry", "{hosts: [a.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 'unix:///a'}]}", "spec.endpoints[0].address: a unix socket needs resolution STATIC: write resolution: STATIC"],
  ["ServiceEntry", "{hosts: [a.com], resolution: STATIC, addresses: [a.b], ports: [{number: 80, name: http, protocol: HTTP}]}", 'spec.addresses[0]: "a.b" is not an IP address or range: write it as 10.0.0.7 or 10.0.0.0/8'],
  ["ServiceEntry", '{hosts: ["*.a.com"], resolution: DYNAMIC_DNS, ports: [{number: 80, name: http, protocol: HTTPS}]}', "spec.ports[0].protocol: DYNAMIC_DNS cannot serve HTTPS: write HTTP, HTTP2, GRPC or TLS"],
  ["ServiceEntry", '{hosts: ["*.a.com"], resolution: DYNAMIC_DNS, ports: [{number: 80, name: http, protocol: GRPC-WEB}]}', "spec.ports[0].protocol: DYNAMIC_DNS cannot serve GRPC-WEB: write HTTP, HTTP2, GRPC or TLS"],
  ["ServiceEntry", "{hosts: [a.com], resolution: static}", 'spec.resolution: "static" is not one of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS: did you mean "STATIC"?'],
  ["ServiceEntry", "{hosts: [a.com], resolution: 1}", "spec.resolution: 1 is not one of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS: write one of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS"],
  ["ServiceEntry", "{hosts: [a.com], addresses: [10.0.0.0/8], resolution: DNS_ROUND_ROBIN, ports: [{number: 80, name: http, protocol: HTTP}]}", 'spec.addresses[0]: "10.0.0.0/8" is a range, which resolution DNS_ROUND_ROBIN does not take: write single addresses'],
  ["ServiceEntry", "{hosts: [a.com, b.com], resolution: DNS, ports: [{number: 80, name: tcp, protocol: MONGO}]}", "spec.ports[0]: several hosts cannot share the MONGO port: write one ServiceEntry for each host"],
  ["WorkloadEntry", "{address: '*.a.com'}", 'spec.address: "*.a.com" is not a host name: it has "*" in the label "*": write a DNS name such as api.example.com'],
  ["WorkloadEntry", "{address: 1.2.3.4, serviceAccount: 5}", 'spec.serviceAccount: expected text, found the number 5: put it in quotes: "5"'],
])("%s %s", (kind, spec, messages) => {
  expect(told("error", kind, spec)).toEqual([messages].flat());
});

describe("accepted with a warning", () => {
  // prettier-ignore
  test.each<[keyof typeof versions, string, string | string[]]>([
    ["ServiceEntry", '{hosts: ["*-a.foo.com"], ports: [{number: 80, name: http, protocol: HTTP}]}', 'spec.hosts[0]: "*-a.foo.com" is a partial wildcard: write a whole label: "*.example.com"'],
    ["ServiceEntry", "{hosts: [a.com], resolution: NONE, workloadSelector: {labels: {a: b}}, ports: [{number: 80, name: http, protocol: HTTP}]}", "spec.workloadSelector: has no effect with resolution NONE: use resolution STATIC"],
    ["ServiceEntry", "{hosts: [a.com], workloadSelector: {labels: {}}, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}]}", "spec.workloadSelector: selects every pod of the namespace: leave the selector out to say so, or name labels"],
    ["WorkloadEntry", '{address: "", network: n}', "spec: has no address: it is reached through the gateway of its network: make sure that there is one"],
    ["WorkloadEntry", "{network: n}", "spec: has no address: it is reached through the gateway of its network: make sure that there is one"],
    ["ServiceEntry", "{hosts: [a.com, b.com], resolution: NONE, ports: [{number: 80, name: tcp, protocol: TCP}]}", "spec.ports[0]: a TCP port needs an address, and resolution NONE gives none: write addresses, or the protocol if it is HTTP or TLS"],
    ["ServiceEntry", "{hosts: [a.com], ports: [{number: 80, name: x}]}", "spec.ports[0]: a port without protocol needs an address, and resolution NONE gives none: write addresses, or the protocol if it is HTTP or TLS"],
  ])("%s %s", (kind, spec, messages) => {
    expect(told("error", kind, spec)).toEqual([]);
    expect(told("warning", kind, spec)).toEqual([messages].flat());
  });
});

// prettier-ignore
test.each<[keyof typeof versions, string]>([
  ["ServiceEntry", "{hosts: [a.com], ports: [{number: 80, name: http, protocol: http}]}"],
  ["ServiceEntry", "{hosts: [a.com], ports: [{number: 80, name: tcp, protocol: TCP}], resolution: DNS}"],
  ["ServiceEntry", "{hosts: [a.com], addresses: [10.0.0.0/8], ports: [{number: 80, name: x}]}"],
  ["ServiceEntry", "{hosts: [a.com], resolution: STATIC, ports: [{number: 80, name: x, protocol: TCP}]}"],
])("%s %s is fine", (kind, spec) => {
  expect([...told("error", kind, spec), ...told("warning", kind, spec)]).toEqual([]);
});
