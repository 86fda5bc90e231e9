import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { text } from "node:stream/consumers";
import { connect, type TLSSocket } from "node:tls";
import { afterEach, describe, expect, test } from "@jest/globals";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { Logging } from "#shared/observe/logging.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import type { ServingPair } from "#controlplane/ca/certificate-authority.ts";
import { World } from "#controlplane/mesh/world.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { openAdmissionServer, type AdmissionServer } from "./admission-server.ts";
import type { FetchConfigMap } from "./named-config-maps.ts";
import { sceneOf, type Scene } from "./scene.ts";

const host = "istiod.istio-system.svc";
const identity = spiffeId({ trustDomain: "td", namespace: "istio-system", serviceAccount: "istiod" });

async function pairOf(ca: TestCa): Promise<ServingPair> {
  const { chainPem, keyPem } = await ca.issue(identity, { dnsNames: [host] });
  return { chainPem, keyPem, notBeforeMs: 0, notAfterMs: 0 };
}

let server: AdmissionServer | undefined;
afterEach(async () => server?.[Symbol.asyncDispose]());

async function start(
  scene: Scene = sceneOf(new World(), defaultOptions),
  fetchConfigMap: FetchConfigMap = () => Promise.resolve(undefined),
) {
  const ca = await TestCa.create();
  const reviewed: boolean[] = [];
  const lines: string[] = [];
  server = await openAdmissionServer({
    address: { host: "127.0.0.1", port: 0 },
    certificate: await pairOf(ca),
    scene,
    fetchConfigMap,
    log: new Logging(
      "json",
      { fallback: "info", scopes: new Map() },
      {
        write: (line) => void lines.push(line),
        flushSync: () => {},
      },
    ).scope("admission"),
    onReviewed: (_request, isAllowed) => void reviewed.push(isAllowed),
  });
  const { port } = server;
  const ask = async (
    body: string | Buffer,
    { path = "/validate?timeout=5s", method = "POST", roots = ca.rootPem } = {},
  ) => {
    const asked = request({ host: "127.0.0.1", port, path, method, ca: roots, servername: host, agent: false });
    const [answer] = (await once(asked.end(body), "response")) as [IncomingMessage];
    asked.on("error", () => {}); // who has answered need not read on
    return { status: answer.statusCode, body: await text(answer) };
  };
  return { ask, port, ca, reviewed, lines, server };
}

const review = (spec: object, more: object = {}) =>
  JSON.stringify({
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    request: {
      uid: "abc",
      operation: "CREATE",
      resource: { group: "networking.istio.io", version: "v1", resource: "virtualservices" },
      object: {
        apiVersion: "networking.istio.io/v1",
        kind: "VirtualService",
        metadata: { name: "a", namespace: "shop" },
        spec,
      },
      oldObject: null,
      ...more,
    },
  });
const wrong = { hosts: ["*"], http: [{}] };

test("refuses with every mistake, and warns of what is odd", async () => {
  const { ask, reviewed, lines } = await start();
  const refused = await ask(review(wrong));
  expect(refused.status).toBe(200);
  expect(JSON.parse(refused.body)).toEqual({
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    response: {
      uid: "abc",
      allowed: false,
      status: {
        status: "Failure",
        code: 400,
        reason: "BadRequest",
        message: [
          "2 mistakes:",
          '- spec.hosts[0]: "*" cannot be used for traffic in the mesh: name the service or bind to a gateway',
          "- spec.http[0]: says nothing to do: set one of route, redirect, directResponse (or delegate)",
        ].join("\n"),
      },
    },
  });
  const odd = await ask(review({ hosts: ["b"], http: [{ directResponse: { status: 200 } }] }));
  expect(JSON.parse(odd.body)).toMatchObject({
    response: { allowed: true, warnings: [expect.stringContaining("there is no service")] },
  });
  expect(reviewed).toEqual([false, true]);
  expect(lines.filter((line) => line.includes("object refused when written"))).toHaveLength(1);
});

test("a mistake of our own lets objects pass, and says so", async () => {
  const broken: Scene = {
    ...sceneOf(new World(), defaultOptions),
    mesh: () => {
      throw new TypeError("broken");
    },
  };
  const { ask, lines } = await start(broken);
  const { body } = await ask(review({ hosts: ["b"], http: [{ directResponse: { status: 200 } }] }));
  expect(JSON.parse(body)).toMatchObject({
    response: { allowed: true, warnings: [expect.stringContaining("could not check this object")] },
  });
  expect(lines.some((line) => line.includes("broken"))).toBe(true);
});

