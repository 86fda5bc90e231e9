/** One pod's surroundings for tests: certificates, a reporter that remembers, policy that can change, real sockets. */
import { connect } from "node:net";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import { systemClock } from "#shared/clock/clock.ts";
import { spiffeId, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { windowSizesDefault } from "#shared/hbone/http2-settings.ts";
import { parseIp, type Ip } from "#shared/net/ip.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import type { Verdict } from "#shared/rbac/decide.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import type { WorkloadLookup } from "#shared/workload/lookup.ts";
import type { Workload } from "#shared/workload/workload.ts";
import { decideConnect, decidePlaintext } from "#ztunnel/inbound/decide-inbound.ts";
import { HboneInbound, type HboneInboundDeps } from "#ztunnel/inbound/hbone-inbound.ts";
import { PassthroughInbound, type PassthroughInboundDeps } from "#ztunnel/inbound/passthrough-inbound.ts";
import { listenInNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import { ConnectionTable } from "#ztunnel/state/live-connections.ts";
import type {
  ConnectionFacts,
  ConnectionFlag,
  ConnectionReporter,
  EarlyFailure,
} from "#ztunnel/telemetry/connection-record.ts";

export const loopback: Ip = parseIp("127.0.0.1");
export const allowed: Verdict = { allowed: true, why: "no policy applies" };

const ca = await TestCa.create();
export const testCa = ca;

export const accountId = (serviceAccount: string): SpiffeId =>
  spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount });

export interface Reported {
  readonly facts: ConnectionFacts;
  requestBytes: number;
  responseBytes: number;
  /** One entry for each time that it was finished: more than one is a mistake. */
  readonly finished: { readonly flag: ConnectionFlag; readonly error: string | undefined }[];
}

export class TestReporter implements ConnectionReporter {
  readonly records: Reported[] = [];
  readonly early: EarlyFailure[] = [];
  readonly sockets = { source: 0, destination: 0 };

  openRecord(facts: ConnectionFacts) {
    const record: Reported = { facts, requestBytes: 0, responseBytes: 0, finished: [] };
    this.records.push(record);
    const finish = (flag: ConnectionFlag, error?: string) => void record.finished.push({ flag, error });
    return {
      requestBytes: (bytes: number) => void (record.requestBytes += bytes),
      responseBytes: (bytes: number) => void (record.responseBytes += bytes),
      finish,
      [Symbol.dispose]: () => finish("-", "disposed of"),
    };
  }

  failEarly(failure: EarlyFailure) {
    this.early.push(failure);
  }

  socketOpened(reporter: "source" | "destination") {
    this.sockets[reporter]++;
  }

  socketClosed(reporter: "source" | "destination") {
    this.sockets[reporter]--;
  }

  get isSettled(): boolean {
    return this.records.every(({ finished }) => finished.length > 0);
  }
}

export function testWorkload(name: string, more: Partial<Workload> = {}): Workload {
  return {
    uid: `Kubernetes//Pod/shop/${name}`,
    name,
    namespace: "shop",
    addresses: [loopback],
    hostname: "",
    network: "",
    protocol: "HBONE",
    networkMode: "STANDARD",
    trustDomain: "cluster.local",
    serviceAccount: name,
    identity: accountId(name),
    node: "node",
    canonicalName: name,
    canonicalRevision: "v1",
    workloadType: "deployment",
    workloadName: name,
    nativeTunnel: false,
    services: new Map(),
    authorizationPolicies: [],
    healthy: true,
    clusterId: "Kubernetes",
    locality: { region: "", zone: "", subzone: "" },
    capacity: 1,
    ...more,
  };
}

const knowsNothing: WorkloadLookup = {
  workloadByUid: () => undefined,
  workloadByAddress: () => undefined,
  workloadByHostname: () => undefined,
  serviceByAddress: () => undefined,
  serviceByHostname: () => undefined,
  serviceByKey: () => undefined,
};

export class TestPod {
  readonly reporter = new TestReporter();
  readonly live = new ConnectionTable({ inbound: () => this.verdict, takesTunnel: () => true });
  readonly workload: Workload;
  readonly certificate: WorkloadCertificate;
  verdict: Verdict = allowed;

  private constructor(workload: Workload, certificate: WorkloadCertificate) {
    this.workload = workload;
    this.certificate = certificate;
  }

  static async create(name: string, more: Partial<Workload> = {}): Promise<TestPod> {
    const workload = testWorkload(name, more);
    return new TestPod(workload, await ca.issue(workload.identity));
  }

  /** What every listener of the pod needs. */
  get common() {
    return {
      clock: systemClock,
      log: silentLogger,
      windows: windowSizesDefault,
      network: "",
      live: this.live,
      reporter: this.reporter,
      workload: () => this.workload,
      certificate: () => this.certificate,
      workloadAt: () => undefined,
      dial: ({ ip, port }: { readonly ip: Ip; readonly port: number }) =>
        connect({ host: ip, port, allowHalfOpen: true, noDelay: true }),
    };
  }

  get #self() {
    const illegalPorts = new Set([15_001, 15_006, 15_008]);
    return { workload: this.workload, network: "", illegalPorts, localhostAppTunnel: true };
  }

  async openHbone(more: Partial<HboneInboundDeps> = {}) {
    const { fd, port } = listenInNamespace(undefined, { address: loopback, port: 0 });
    const inbound = await HboneInbound.open(fd, {
      ...this.common,
      usesBaggage: true,
      decide: (request) => decideConnect(request, knowsNothing, this.#self),
      ...more,
    });
    return { port, inbound, [Symbol.asyncDispose]: () => inbound.stop({ deadlineMs: 0 }) };
  }

  async openPlaintext(originalPort: () => number, more: Partial<PassthroughInboundDeps> = {}) {
    const { fd, port } = listenInNamespace(undefined, { address: loopback, port: 0 });
    const inbound = await PassthroughInbound.open(fd, {
      ...this.common,
      originalDestination: () => ({ ip: loopback, port: originalPort() }),
      decide: (request) => decidePlaintext(request, knowsNothing, this.#self),
      ...more,
    });
    return { port, inbound, [Symbol.asyncDispose]: () => inbound.stop({ deadlineMs: 0 }) };
  }
}
