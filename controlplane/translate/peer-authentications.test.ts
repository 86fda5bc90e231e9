/** Modes of mesh, namespace and workload against what is published and what the workload refers to. */
import { describe, expect, test } from "@jest/globals";
import { meshConfig, peerAuthentication, pod, serve } from "./small-world.ts";

type Ports = Readonly<Record<string, string>>;

interface Case {
  readonly mesh?: string;
  readonly namespace?: string;
  readonly workload?: string;
  readonly ports?: Ports;
  /** Clauses of each group of the converted policy: P = nobody without identity, N80 = not port 80, Q80 = both on 80. */
  readonly published?: string;
  readonly refers: readonly ("static" | "converted")[];
}

const cases: readonly Case[] = [
  { refers: [] },
  { mesh: "STRICT", refers: ["static"] },
  { mesh: "PERMISSIVE", refers: [] },
  { mesh: "STRICT", namespace: "PERMISSIVE", refers: [] },
  { mesh: "STRICT", namespace: "UNSET", refers: ["static"] },
  { mesh: "PERMISSIVE", namespace: "STRICT", refers: ["static"] },
  { mesh: "STRICT", workload: "DISABLE", refers: [] },
  { workload: "STRICT", refers: ["static"] },
  { mesh: "STRICT", workload: "UNSET", refers: ["static"] },
  // STRICT with ports
  { workload: "STRICT", ports: { 9090: "STRICT" }, refers: ["static"] },
  { workload: "STRICT", ports: { 9090: "UNSET" }, refers: ["static"] },
  { workload: "STRICT", ports: { 9090: "DISABLE" }, published: "P N9090", refers: ["converted"] },
  { workload: "STRICT", ports: { 9090: "PERMISSIVE" }, published: "P N9090", refers: ["converted"] },
  {
    workload: "STRICT",
    ports: { 9090: "STRICT", 8080: "PERMISSIVE" },
    published: "P N8080",
    refers: ["converted"],
  },
  {
    mesh: "STRICT",
    workload: "STRICT",
    ports: { 9090: "PERMISSIVE", 80: "DISABLE" },
    published: "P N80 N9090 P",
    refers: ["converted"],
  },
  // PERMISSIVE and DISABLE with ports
  { workload: "PERMISSIVE", ports: { 9090: "STRICT" }, published: "Q9090", refers: ["converted"] },
  { workload: "DISABLE", ports: { 9090: "STRICT" }, published: "Q9090", refers: ["converted"] },
  {
    workload: "PERMISSIVE",
    ports: { 9090: "STRICT", 8080: "PERMISSIVE" },
    published: "Q9090",
    refers: ["converted"],
  },
  {
    workload: "PERMISSIVE",
    ports: { 9090: "STRICT", 8080: "STRICT" },
    published: "Q8080 | Q9090",
    refers: ["converted"],
  },
  { workload: "PERMISSIVE", ports: { 9090: "PERMISSIVE" }, refers: [] },
  {
    mesh: "STRICT",
    namespace: "PERMISSIVE",
    workload: "PERMISSIVE",
    ports: { 9090: "STRICT" },
    published: "Q9090",
    refers: ["converted"],
  },
  { namespace: "STRICT", workload: "DISABLE", ports: { 9090: "STRICT" }, published: "Q9090", refers: ["converted"] },
  // Istio's irregularity: the port counts as covered by the mesh, though the workload has opted out of it.
  { mesh: "STRICT", workload: "PERMISSIVE", ports: { 9090: "STRICT" }, refers: ["converted"] },
  // UNSET with ports, nothing strict above
  { workload: "UNSET", ports: { 8080: "STRICT" }, published: "Q8080", refers: ["converted"] },
  { mesh: "PERMISSIVE", workload: "UNSET", ports: { 8080: "PERMISSIVE" }, refers: [] },
  {
    mesh: "PERMISSIVE",
    namespace: "UNSET",
    workload: "UNSET",
    ports: { 9090: "STRICT", 8080: "PERMISSIVE" },
    published: "Q9090",
    refers: ["converted"],
  },
  // UNSET with ports, strict above
  { mesh: "STRICT", workload: "UNSET", ports: { 9090: "PERMISSIVE" }, published: "N9090 P", refers: ["converted"] },
  {
    mesh: "PERMISSIVE",
    namespace: "STRICT",
    workload: "UNSET",
    ports: { 9090: "PERMISSIVE" },
    published: "N9090 P",
    refers: ["converted"],
  },
  {
    mesh: "STRICT",
    workload: "UNSET",
    ports: { 9090: "PERMISSIVE", 8080: "STRICT" },
    published: "N9090 P",
    refers: ["converted"],
  },
  // Published, yet not referred to: Istio looks for PERMISSIVE only.
  { mesh: "STRICT", workload: "UNSET", ports: { 9090: "DISABLE" }, published: "N9090 P", refers: ["static"] },
  { mesh: "STRICT", workload: "UNSET", ports: { 9090: "STRICT" }, refers: ["static"] },
  // Referred to, yet not published: Istio's fail-open case.
  { mesh: "STRICT", namespace: "UNSET", workload: "UNSET", ports: { 9090: "PERMISSIVE" }, refers: ["converted"] },
];

