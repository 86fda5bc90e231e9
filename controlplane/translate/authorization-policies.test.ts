import { describe, expect, test } from "@jest/globals";
import { pod, policy, serve } from "./small-world.ts";

type Json = Readonly<Record<string, unknown>>;

function groupsOf(spec: Json): unknown {
  return serve([policy("cfg/p", spec)]).authorization("cfg/p")?.["groups"] ?? [];
}
const rule = (...clauses: readonly (readonly Json[])[]) => ({ rules: clauses.map((matches) => ({ matches })) });
const from = (source: Json): Json => ({ from: [{ source }] });
const to = (operation: Json): Json => ({ to: [{ operation }] });
const when = (key: string, values: readonly string[], notValues: readonly string[] = []): Json => ({
  when: [{ key, values, ...(notValues.length > 0 ? { notValues } : {}) }],
});
/** The address octets in base64. */
const bytes = (...octets: readonly number[]): string => Buffer.from(octets).toString("base64");

const l7: readonly Json[] = [
  from({ requestPrincipals: ["a/b"] }),
  from({ notRequestPrincipals: ["*"] }),
  from({ remoteIpBlocks: ["10.0.0.0/8"] }),
  from({ notRemoteIpBlocks: ["10.0.0.0/8"] }),
  from({ trustDomains: ["a"] }),
  from({ notTrustDomains: ["a"] }),
  to({ methods: ["GET"] }),
  to({ notMethods: ["GET"] }),
  to({ hosts: ["a"] }),
  to({ notHosts: ["a"] }),
  to({ paths: ["/x"] }),
  to({ notPaths: ["/x"] }),
  when("request.headers[x]", ["y"]),
  when("remote.ip", ["10.0.0.1"]),
  when("request.auth.principal", ["a"]),
  when("request.auth.audiences", ["a"]),
  when("request.auth.presenter", ["a"]),
  when("request.auth.claims[iss]", ["a"]),
  when("connection.sni", ["a"]),
  when("experimental.envoy.filters.a.b[c]", ["a"]),
  when("source.serviceAccount", ["a"]),
  when("source.trustDomain", ["a"]),
];

describe("each attribute by itself", () => {
  test.each<[Json, readonly unknown[]]>([
    [
      from({ principals: ["td/ns/a/sa/b", "td/*", "*/b", "*"] }),
      [rule([{ principals: [{ exact: "td/ns/a/sa/b" }, { prefix: "td/" }, { suffix: "/b" }, { presence: {} }] }])],
    ],
    [from({ notPrincipals: ["a"] }), [rule([{ notPrincipals: [{ exact: "a" }] }])]],
    [
      from({ serviceAccounts: ["other/sa", "bare"], notServiceAccounts: ["x"] }),
      [
        rule([
          {
            serviceAccounts: [
              { namespace: "other", serviceAccount: "sa" },
              { namespace: "cfg", serviceAccount: "bare" },
            ],
            notServiceAccounts: [{ namespace: "cfg", serviceAccount: "x" }],
          },
        ]),
      ],
    ],
    [
      from({ namespaces: ["a*"], notNamespaces: ["*b"] }),
      [rule([{ namespaces: [{ prefix: "a" }], notNamespaces: [{ suffix: "b" }] }])],
    ],
    [
      from({ ipBlocks: ["1.2.3.4", "5.6.0.7/16", "0.0.0.0/0"], notIpBlocks: ["1.2.3.4/31"] }),
      [
        rule([
          {
            sourceIps: [
              { address: bytes(1, 2, 3, 4), length: 32 },
              { address: bytes(5, 6, 0, 7), length: 16 },
              { address: bytes(0, 0, 0, 0) },
            ],
            notSourceIps: [{ address: bytes(1, 2, 3, 4), length: 31 }],
          },
        ]),
      ],
    ],
    [
      from({ ipBlocks: ["::ffff:1.2.3.4", "fe80::1%eth0"] }),
      [
        rule([
          {
            sourceIps: [
              { address: bytes(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4), length: 128 },
              { address: bytes(0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), length: 128 },
            ],
          },
        ]),
      ],
    ],
    [
      from({ ipBlocks: ["garbage", "1.2.3.4/33", "10.0.0.1"] }),
      [rule([{ sourceIps: [{ address: bytes(10, 0, 0, 1), length: 32 }] }])],
    ],
    [
      to({ ports: ["80", "90"], notPorts: ["800"] }),
      [rule([{ destinationPorts: [80, 90], notDestinationPorts: [800] }])],
    ],
    [to({ ports: ["80", "70000", "http", "-1", "65535"] }), [rule([{ destinationPorts: [80, 65_535] }])]],
    [when("source.ip", ["10.0.0.1"]), [rule([{ sourceIps: [{ address: bytes(10, 0, 0, 1), length: 32 }] }])]],
    [
      when("source.namespace", ["a"], ["b"]),
      [rule([{ namespaces: [{ exact: "a" }], notNamespaces: [{ exact: "b" }] }])],
    ],
    [when("source.principal", ["*"]), [rule([{ principals: [{ presence: {} }] }])]],
    [
      when("destination.ip", ["10.0.0.0/8"]),
      [rule([{ destinationIps: [{ address: bytes(10, 0, 0, 0), length: 8 }] }])],
    ],
    [when("destination.port", ["80"], ["81"]), [rule([{ destinationPorts: [80], notDestinationPorts: [81] }])]],
  ])("%j", (written, groups) => {
    expect(groupsOf({ rules: [written] })).toEqual(groups);
    expect(groupsOf({ action: "DENY", rules: [written] })).toEqual(groups);
  });

  test.each(l7)("%j is not for node proxies", (written) => {
    const served = serve([policy("cfg/p", { rules: [written] })]);
    expect(served.authorization("cfg/p")).toEqual({ name: "p", namespace: "cfg", scope: "NAMESPACE" });
    expect(served.conditions("AuthorizationPolicy", "cfg/p")).toEqual(["ZtunnelAccepted=True/UnsupportedValue"]);
    // A match without fields is never satisfied, so this group denies nothing.
    expect(groupsOf({ action: "DENY", rules: [written] })).toEqual([rule([{}])]);
  });

  test("a namespace of one trust domain is not allowed as a namespace of any", () => {
    const written = { rules: [from({ trustDomains: ["a"], namespaces: ["b"] })] };
    expect(groupsOf(written)).toEqual([]);
    expect(groupsOf({ ...written, action: "DENY" })).toEqual([rule([{ namespaces: [{ exact: "b" }] }])]);
  });
});

