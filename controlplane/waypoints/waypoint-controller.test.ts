import { expect, test } from "@jest/globals";
import { FakeApiServer } from "#controlplane/sources/testing/fake-api-server.ts";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { WaypointController } from "./waypoint-controller.ts";

const classes = "/apis/gateway.networking.k8s.io/v1/gatewayclasses";
const wantedClass = { name: "istio-waypoint", controllerName: "istio.io/mesh-controller" };

test("classes are made as soon as their kind is installed, with nothing else happening", async () => {
  await using server = await FakeApiServer.start();
  const clock = new FakeClock();
  const stop = new AbortController();
  const client = server.client();
  const controller = new WaypointController({
    client,
    log: silentLogger,
    clock,
    isLeader: () => true,
    onProblems: () => {},
  });
  const running = controller.run(stop.signal);
  const asked = () => server.requests.filter((request) => request === `POST ${classes}`).length;
  controller.want([], [wantedClass]);
  await server.until(() => asked() === 1);
  server.install(classes);
  for (let turn = 0; turn < 1_000 && asked() < 2; turn++) await clock.advance(1_000);
  await server.until(() => server.get(classes, "", "istio-waypoint") !== undefined);
  expect(asked()).toBe(2);
  stop.abort();
  await running;
  client[Symbol.dispose]();
});