const spec = (mode: string) => (mode === "UNSET" ? {} : { mtls: { mode } });
const ports = (modes: Ports) => Object.fromEntries(Object.entries(modes).map(([port, mode]) => [port, { mode }]));

const notes = ({ mesh = "-", namespace = "-", workload = "-", ports: modes = {} }: Case) =>
  `mesh ${mesh}, namespace ${namespace}, workload ${workload} ${JSON.stringify(modes)}`;

type Rule = {
  readonly matches: readonly {
    readonly notPrincipals?: readonly unknown[];
    readonly destinationPorts?: readonly number[];
    readonly notDestinationPorts?: readonly number[];
  }[];
};

const shorthand = (groups: readonly { readonly rules: readonly Rule[] }[]): string =>
  groups
    .map(({ rules }) =>
      rules
        .map(({ matches: [match] }) => {
          if (match?.notDestinationPorts !== undefined) return `N${match.notDestinationPorts.join()}`;
          expect(match?.notPrincipals).toEqual([{ presence: {} }]);
          return match?.destinationPorts === undefined ? "P" : `Q${match.destinationPorts.join()}`;
        })
        .join(" "),
    )
    .join(" | ");

test.each(cases.map((each) => [notes(each), each] as const))("%s", (_, { refers, published, ...given }) => {
  const { mesh, namespace, workload } = given;
  const served = serve([
    pod("shop/cart"),
    ...(mesh === undefined ? [] : [peerAuthentication("istio-system/mesh", spec(mesh))]),
    ...(namespace === undefined ? [] : [peerAuthentication("shop/namespace", spec(namespace))]),
    ...(workload === undefined
      ? []
      : [
          peerAuthentication("shop/own", {
            selector: { matchLabels: { app: "cart" } },
            ...spec(workload),
            ...(given.ports === undefined ? {} : { portLevelMtls: ports(given.ports) }),
          }),
        ]),
  ]);
  const names = {
    static: "istio-system/istio_converted_static_strict",
    converted: "shop/converted_peer_authentication_own",
  };
  expect(served.pod("shop/cart")["authorizationPolicies"] ?? []).toEqual(refers.map((each) => names[each]));
  const converted = served.authorization(names.converted);
  expect(converted === undefined ? undefined : shorthand(converted["groups"] as never)).toBe(published);
  expect(converted ?? { action: "DENY", scope: "WORKLOAD_SELECTOR" }).toMatchObject({
    action: "DENY",
    scope: "WORKLOAD_SELECTOR",
  });
  const isAny = mesh !== undefined || namespace !== undefined || workload !== undefined;
  expect(served.authorizationNames.includes(names.static)).toBe(isAny);
});

test("a namespace's policy that says nothing leaves the mesh's in force", () => {
  const served = serve([
    peerAuthentication("istio-system/mesh", { mtls: { mode: "STRICT" } }),
    peerAuthentication("shop/namespace", {}),
    peerAuthentication("shop/own", {
      selector: { matchLabels: { app: "cart" } },
      mtls: { mode: "STRICT" },
      portLevelMtls: { 80: { mode: "PERMISSIVE" } },
    }),
  ]);
  const converted = served.authorization("shop/converted_peer_authentication_own");
  expect(shorthand(converted?.["groups"] as never)).toBe("P N80 P");
});

describe("of several", () => {
  const strict = { mtls: { mode: "STRICT" } };
  const permissive = { mtls: { mode: "PERMISSIVE" } };
  const young = { creationTimestamp: "2026-06-01T00:00:00Z" };
  const old = { creationTimestamp: "2026-05-01T00:00:00Z" };

  test("the oldest of a level counts", () => {
    const served = serve([
      pod("shop/cart"),
      peerAuthentication("istio-system/a", permissive, young),
      peerAuthentication("istio-system/b", strict, old),
    ]);
    expect(served.pod("shop/cart")["authorizationPolicies"]).toEqual(["istio-system/istio_converted_static_strict"]);
  });

  test("of the same age, the first written", () => {
    const served = serve([
      pod("shop/cart"),
      peerAuthentication("shop/z", strict),
      peerAuthentication("shop/a", permissive),
    ]);
    expect(served.pod("shop/cart")["authorizationPolicies"]).toEqual(["istio-system/istio_converted_static_strict"]);
  });

  test("one with a selector in the root namespace counts for nobody", () => {
    const served = serve([
      pod("istio-system/cart"),
      peerAuthentication("istio-system/a", { selector: { matchLabels: { app: "cart" } }, ...strict }),
    ]);
    expect(served.pod("istio-system/cart")["authorizationPolicies"]).toBeUndefined();
  });
});

test("the root namespace is configurable", () => {
  const served = serve([
    meshConfig({ rootNamespace: "mesh" }),
    pod("shop/cart"),
    peerAuthentication("mesh/a", { mtls: { mode: "STRICT" } }),
  ]);
  expect(served.authorizationNames).toEqual(["mesh/istio_converted_static_strict"]);
  expect(served.pod("shop/cart")["authorizationPolicies"]).toEqual(["mesh/istio_converted_static_strict"]);
});
