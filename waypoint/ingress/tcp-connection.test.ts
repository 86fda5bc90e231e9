import { describe, expect, test } from "@jest/globals";
import { PassThrough } from "node:stream";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { Ip } from "#shared/net/ip.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { until } from "#shared/testing/loopback.ts";
import { Sweeper } from "#waypoint/http/sweeper.ts";
import { aHost, clustersOf, FakeCluster } from "#waypoint/routing/testing.ts";
import { ConnectOverflow } from "#waypoint/upstream/transport/connect-error.ts";
import { TcpConnection, type TcpEnd } from "./tcp-connection.ts";

/** A connection to a cluster that fails in this way, when it is over. */
async function failedWith(error: Error) {
  const cluster = new FakeCluster("c", [aHost("10.0.0.1:80")]);
  let asked = 0;
  const failing = Object.assign(cluster, {
    connect: () => {
      asked++;
      return Promise.reject(error);
    },
  });
  const clock = new FakeClock();
  let isOver = false;
  const here = { ip: "127.0.0.1" as Ip, port: 1 };
  const run = new TcpConnection(
    {
      kind: "tcp",
      name: "chain",
      networkLayers: [],
      pickCluster: () => ({ cluster: "c", metadataMatch: undefined }),
      hash: () => undefined,
      connectAttempts: 3,
      idleTimeoutMs: 0,
      maxDurationMs: 0,
      observers: [],
      clusters: clustersOf(failing),
      clock,
      log: silentLogger,
    },
    { source: here, destination: here, serverName: "", transportProtocol: "raw_buffer", applicationProtocols: [] },
    {
      id: 1,
      source: here,
      destination: here,
      peerPrincipal: undefined,
      localPrincipal: undefined,
      serverName: undefined,
    },
    new PassThrough() as unknown as TcpEnd,
    { sweeper: new Sweeper(clock), onClosed: () => (isOver = true) },
  );
  run.start();
  await until(() => isOver, "the connection is over");
  return { run, asked, reports: cluster.outcomes };
}

describe("a host that cannot be connected", () => {
  test("is tried as often as the chain says; the cluster has counted each failure by itself", async () => {
    const { run, asked, reports } = await failedWith(new MeshError("UPSTREAM_CONNECT_FAILED", "refused"));
    expect([asked, reports, [...run.flags]]).toEqual([3, [], ["UF", "URX"]]);
  });

  test("because the cluster has all connections that it may: not again", async () => {
    const { run, asked, reports } = await failedWith(new ConnectOverflow("c"));
    expect([asked, reports, [...run.flags]]).toEqual([1, [], ["UO"]]);
  });
});
