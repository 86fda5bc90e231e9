import { afterEach, describe, expect, test } from "@jest/globals";
import { createPrivateKey, createSign, generateKeyPairSync, randomBytes, sign, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { Client, credentials, Metadata, status, type ServiceError } from "@grpc/grpc-js";
import { create, fromBinary, toBinary, type JsonObject } from "@bufbuild/protobuf";
import { CaClient } from "#shared/ca/ca-client.ts";
import { CertificateManager } from "#shared/ca/certificate-manager.ts";
import { makeCertificateRequest } from "#shared/ca/csr.ts";
import { pem } from "#shared/ca/der.ts";
import { splitPem } from "#shared/ca/workload-certificate.ts";
import * as x509 from "#shared/ca/x509.ts";
import { systemClock } from "#shared/clock/clock.ts";
import { spiffeId, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { Logging } from "#shared/observe/logging.ts";
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from "#shared/proto/gen/ca/ca_pb.js";
import { endingOf, openDoor } from "#shared/testing/loopback.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import { uriNamesOf } from "#shared/tls/certificate-names.ts";
import { DeltaClient } from "#shared/xds/delta-client.ts";
import { ztunnelNode } from "#shared/xds/node.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import { mintToken } from "./ca/local-tokens.ts";
import { readDiscoveryConfig } from "./config.ts";
import { startDiscovery, type Discovery } from "./discovery.ts";

const id = (namespace: string, serviceAccount: string): SpiffeId =>
  spiffeId({ trustDomain: "cluster.local", namespace, serviceAccount });
const cart = id("shop", "cart");

interface PodFacts {
  readonly name: string;
  readonly namespace: string;
  readonly account: string;
  readonly node: string;
  readonly ip: string;
  readonly phase?: string;
}

const podYaml = ({ name, namespace, account, node, ip, phase = "Running" }: PodFacts) => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ${namespace}, uid: uid-of-${name} }
spec: { nodeName: ${node}, serviceAccountName: ${account}, containers: [{ name: main, image: none }] }
status: { phase: ${phase}, podIP: ${ip}, podIPs: [{ ip: ${ip} }] }
---`;

const world = [
  podYaml({ name: "ztunnel-1", namespace: "istio-system", account: "ztunnel", node: "n1", ip: "10.0.0.1" }),
  podYaml({ name: "cart-1", namespace: "shop", account: "cart", node: "n1", ip: "10.0.0.2" }),
  podYaml({ name: "pay-1", namespace: "shop", account: "pay", node: "n2", ip: "10.0.0.3" }),
  podYaml({ name: "old-1", namespace: "shop", account: "old", node: "n1", ip: "10.0.0.4", phase: "Failed" }),
].join("\n");

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close();
});

interface Mesh {
  /** Of the secure port, whichever control plane is behind it. */
  readonly door: number;
  readonly folder: string;
  readonly state: string;
  readonly lines: string[];
  discovery: Discovery;
  restart(): Promise<void>;
}

/** A control plane on this machine, reading a folder. */
async function startMesh(env: Record<string, string> = {}): Promise<Mesh> {
  const root = await mkdtemp(join(tmpdir(), "ambit-discovery-"));
  open.push(() => rm(root, { recursive: true, force: true }));
  const [folder, state] = [join(root, "mesh"), join(root, "state")];
  await mkdir(folder);
  await writeFile(join(folder, "world.yaml"), world);
  const lines: string[] = [];
  const anyPort = "127.0.0.1:0";
  const door = await openDoor();
  open.push(() => door[Symbol.asyncDispose]());
  const start = async (): Promise<Discovery> => {
    const config = readDiscoveryConfig(
      {
        source: `folder:${folder}`,
        stateDir: state,
        grpcAddr: anyPort,
        secureGRPCAddr: anyPort,
        httpAddr: anyPort,
        monitoringAddr: anyPort,
        domain: "cluster.local",
        cacerts: join(root, "cacerts"),
        host: [],
        keepaliveMaxServerConnectionAge: "30m",
      },
      { PILOT_DEBOUNCE_AFTER: "10ms", ...env },
    );
    const sink = { write: (line: string) => void lines.push(line), flushSync: () => {} };
    const logging = new Logging("json", config.logFilter, sink);
    const discovery = await startDiscovery(config, logging, new AbortController().signal);
    door.leadTo(discovery.ports.secure);
    return discovery;
  };
  const mesh: Mesh = {
    door: door.port,
    folder,
    state,
    lines,
    discovery: await start(),
    async restart() {
      await mesh.discovery[Symbol.asyncDispose]();
      mesh.discovery = await start();
    },
  };
  open.push(() => mesh.discovery[Symbol.asyncDispose]());
  return mesh;
}

const ztunnelPod = { name: "ztunnel-1", uid: "uid-of-ztunnel-1" };

async function ztunnelToken({ state }: Mesh, pod: { name: string; uid: string } | undefined = ztunnelPod) {
  const request = { namespace: "istio-system", serviceAccount: "ztunnel", audience: "istio-ca", ttlSeconds: 600 };
  return mintToken(state, pod === undefined ? request : { ...request, pod }, Date.now());
}

async function clientSettings(mesh: Mesh, token: string) {
  return {
    endpoint: { host: "127.0.0.1", port: mesh.door },
    roots: { from: "file", path: join(mesh.state, "root-cert.pem") } as const,
    alternativeHostname: "istiod.istio-system.svc",
    token: { from: "literal", token } as const,
    clusterId: "Kubernetes",
  };
}

async function caClient(mesh: Mesh, token: string, ttlSeconds = 3_600): Promise<CaClient> {
  const client = new CaClient({ ...(await clientSettings(mesh, token)), ttlSeconds, impersonate: true }, silentLogger);
  open.push(() => client[Symbol.dispose]());
  return client;
}

/** A discovery client that keeps what it is sent. */
async function xdsClient(mesh: Mesh, token: string, metadata: Record<string, string> = {}) {
  const settings = await clientSettings(mesh, token);
  const state = new Map<string, string>();
  const responses: { readonly updated: readonly string[]; readonly removed: readonly string[] }[] = [];
  const waiting: (() => void)[] = [];
  const { node } = ztunnelNode({
    instanceIp: "10.0.0.1",
    podName: "ztunnel-1",
    podNamespace: "istio-system",
    nodeName: "n1",
    metadata,
  });
  const client = new DeltaClient({
    channel: settings,
    call: settings,
    node,
    subscriptions: [
      {
        typeUrl: typeUrls.address,
        apply: (resources, removed) => {
          for (const { name, version } of resources) state.set(name, version);
          for (const name of removed) state.delete(name);
          responses.push({ updated: resources.map(({ name }) => name), removed });
          for (const wake of waiting.splice(0)) wake();
          return [];
        },
      },
      { typeUrl: typeUrls.authorization, apply: () => [] },
    ],
    clock: systemClock,
    log: silentLogger,
  });
  const abort = new AbortController();
  const running = client.run(abort.signal);
  open.push(async () => {
    abort.abort();
    await running;
  });
  const nextResponse = async () => {
    const seen = responses.length;
    if (responses.length === seen) await new Promise<void>((resolve) => void waiting.push(resolve));
    return responses[seen];
  };
  return { client, state, responses, nextResponse };
}

describe("a control plane of a folder", () => {
  test("serves what the folder says, follows its changes, and resumes after a restart without sending it again", async () => {
    const mesh = await startMesh();
    const { client, state, responses, nextResponse } = await xdsClient(mesh, await ztunnelToken(mesh));
    await client.ready;
    expect(state.has("Kubernetes//Pod/shop/cart-1")).toBe(true);

    const added = podYaml({ name: "new-1", namespace: "shop", account: "new", node: "n2", ip: "10.0.0.9" });
    const next = nextResponse();
    await writeFile(join(mesh.folder, "more.yaml"), added);
    expect(await next).toEqual({ updated: ["Kubernetes//Pod/shop/new-1"], removed: [] });

    await rm(join(mesh.folder, "more.yaml"));
    const before = responses.length;
    const afterRestart = nextResponse();
    await mesh.restart();
    // Either the removal came before the restart, or the restarted one computed it from what the client claims.
    await afterRestart;
    while (state.has("Kubernetes//Pod/shop/new-1")) await nextResponse();
    expect(responses.slice(before).flatMap(({ updated }) => updated)).toEqual([]);
  });

  test("issues certificates for the pods of the caller's node, and rotates them", async () => {
    const mesh = await startMesh();
    const client = await caClient(mesh, await ztunnelToken(mesh), 8);
    using manager = new CertificateManager({ source: client, clock: systemClock, log: silentLogger, random: () => 0 });
    const serials: string[] = [];
    const rotated = Promise.withResolvers<void>();
    manager.onRotated(({ serial }) => {
      serials.push(serial);
      if (serials.length === 2) rotated.resolve();
    });
    const certificate = await manager.certificateFor(cart);
    const [leafPem = ""] = splitPem(certificate.chainPem);
    const leaf = new X509Certificate(leafPem);
    const [rootPem = ""] = certificate.rootsPem;
    expect(uriNamesOf(leaf.raw)).toEqual([cart]);
    expect(leaf.subject ?? "").toBe("");
    expect(leaf.verify(new X509Certificate(rootPem).publicKey)).toBe(true);
    expect(leaf.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
    expect(rootPem.trim()).toBe((await readFile(join(mesh.state, "root-cert.pem"), "utf8")).trim());
    expect(certificate.notAfterMs - Date.now()).toBeLessThanOrEqual(8_000);
    await rotated.promise;
    expect(new Set(serials).size).toBe(2);
  });

  test("the root survives a restart, so certificates of before stay good", async () => {
    const mesh = await startMesh();
    const before = await readFile(join(mesh.state, "root-cert.pem"), "utf8");
    await mesh.restart();
    expect(await readFile(join(mesh.state, "root-cert.pem"), "utf8")).toBe(before);
  });

  test("a proxy may authenticate for discovery by its certificate alone, and not beyond its namespace", async () => {
    const mesh = await startMesh();
    const self = id("istio-system", "ztunnel");
    const certificate = await (await caClient(mesh, await ztunnelToken(mesh))).fetch(self, AbortSignal.timeout(60_000));
    const tls = connectTls({
      host: "127.0.0.1",
      port: mesh.discovery.ports.secure,
      ca: await readFile(join(mesh.state, "root-cert.pem"), "utf8"),
      servername: "istiod.istio-system.svc",
      cert: certificate.chainPem,
      key: certificate.keyPem,
      ALPNProtocols: ["h2"],
    });
    await once(tls, "secureConnect");
    expect(tls.alpnProtocol).toBe("h2");
    tls.destroy();
    const stranger = await (await TestCa.create("Stranger")).issue(self);
    const refused = connectTls({
      host: "127.0.0.1",
      port: mesh.discovery.ports.secure,
      rejectUnauthorized: false,
      cert: stranger.chainPem,
      key: stranger.keyPem,
      ALPNProtocols: ["h2"],
    });
    await endingOf(refused);
    expect(mesh.lines.filter((line) => line.includes("client certificate refused"))).toHaveLength(1);
  });
});

interface Ask {
  readonly csr?: string;
  readonly seconds?: number;
  readonly metadata?: JsonObject;
  readonly authorization?: readonly string[];
  readonly port?: "plain" | "secure";
}

/** One bare call of the CA. */
async function ask(mesh: Mesh, { csr, seconds = 60, metadata, authorization = [], port = "secure" }: Ask) {
  const { ports } = mesh.discovery;
  const root = await readFile(join(mesh.state, "root-cert.pem"));
  const client =
    port === "secure"
      ? new Client(`localhost:${ports.secure}`, credentials.createSsl(root))
      : new Client(`localhost:${ports.xds ?? 0}`, credentials.createInsecure());
  open.push(() => client.close());
  const headers = new Metadata();
  for (const value of authorization) headers.add("authorization", value);
  const request = create(IstioCertificateRequestSchema, {
    csr: csr ?? (await makeCertificateRequest(cart)).csrPem,
    validityDuration: BigInt(seconds),
    ...(metadata === undefined ? {} : { metadata }),
  });
  return new Promise<{ code: status; details: string; chain: readonly string[] }>((resolve) => {
    client.makeUnaryRequest(
      "/istio.v1.auth.IstioCertificateService/CreateCertificate",
      (message: Uint8Array) => Buffer.from(message),
      (bytes: Buffer) => fromBinary(IstioCertificateResponseSchema, bytes).certChain,
      toBinary(IstioCertificateRequestSchema, request),
      headers,
      { deadline: Date.now() + 60_000 },
      (error: ServiceError | null, chain?: readonly string[]) =>
        resolve({ code: error?.code ?? status.OK, details: error?.details ?? "", chain: chain ?? [] }),
    );
  });
}

const jwtPart = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
const claims = (changes: object = {}) => ({
  aud: ["istio-ca"],
  sub: "system:serviceaccount:istio-system:ztunnel",
  exp: Math.floor(Date.now() / 1_000) + 600,
  "kubernetes.io": { pod: ztunnelPod },
  ...changes,
});

/** A token signed with the control plane's own key, with any content. */
async function ownToken({ state }: Mesh, body: object, header: object = { alg: "ES256" }): Promise<string> {
  const key = createPrivateKey(await readFile(join(state, "token-key.pem"), "utf8"));
  const text = `${jwtPart(header)}.${jwtPart(body)}`;
  return `${text}.${sign("sha256", Buffer.from(text), { key, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

describe("hostile input", () => {
  test("requests for a certificate that are not allowed are refused, each with one log line", async () => {
    const mesh = await startMesh();
    const good = `Bearer ${await ztunnelToken(mesh)}`;
    const own = async (changes: object, header?: object) => `Bearer ${await ownToken(mesh, claims(changes), header)}`;
    const forger = generateKeyPairSync("rsa", { modulusLength: 2_048 });
    const forgedText = `${jwtPart({ alg: "RS256" })}.${jwtPart(claims())}`;
    const forged = `${forgedText}.${createSign("sha256").update(forgedText).sign(forger.privateKey).toString("base64url")}`;
    const wants = (identity: string) => ({ ImpersonatedIdentity: identity });
    const unbound = `Bearer ${await ztunnelToken(mesh, undefined).then(() => ownToken(mesh, claims({ "kubernetes.io": {} })))}`;
    const cases: readonly (readonly [why: string, request: Ask, code: status])[] = [
      ["plain-text port", { port: "plain", authorization: [good], metadata: wants(cart) }, status.UNAUTHENTICATED],
      ["no token", { metadata: wants(cart) }, status.UNAUTHENTICATED],
      ["not bearer", { authorization: ["Basic abc"] }, status.UNAUTHENTICATED],
      ["no JWT", { authorization: ["Bearer abc"] }, status.UNAUTHENTICATED],
      ["huge token", { authorization: [`Bearer ${"a".repeat(14_000)}.b.c`] }, status.UNAUTHENTICATED],
      ["forged", { authorization: [`Bearer ${forged}`] }, status.UNAUTHENTICATED],
      [
        "algorithm none",
        { authorization: [`Bearer ${jwtPart({ alg: "none" })}.${jwtPart(claims())}.`] },
        status.UNAUTHENTICATED,
      ],
      ["algorithm HS256", { authorization: [await own({}, { alg: "HS256" })] }, status.UNAUTHENTICATED],
      ["expired", { authorization: [await own({ exp: 1 })] }, status.UNAUTHENTICATED],
      ["no expiry", { authorization: [await own({ exp: undefined })] }, status.UNAUTHENTICATED],
      ["not yet valid", { authorization: [await own({ nbf: 4e9 })] }, status.UNAUTHENTICATED],
      ["other audience", { authorization: [await own({ aud: ["other"] })] }, status.UNAUTHENTICATED],
      ["no service account", { authorization: [await own({ sub: "alice" })] }, status.UNAUTHENTICATED],
      [
        "identity of another node",
        { authorization: [good], metadata: wants(id("shop", "pay")) },
        status.UNAUTHENTICATED,
      ],
      [
        "identity of a failed pod",
        { authorization: [good], metadata: wants(id("shop", "old")) },
        status.UNAUTHENTICATED,
      ],
      ["identity of nobody", { authorization: [good], metadata: wants(id("shop", "nobody")) }, status.UNAUTHENTICATED],
      ["identity of no form", { authorization: [good], metadata: wants("cart") }, status.UNAUTHENTICATED],
      [
        "other trust domain",
        { authorization: [good], metadata: wants("spiffe://evil/ns/shop/sa/cart") },
        status.UNAUTHENTICATED,
      ],
      [
        "identity that is no text",
        { authorization: [good], metadata: { ImpersonatedIdentity: 7 } },
        status.UNAUTHENTICATED,
      ],
      ["token without a pod", { authorization: [unbound], metadata: wants(cart) }, status.UNAUTHENTICATED],
      [
        "pod with another uid",
        {
          authorization: [`Bearer ${await ztunnelToken(mesh, { name: "ztunnel-1", uid: "old" })}`],
          metadata: wants(cart),
        },
        status.UNAUTHENTICATED,
      ],
      [
        "no node account",
        { authorization: [await own({ sub: "system:serviceaccount:shop:cart" })], metadata: wants(cart) },
        status.UNAUTHENTICATED,
      ],
      ["life too long", { authorization: [good], seconds: 91 * 86_400 }, status.INVALID_ARGUMENT],
      ["no CSR", { authorization: [good], csr: "" }, status.INVALID_ARGUMENT],
      [
        "garbage CSR",
        { authorization: [good], csr: pem("CERTIFICATE REQUEST", randomBytes(300)) },
        status.INVALID_ARGUMENT,
      ],
      [
        "huge CSR",
        { authorization: [good], csr: pem("CERTIFICATE REQUEST", randomBytes(1_000_000)) },
        status.INVALID_ARGUMENT,
      ],
      ["weak key", { authorization: [good], csr: await weakRequest() }, status.INVALID_ARGUMENT],
      ["signed by another key", { authorization: [good], csr: await tamperedRequest() }, status.INVALID_ARGUMENT],
    ];
    for (const [why, request, code] of cases) {
      const before = mesh.lines.length;
      const answer = await ask(mesh, request);
      expect([why, answer.code, answer.chain.length]).toEqual([why, code, 0]);
      expect([why, mesh.lines.slice(before).length]).toEqual([why, 1]);
      expect(answer.details).not.toContain("node");
    }
    // It still works.
    const answer = await ask(mesh, { authorization: [good], metadata: wants(cart) });
    expect([answer.code, answer.chain.length]).toEqual([status.OK, 2]);
  });

  test("names in a request do not count: the certificate carries the caller's identity only", async () => {
    const mesh = await startMesh();
    const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
    const request = await x509.Pkcs10CertificateRequestGenerator.create({
      name: "CN=admin",
      keys,
      signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
      extensions: [
        new x509.SubjectAlternativeNameExtension([
          { type: "url", value: id("shop", "pay") },
          { type: "dns", value: "istiod.istio-system.svc" },
        ]),
        new x509.BasicConstraintsExtension(true, undefined, true),
      ],
    });
    const { chain } = await ask(mesh, {
      authorization: [`Bearer ${await ztunnelToken(mesh)}`],
      csr: request.toString("pem"),
      metadata: { ImpersonatedIdentity: cart },
    });
    const leaf = new X509Certificate(chain[0] ?? "");
    expect([leaf.ca, leaf.subject ?? "", leaf.subjectAltName]).toEqual([false, "", `URI:${cart}`]);
  });

  test("garbage on every port is dropped and the control plane goes on", async () => {
    const mesh = await startMesh();
    const { ports } = mesh.discovery;
    const texts = [
      randomBytes(4_096),
      Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\u00ff".repeat(2_000), "latin1"),
      Buffer.alloc(0),
    ];
    for (const port of [ports.xds ?? 0, ports.secure, ports.http, ports.monitoring]) {
      for (const text of texts) {
        const socket = connectTcp(port, "127.0.0.1");
        const ending = endingOf(socket);
        socket.end(text);
        await ending;
      }
    }
    const tls = connectTls({ host: "127.0.0.1", port: ports.secure, rejectUnauthorized: false, ALPNProtocols: ["h2"] });
    const ending = endingOf(tls);
    tls.end(randomBytes(4_096));
    await ending;
    const { client } = await xdsClient(mesh, await ztunnelToken(mesh));
    await client.ready;
    const answer = await fetch(`http://127.0.0.1:${ports.http}/ready`);
    expect([answer.status, await answer.text()]).toEqual([200, "ready\n"]);
  });

  test("a broken file leaves the last good state in force and is told in the dump", async () => {
    const mesh = await startMesh();
    const { client, state, nextResponse } = await xdsClient(mesh, await ztunnelToken(mesh));
    await client.ready;
    const size = state.size;
    await writeFile(join(mesh.folder, "broken"), `${world}\n  : [`);
    await rename(join(mesh.folder, "broken"), join(mesh.folder, "world.yaml"));
    const next = nextResponse();
    const added = podYaml({ name: "new-1", namespace: "shop", account: "new", node: "n2", ip: "10.0.0.9" });
    await writeFile(join(mesh.folder, "more.yaml"), added);
    expect(await next).toEqual({ updated: ["Kubernetes//Pod/shop/new-1"], removed: [] });
    expect(state.size).toBe(size + 1);
    const dump = await (await fetch(`http://127.0.0.1:${mesh.discovery.ports.http}/debug/configz`)).text();
    expect(dump).toContain("world.yaml");
  });

  test("a start with a mesh configuration that cannot be read serves nothing until it can", async () => {
    const mesh = await startMesh();
    const write = (text: string) =>
      writeFile(
        join(mesh.folder, "mesh.yaml"),
        `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: ${JSON.stringify(text)}}\n`,
      );
    await write("trustDomain: [");
    let isUp = false;
    const restarting = mesh.restart().then(() => (isUp = true));
    while (!mesh.lines.some((line) => line.includes("nothing is served until it can"))) await setTimeout(10);
    expect(isUp).toBe(false);
    await write("trustDomain: mended.example");
    await restarting;
    const client = await caClient(mesh, await ztunnelToken(mesh));
    const own = spiffeId({ trustDomain: "mended.example", namespace: "shop", serviceAccount: "cart" });
    const { chainPem } = await client.fetch(own, new AbortController().signal);
    expect(uriNamesOf(new X509Certificate(splitPem(chainPem)[0] ?? "").raw)).toEqual([own]);
  });
});

/** An RSA key of 1024 bits. */
async function weakRequest(): Promise<string> {
  const algorithm = {
    name: "RSASSA-PKCS1-v1_5",
    hash: "SHA-256",
    modulusLength: 1_024,
    publicExponent: new Uint8Array([1, 0, 1]),
  };
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({ name: "", keys, signingAlgorithm: algorithm });
  return request.toString("pem");
}

/** The signature of one request under the content of another. */
async function tamperedRequest(): Promise<string> {
  const [a, b] = await Promise.all([makeCertificateRequest(cart), makeCertificateRequest(cart)]);
  const der = (text: string) => Buffer.from(text.replaceAll(/-----[^-]+-----|\s/g, ""), "base64");
  const [one, other] = [der(a.csrPem), der(b.csrPem)];
  const key = one.indexOf(Buffer.from("034200", "hex")) + 4;
  other.copy(one, key, key, key + 64);
  return pem("CERTIFICATE REQUEST", one);
}
