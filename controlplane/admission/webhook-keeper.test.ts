import { afterEach, expect, test } from "@jest/globals";
import { systemClock } from "#shared/clock/clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { FakeApiServer, type Written } from "#controlplane/sources/testing/fake-api-server.ts";
import { WebhookKeeper } from "./webhook-keeper.ts";

const collection = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const name = "istio-validator-istio-system";
const base64 = (text: string): string => Buffer.from(text).toString("base64");

interface Webhook {
  readonly name: string;
  readonly failurePolicy: string;
  readonly clientConfig: { readonly caBundle?: string };
}

const configuration: Written = {
  apiVersion: "admissionregistration.k8s.io/v1",
  kind: "ValidatingWebhookConfiguration",
  metadata: { name },
  webhooks: ["validation.istio.io", "gateway-api.validation.istio.io"].map((each) => ({
    name: each,
    failurePolicy: "Ignore",
    clientConfig: { service: {} },
  })),
};

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close();
});

async function start(first: Written | "nothing" = configuration) {
  const server = await FakeApiServer.start();
  open.push(() => server[Symbol.asyncDispose]());
  server.install(collection);
  if (first !== "nothing") server.put(collection, first);
  const state = { bundle: "first root" };
  server.override = (method, _path, body) => {
    if (method !== "PATCH") return undefined;
    const now = server.get(collection, "", name);
    const patches = (body as { webhooks: readonly Webhook[] }).webhooks;
    const merged = webhooks(server).map((each) => {
      const patch = patches.find((one) => one.name === each.name);
      return { ...each, ...patch, clientConfig: { ...each.clientConfig, ...patch?.clientConfig } };
    });
    return { status: 200, body: server.put(collection, { ...configuration, ...now, webhooks: merged }) };
  };
  const client = server.client();
  open.push(() => client[Symbol.dispose]());
  const keeper = new WebhookKeeper({
    client,
    name,
    bundle: () => state.bundle,
    clock: systemClock,
    log: silentLogger,
  });
  const abort = new AbortController();
  const running = keeper.run(abort.signal);
  open.push(async () => {
    abort.abort();
    await running;
  });
  return { server, keeper, state };
}

const webhooks = (server: FakeApiServer): readonly Webhook[] =>
  (server.get(collection, "", name)?.["webhooks"] ?? []) as readonly Webhook[];
const policies = (server: FakeApiServer) => webhooks(server).map(({ failurePolicy }) => failurePolicy);
const bundles = (server: FakeApiServer) => webhooks(server).map(({ clientConfig }) => clientConfig.caBundle);

const hasRoots = (server: FakeApiServer, roots = "first root") =>
  bundles(server).length === 2 && bundles(server).every((each) => each === base64(roots));

test("the roots are written, and nothing else; only the one object is asked for", async () => {
  const { server, keeper } = await start();
  await keeper.installed(new AbortController().signal);
  expect(hasRoots(server)).toBe(true);
  keeper.asked();
  expect(policies(server)).toEqual(["Ignore", "Ignore"]);
  const asked = server.requests.filter((line) => line.startsWith("GET"));
  expect(asked.every((line) => line.includes(`fieldSelector=metadata.name%3D${name}`))).toBe(true);
});

test("new roots are written at once", async () => {
  const { server, keeper, state } = await start();
  await server.until(() => hasRoots(server));
  state.bundle = "second root";
  keeper.changed();
  await server.until(() => hasRoots(server, "second root"));
  expect(policies(server)).toEqual(["Ignore", "Ignore"]);
});

test("what is applied anew is mended", async () => {
  const { server } = await start();
  await server.until(() => hasRoots(server));
  server.put(collection, configuration);
  await server.until(() => hasRoots(server));
  server.delete(collection, "", name);
  server.put(collection, configuration);
  await server.until(() => hasRoots(server));
  expect(policies(server)).toEqual(["Ignore", "Ignore"]);
});

test("who asks for it gets Fail, once an API server has asked us, for our own kinds alone", async () => {
  const annotations = { "ambit.dev/failure-policy": "Fail" };
  const strict = { ...configuration, metadata: { ...configuration.metadata, annotations } };
  const { server, keeper } = await start(strict);
  await server.until(() => hasRoots(server));
  expect(policies(server)).toEqual(["Ignore", "Ignore"]);
  keeper.asked();
  await server.until(() => policies(server)[0] === "Fail");
  expect(policies(server)).toEqual(["Fail", "Ignore"]);
  server.put(collection, strict);
  await server.until(() => policies(server)[0] === "Fail" && hasRoots(server));
});

test("a cluster without the configuration is not waited for", async () => {
  const { server, keeper } = await start("nothing");
  await keeper.installed(new AbortController().signal);
  expect(server.requests.filter((line) => !line.startsWith("GET"))).toEqual([]);
  server.put(collection, configuration);
  await server.until(() => hasRoots(server));
});

test("rights that are missing hold up nothing", async () => {
  const { keeper, server } = await start("nothing");
  server.override = () => ({ status: 403, body: { kind: "Status", reason: "Forbidden", message: "no" } });
  await expect(keeper.installed(new AbortController().signal)).resolves.toBeUndefined();
});

test("waiting ends with who waits", async () => {
  await using server = await FakeApiServer.start();
  using client = server.client();
  const idle = new WebhookKeeper({ client, name, bundle: () => "", clock: systemClock, log: silentLogger });
  const abort = new AbortController();
  const waiting = idle.installed(abort.signal);
  abort.abort(new Error("over"));
  await expect(waiting).resolves.toBeUndefined();
});