describe("rules that mix both layers", () => {
  const rules: readonly Json[] = [
    {
      ...to({ ports: ["80"] }),
      from: [{ source: { namespaces: ["mixed"], requestPrincipals: ["r"] } }, { source: { principals: ["p"] } }],
    },
    { to: [{ operation: { ports: ["80"], methods: ["GET"] } }], from: [{ source: { namespaces: ["n"] } }] },
    {
      ...to({ ports: ["80"] }),
      from: [{ source: { namespaces: ["only-l4"] } }, { source: { principals: ["only-l4"] } }],
    },
    { ...to({ methods: ["GET"] }), ...from({ requestPrincipals: ["r"] }) },
    {
      when: [...(when("source.namespace", ["a"])["when"] as []), ...(when("request.headers[x]", ["y"])["when"] as [])],
    },
    {
      when: [
        ...(when("source.namespace", ["a"])["when"] as []),
        ...(when("source.ip", ["10.10.10.10"], ["10.10.10.11"])["when"] as []),
      ],
    },
    {
      when: [
        ...(when("request.headers[x]", ["y"])["when"] as []),
        ...(when("request.headers[z]", ["y"])["when"] as []),
      ],
    },
  ];
  const ten = (last: number) => [{ address: bytes(10, 10, 10, last), length: 32 }];
  const onlyL4 = rule(
    [{ destinationPorts: [80] }],
    [{ namespaces: [{ exact: "only-l4" }] }, { principals: [{ exact: "only-l4" }] }],
  );
  const whenL4 = rule([{ namespaces: [{ exact: "a" }] }], [{ sourceIps: ten(10), notSourceIps: ten(11) }]);

  test("ALLOW keeps the pure ones only", () => {
    expect(groupsOf({ rules })).toEqual([onlyL4, whenL4]);
  });

  test("DENY keeps all, without what it cannot see", () => {
    expect(groupsOf({ action: "DENY", rules })).toEqual([
      rule([{ destinationPorts: [80] }], [{ namespaces: [{ exact: "mixed" }] }, { principals: [{ exact: "p" }] }]),
      rule([{ destinationPorts: [80] }], [{ namespaces: [{ exact: "n" }] }]),
      onlyL4,
      rule([{}], [{}]),
      rule([{ namespaces: [{ exact: "a" }] }], [{}]),
      whenL4,
      rule([{}], [{}]),
    ]);
  });
});

describe("envelope", () => {
  test.each([
    ["shop/p", {}, "NAMESPACE"],
    ["istio-system/p", {}, undefined],
    ["shop/p", { selector: { matchLabels: { app: "cart" } } }, "WORKLOAD_SELECTOR"],
    ["istio-system/p", { selector: { matchLabels: { app: "cart" } } }, "WORKLOAD_SELECTOR"],
  ])("%s %j has scope %s", (path, spec, scope) => {
    const served = serve([pod("shop/cart"), policy(path, spec)]);
    expect(served.authorization(path)?.["scope"]).toBe(scope);
    const listed = scope === "WORKLOAD_SELECTOR" ? [path] : undefined;
    expect(served.pod("shop/cart")["authorizationPolicies"]).toEqual(listed);
  });

  test.each([
    ["AUDIT", {}],
    ["CUSTOM", {}],
    ["ALLOW", { annotations: { "istio.io/dry-run": "true" } }],
  ])("%s %j is not sent, not listed, and reported", (action, meta) => {
    const spec = { selector: { matchLabels: { app: "cart" } }, action, rules: [{}] };
    const served = serve([pod("shop/cart"), policy("shop/p", spec, meta)]);
    expect(served.authorizationNames).toEqual([]);
    expect(served.pod("shop/cart")["authorizationPolicies"]).toBeUndefined();
    expect(served.conditions("AuthorizationPolicy", "shop/p")).toEqual(["ZtunnelAccepted=False/UnsupportedValue"]);
  });

  test("dry run is sent where the control plane is told to", () => {
    const served = serve([policy("shop/p", {}, { annotations: { "istio.io/dry-run": "true" } })], {
      dryRunPolicies: true,
    });
    expect(served.authorization("shop/p")).toMatchObject({ dryRun: true });
    expect(served.conditions("AuthorizationPolicy", "shop/p")).toEqual(["ZtunnelAccepted=True/Accepted"]);
  });

  test("without status there is none", () => {
    expect(serve([policy("shop/p", {})], { writeStatus: false }).form.status).toEqual([]);
  });
});
