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

/** An API server that reaches the webhook, or does not. */
async function start({ exists = true, isReached = true } = {}) {
  const server = await FakeApiServer.start();
  open.push(() => server[Symbol.asyncDispose]());
  server.install(collection);
  if (exists) server.put(collection, configuration);
  const state = { isReached, bundle: "first root" };
  server.override = (method, path, body) => {
    if (path.endsWith("/telemetries")) {
      const message = 'admission webhook "validation.istio.io" denied the request: no value';
      return state.isReached
        ? { status: 400, body: { kind: "Status", reason: "BadRequest", message } }
        : { status: 201, body };
    }
    if (method !== "PATCH") return undefined;
    const found = webhooks(server);
    const patches = (body as { webhooks: readonly Webhook[] }).webhooks;
    const merged = found.map((each) => {
      const patch = patches.find((one) => one.name === each.name);
      return { ...each, ...patch, clientConfig: { ...each.clientConfig, ...patch?.clientConfig } };
    });
    return { status: 200, body: server.put(collection, { ...configuration, webhooks: merged }) };
  };
  const client = server.client();
  open.push(() => client[Symbol.dispose]());
  const keeper = new WebhookKeeper({
    client,
    name,
    namespace: "istio-system",
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

test("the roots come first; the policy turns to Fail once we are reached, for our own kinds alone", async () => {
  const { server, keeper, state } = await start({ isReached: false });
  await keeper.installed(new AbortController().signal);
  expect(bundles(server)).toEqual([base64("first root"), base64("first root")]);
  const tries = () => server.requests.filter((line) => line.startsWith("POST ")).length;
  await server.until(() => tries() >= 2);
  expect(policies(server)).toEqual(["Ignore", "Ignore"]);
  state.isReached = true;
  await server.until(() => policies(server)[0] === "Fail");
  expect(policies(server)).toEqual(["Fail", "Ignore"]);
  expect(server.requests.filter((line) => line.startsWith("POST ")).every((line) => line.includes("dryRun=All"))).toBe(
    true,
  );
  // Nothing is asked for without need: rights may be limited to the one object.
  const asked = server.requests.filter((line) => line.includes("webhookconfigurations") && line.startsWith("GET"));
  expect(asked.every((line) => line.includes(`fieldSelector=metadata.name%3D${name}`))).toBe(true);
});

test("new roots are written at once", async () => {
  const { server, keeper, state } = await start();
  await server.until(() => policies(server)[0] === "Fail");
  state.bundle = "second root";
  keeper.changed();
  await server.until(() => bundles(server).every((each) => each === base64("second root")));
  expect(policies(server)).toEqual(["Fail", "Ignore"]);
});

test("what is applied anew is mended", async () => {
  const { server } = await start();
  await server.until(() => policies(server)[0] === "Fail");
  server.put(collection, configuration);
  await server.until(() => policies(server)[0] === "Fail" && bundles(server).every((each) => each !== undefined));
  server.delete(collection, "", name);
  server.put(collection, configuration);
  await server.until(() => policies(server)[0] === "Fail");
});

test("a cluster without the configuration is not waited for", async () => {
  const { server, keeper } = await start({ exists: false });
  await keeper.installed(new AbortController().signal);
  expect(server.requests.filter((line) => !line.startsWith("GET"))).toEqual([]);
  server.put(collection, configuration);
  await server.until(() => policies(server)[0] === "Fail");
});

test("waiting ends with who waits", async () => {
  const { keeper, server } = await start({ exists: false });
  server.override = () => ({ status: 500, body: {} });
  const abort = new AbortController();
  const waiting = keeper.installed(abort.signal);
  abort.abort(new Error("over"));
  await expect(waiting).resolves.toBeUndefined();
});
