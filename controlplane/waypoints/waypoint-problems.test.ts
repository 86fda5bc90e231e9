import { describe, expect, test } from "@jest/globals";
import type { ClientStatus } from "#shared/xds/served-stream.ts";
import type { StatusUpdate } from "#controlplane/translate/status.ts";
import { rejectionsOf, withRejections, withWaypointProblems } from "./waypoint-problems.ts";

const gateway = (name: string): StatusUpdate => ({
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "Gateway",
  namespace: "shop",
  name,
  fieldManager: "m",
  ownedConditions: ["Accepted"],
  status: { conditions: [{ type: "Accepted", status: "True", reason: "Accepted", message: "" }] },
});

const client = (type: "waypoint" | "ztunnel", gatewayName: string, state: "SYNCED" | "REJECTED"): ClientStatus => ({
  id: "1",
  peer: "",
  node: {
    id: "",
    type,
    ips: [],
    podName: "",
    namespace: "shop",
    metadata: { LABELS: { "gateway.networking.k8s.io/gateway-name": gatewayName } },
  },
  identities: [],
  connectedAtMs: 0,
  types: [
    {
      typeUrl: "listener",
      wildcard: true,
      subscribed: [],
      state,
      ...(state === "REJECTED" ? { lastError: { message: "no such filter", nonce: "", atMs: 0 } } : {}),
    },
  ],
});

const conditions = (updates: readonly StatusUpdate[]): readonly string[] =>
  updates.flatMap(({ name, status }) =>
    (status.conditions ?? []).map(({ type, status: value, reason }) => `${name} ${type}=${value}/${reason}`),
  );

test("what is wrong with its parameters stands in Accepted", () => {
  const updates = withWaypointProblems([gateway("a"), gateway("b")], new Map([["shop/a", "no ConfigMap"]]));
  expect(conditions(updates)).toEqual(["a Accepted=False/InvalidParameters", "b Accepted=True/Accepted"]);
});

describe("what a waypoint refuses", () => {
  test("is told on its Gateway, and on no other", () => {
    const rejections = rejectionsOf([
      client("waypoint", "a", "REJECTED"),
      client("waypoint", "b", "SYNCED"),
      client("ztunnel", "b", "REJECTED"),
    ]);
    const updates = withRejections([gateway("a"), gateway("b")], rejections);
    expect(conditions(updates)).toEqual([
      "a Accepted=True/Accepted",
      "a ambit.dev/Configured=False/Rejected",
      "b Accepted=True/Accepted",
    ]);
    expect(updates[0]?.status.conditions?.[1]?.message).toContain("no such filter");
  });

  test("is taken back when it is accepted", () => {
    const [update] = withRejections([gateway("a")], rejectionsOf([client("waypoint", "a", "SYNCED")]));
    expect(update?.ownedConditions).toContain("ambit.dev/Configured");
  });
});
