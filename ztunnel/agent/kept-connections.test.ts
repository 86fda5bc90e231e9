import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { CoreV1Api } from "@kubernetes/client-node";
import { KeptKubeConfig } from "./kept-connections.ts";

let server: Server;
let connections = 0;

beforeEach(async () => {
  connections = 0;
  server = createServer({ keepAliveTimeout: 0 }, (_request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ kind: "NamespaceList", apiVersion: "v1", metadata: {}, items: [] }));
  });
  server.on("connection", () => connections++);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function configOf(caData?: string): KeptKubeConfig {
  const config = new KeptKubeConfig();
  const { port } = server.address() as AddressInfo;
  const cluster = { name: "c", server: `http://127.0.0.1:${port}`, skipTLSVerify: true };
  config.loadFromClusterAndUser({ ...cluster, ...(caData !== undefined && { caData }) }, { name: "u", token: "t" });
  return config;
}

test("requests use the connections of those before them", async () => {
  const core = configOf().makeApiClient(CoreV1Api);
  for (let asked = 0; asked < 20; asked++) await core.listNamespace();
  // The first may not be free yet in the moment when its answer is complete.
  expect(connections).toBeLessThanOrEqual(2);
});

test("renewed credentials are not used on old connections", async () => {
  const config = configOf();
  const core = config.makeApiClient(CoreV1Api);
  for (let asked = 0; asked < 5; asked++) await core.listNamespace();
  const before = connections;
  const [cluster] = config.clusters;
  config.clusters = [{ ...cluster, caData: Buffer.from("another").toString("base64") } as never];
  await core.listNamespace();
  expect(connections).toBe(before + 1);
});
