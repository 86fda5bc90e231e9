import { expect, test } from "@jest/globals";
import type { ClientStatus } from "#shared/xds/served-stream.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import type { StatusUpdate } from "#controlplane/translate/status.ts";
import { replicasOf, withEnforcement } from "./enforcement.ts";

type State = ClientStatus["types"][number]["state"];

const replica = (state: State, gateway = "wp"): ClientStatus => ({
  id: "1",
  peer: "",
  node: {
    id: "",
    type: "waypoint",
    ips: [],
    podName: "",
    namespace: "shop",
    metadata: { LABELS: { "gateway.networking.k8s.io/gateway-name": gateway } },
  },
  identities: [],
  connectedAtMs: 0,
  types: [{ typeUrl: typeUrls.listener, wildcard: true, subscribed: [], state }],
});

const policy = (accepted: "True" | "False", ...waypoints: readonly (readonly [string, number])[]): StatusUpdate => ({
  apiVersion: "policy.ambit.dev/v1alpha1",
  kind: "RateLimitPolicy",
  namespace: "shop",
  name: "p",
  fieldManager: "m",
  ownedConditions: ["Accepted", "Enforced"],
  enforcedBy: waypoints.map(([waypoint, readyReplicas]) => ({ waypoint, readyReplicas })),
  status: { conditions: [{ type: "Accepted", status: accepted, reason: "Conflicted", message: "" }] },
});

// prettier-ignore
test.each<[string, StatusUpdate, readonly ClientStatus[], string]>([ // why, policy, replicas, condition
  ["every replica has it",                   policy("True", ["shop/wp", 2]),                    [replica("SYNCED"), replica("SYNCED")],         "True/Enforced"],
  ["one has not taken it yet",               policy("True", ["shop/wp", 2]),                    [replica("SYNCED"), replica("STALE")],          "False/Pending"],
  ["one was sent nothing yet",               policy("True", ["shop/wp", 1]),                    [replica("NOT SENT")],                          "False/Pending"],
  ["one refused",                            policy("True", ["shop/wp", 2]),                    [replica("SYNCED"), replica("REJECTED")],       "False/Refused"],
  ["one is connected elsewhere, or nowhere", policy("True", ["shop/wp", 2]),                    [replica("SYNCED")],                            "Unknown/NotConnected"],
  ["no replica at all",                      policy("True", ["shop/wp", 0]),                    [],                                             "False/NoReplicas"],
  ["of two waypoints one has it",            policy("True", ["shop/wp", 1], ["shop/b", 1]),     [replica("SYNCED"), replica("STALE", "b")],     "False/Pending"],
  ["another waypoint does not matter",       policy("True", ["shop/wp", 1]),                    [replica("SYNCED"), replica("STALE", "b")],     "True/Enforced"],
  ["not accepted",                           policy("False"),                                   [replica("SYNCED")],                            "False/Conflicted"],
  ["no waypoint",                            policy("True"),                                    [],                                             "False/NoWaypoint"],
])("%s", (_why, update, clients, expected) => {
  const [told] = withEnforcement([update], replicasOf(clients));
  const enforced = told?.status.conditions?.find(({ type }) => type === "Enforced");
  expect(`${enforced?.status}/${enforced?.reason}`).toBe(expected);
  expect(told).not.toHaveProperty("enforcedBy");
});

test("kinds that nobody enforces are left as they are", () => {
  const { enforcedBy: _, ...plain } = policy("True");
  expect(withEnforcement([plain], new Map())).toEqual([plain]);
});
