/** What is pushed to a waypoint, in which order, and to whom. */
import { afterEach, describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { parseProxyNode } from "#shared/xds/node-id.ts";
import type { Admission, ClientSources } from "#shared/xds/served-stream.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { namespace, object, pod, service, waypoint } from "#controlplane/translate/small-world.ts";
import { translate } from "#controlplane/translate/translate.ts";
import { WaypointViews } from "./waypoint-views.ts";

const collect = (objects: readonly KubeObject[]) => {
  const world = new World();
  for (const each of withApiDefaults(objects.map((written) => ({ object: written })))) world.upsert(each);
  expect(world.problems).toEqual([]);
  return translate(world, defaultOptions).collected;
};

const shop = namespace("shop", { labels: { "istio.io/use-waypoint": "wp" } });
const gateway = waypoint("shop/wp");
const a = service("shop/a", { clusterIP: "10.96.0.1", selector: { app: "a" } });
const b = service("shop/b", { clusterIP: "10.96.0.2", selector: { app: "b" } });
const one = pod("shop/a-1", { labels: { app: "a" } });

const unchecked: Admission = { checked: false };
const as = (serviceAccount: string): Admission => ({
  checked: true,
  identities: [spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount })],
});

const open: ClientSources[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each[Symbol.dispose]();
});

function setUp() {
  const clock = new FakeClock();
  const views = new WaypointViews({ clock, log: silentLogger });
  const connect = ({ gatewayName = "wp", type = "waypoint", admission = unchecked } = {}) => {
    const node = parseProxyNode(`${type}~10.0.0.9~wp-1.shop~shop.svc.cluster.local`, {
      NAMESPACE: "shop",
      LABELS: { "gateway.networking.k8s.io/gateway-name": gatewayName },
    });
    const sources = views.open({ node, admission });
    if (sources === undefined) return undefined;
    open.push(sources);
    const told: string[] = [];
    for (const source of sources.sources) {
      source.onChange((names) =>
        told.push(`${source.typeUrl.split(".").at(-1) ?? ""}: ${[...names].toSorted().join(", ")}`),
      );
    }
    const namesOf = (typeUrl: string) =>
      [...(sources.sources.find((source) => source.typeUrl === typeUrl)?.all() ?? [])]
        .map(({ name }) => name)
        .toSorted();
    return { told: () => told.splice(0), namesOf, sources };
  };
  return { clock, views, connect };
}

const clusterA = "inbound-vip|80|http|a.shop.svc.cluster.local";
const clusterB = "inbound-vip|80|http|b.shop.svc.cluster.local";

describe("a waypoint's view", () => {
  test("is what its Gateway serves, from the first moment", () => {
    const { views, connect } = setUp();
    views.publish(collect([shop, gateway, a]));
    const client = connect();
    expect(client?.namesOf(typeUrls.cluster)).toEqual([clusterA]);
    expect(client?.namesOf(typeUrls.endpoints)).toEqual([clusterA]);
    expect(client?.namesOf(typeUrls.listener)).toEqual(["main_internal"]);
  });

  test("is empty where there is no such Gateway, and nothing for who is no waypoint", () => {
    const { views, connect } = setUp();
    views.publish(collect([shop, gateway, a]));
    expect(connect({ gatewayName: "other" })?.namesOf(typeUrls.listener)).toEqual([]);
    expect(connect({ gatewayName: "" })).toBeUndefined();
    expect(connect({ type: "ztunnel" })).toBeUndefined();
  });

  test("tells what is sent to before what sends there, and takes away last", async () => {
    const { views, connect, clock } = setUp();
    views.publish(collect([shop, gateway, a]));
    const client = connect();
    views.publish(collect([shop, gateway, a, b]));
    expect(client?.told()).toEqual([
      `Cluster: ${clusterB}`,
      `ClusterLoadAssignment: ${clusterB}`,
      "Listener: main_internal",
    ]);
    views.publish(collect([shop, gateway, a]));
    expect(client?.told()).toEqual(["Listener: main_internal"]);
    expect(client?.namesOf(typeUrls.cluster)).toEqual([clusterA, clusterB]);
    await clock.advance(5_000);
    expect(client?.told()).toEqual([`Cluster: ${clusterB}`, `ClusterLoadAssignment: ${clusterB}`]);
  });

  test("tells of endpoints alone where only they change, and again where their cluster is built anew", () => {
    const { views, connect } = setUp();
    views.publish(collect([shop, gateway, a]));
    const client = connect();
    views.publish(collect([shop, gateway, a, one]));
    expect(client?.told()).toEqual([`ClusterLoadAssignment: ${clusterA}`]);
    const rule = object("networking.istio.io/v1", "DestinationRule", "shop/a", {
      spec: { host: "a", trafficPolicy: { loadBalancer: { simple: "RANDOM" } } },
    });
    views.publish(collect([shop, gateway, a, one, rule]));
    expect(client?.told()).toEqual([`Cluster: ${clusterA}`, `ClusterLoadAssignment: ${clusterA}`]);
    views.publish(collect([shop, gateway, a, one, rule]));
    expect(client?.told()).toEqual([]);
  });

  test("is forgotten when the client leaves", () => {
    const { views, connect } = setUp();
    connect()?.sources[Symbol.dispose]();
    expect(views.size).toBe(0);
  });

  test("holds private keys for those only who run as the waypoint", () => {
    const { views, connect } = setUp();
    const rule = object("networking.istio.io/v1", "DestinationRule", "shop/a", {
      spec: { host: "a", trafficPolicy: { tls: { mode: "MUTUAL", credentialName: "own" } } },
    });
    const secret = object("v1", "Secret", "shop/own", {
      stringData: { "tls.crt": "certificate", "tls.key": "very private", "ca.crt": "authority" },
    });
    views.publish(collect([shop, gateway, a, rule, secret]));
    const holdsKey = (admission: Admission): boolean => {
      const clusters = connect({ admission })?.sources.sources[0]?.all() ?? [];
      return [...clusters].some(({ value }) => Buffer.from(value).includes("very private"));
    };
    expect([holdsKey(as("wp")), holdsKey(as("shopper")), holdsKey(unchecked)]).toEqual([true, false, false]);
  });
});