describe("garbage", () => {
  // prettier-ignore
  test.each<[string, string, number]>([
    ["nothing",              "",                                                                             400],
    ["no JSON",              "{",                                                                            400],
    ["no review",            JSON.stringify({ kind: "Pod" }),                                                400],
    ["another version",      review(wrong).replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1"),       400],
    ["no uid",               review(wrong, { uid: "" }),                                                     400],
    ["an object that is none", review(wrong, { object: "text" }),                                           400],
    ["nested without end",   `${"[".repeat(100_000)}${"]".repeat(100_000)}`,                                 400],
  ])("%s is refused", async (_what, body, status) => {
    const { ask } = await start();
    expect((await ask(body)).status).toBe(status);
    expect((await ask(review(wrong))).status).toBe(200);
  });

  test("too much is cut off", async () => {
    const { ask } = await start();
    const tooMuch = review({ hosts: ["a".repeat(9 * 1024 * 1024)] });
    // Who goes on writing may not get to read the answer.
    const status = await ask(tooMuch).then(
      (answer) => answer.status,
      () => 413,
    );
    expect(status).toBe(413);
    expect((await ask(review(wrong))).status).toBe(200);
  });

  test("other paths and methods are not there", async () => {
    const { ask } = await start();
    expect((await ask("", { method: "GET" })).status).toBe(404);
    expect((await ask(review(wrong), { path: "/inject" })).status).toBe(404);
  });
});

test("a new certificate counts from the next handshake on; what is open goes on", async () => {
  const { ask, port, ca, server: own } = await start();
  const open: TLSSocket = connect({ host: "127.0.0.1", port, ca: ca.rootPem, servername: host });
  await once(open, "secureConnect");
  const next = await TestCa.create("Next Root");
  own.setCertificate(await pairOf(next));
  expect((await ask(review(wrong), { roots: next.rootPem })).status).toBe(200);
  await expect(ask(review(wrong))).rejects.toThrow("certificate");
  const body = review(wrong);
  open.write(`POST /validate HTTP/1.1\r\nhost: ${host}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  const [answer] = (await once(open, "data")) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 200 /);
  open.destroy();
});

describe("a ConfigMap that no object in force names", () => {
  const policy = {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "BackendTLSPolicy",
    metadata: { name: "a", namespace: "shop" },
    spec: {
      targetRefs: [{ group: "", kind: "Service", name: "cart" }],
      validation: { hostname: "cart.example", caCertificateRefs: [{ group: "", kind: "ConfigMap", name: "ca" }] },
    },
  };
  const cart = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "cart", namespace: "shop" },
    spec: { clusterIP: "10.96.0.1", ports: [{ name: "http", port: 80 }] },
  };
  const warningsWith = async (fetchConfigMap: FetchConfigMap): Promise<readonly string[]> => {
    const world = new World();
    world.upsert(cart);
    const { ask } = await start(sceneOf(world, defaultOptions), fetchConfigMap);
    const { response } = JSON.parse((await ask(review({}, { object: policy }))).body) as {
      response: { allowed: boolean; warnings?: readonly string[] };
    };
    expect(response.allowed).toBe(true);
    return response.warnings ?? [];
  };

  test("is read for the occasion", async () => {
    const data = { "ca.crt": (await TestCa.create()).rootPem };
    const configMap = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "ca", namespace: "shop" }, data };
    const told = await warningsWith((name) =>
      Promise.resolve(name.namespace === "shop" && name.name === "ca" ? configMap : undefined),
    );
    expect(told.filter((line) => line.includes("ConfigMap"))).toEqual([]);
    expect(told).toEqual([expect.stringContaining("has no waypoint")]);
  });

  test("is missing", async () => {
    expect(await warningsWith(() => Promise.resolve(undefined))).toContain(
      'Nothing is sent: ConfigMap "shop/ca" was not found (Accepted: NoValidCACertificate)',
    );
  });

  const failing: FetchConfigMap = () => Promise.reject(new Error("no answer"));

  test("cannot be read now: so much is said", async () => {
    expect(await warningsWith(failing)).toContain("ConfigMaps could not be read: what is said of them may be wrong");
  });

  test("cannot be read now: mistakes are refused all the same", async () => {
    const { ask } = await start(undefined, failing);
    const object = { ...policy, spec: { ...policy.spec, targetRefs: [] } };
    const { body } = await ask(review({}, { object }));
    expect(JSON.parse(body)).toMatchObject({ response: { allowed: false } });
  });
});
