/** What both inbound paths share: policy, the connection to the application, and one report at the end. */
import type { Socket } from "node:net";
import type { Http2Stream } from "node:http2";
import { codeOf, explain } from "#shared/errors/mesh-error.ts";
import { relay, type Relay } from "#shared/hbone/relay.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { Workload } from "#shared/workload/workload.ts";
import type { ConnectionSet } from "#ztunnel/listener/connection-set.ts";
import { latePolicyRejection, policyRejection, type LiveConnections } from "#ztunnel/state/live-connections.ts";
import type { ConnectionFacts, ConnectionFlag, ConnectionReporter } from "#ztunnel/telemetry/connection-record.ts";
import type { InboundDecision } from "./decide-inbound.ts";

export interface DialTarget {
  readonly ip: Ip;
  readonly port: number;
  /** Connect from this address, so that the application sees who really called. */
  readonly sourceIp?: Ip;
  /** And from this port. Fails with EADDRNOTAVAIL where that very connection exists; absent lets the system choose. */
  readonly sourcePort?: number;
}

export interface InboundConnectionDeps {
  readonly live: LiveConnections;
  readonly reporter: ConnectionReporter;
  /** A connecting socket, made in the pod's namespace, that fails by itself after its deadline. */
  readonly dial: (target: DialTarget) => Socket;
}

/** How the downstream side is answered. */
export interface Downstream {
  readonly end: Socket | Http2Stream;
  /** Policy says no. */
  denied(): void;
  /** The application cannot be reached. */
  unreachable(): void;
  /** The application is connected; false where the downstream has gone meanwhile. */
  connected(application: Socket): boolean;
}

export interface InboundRequest {
  readonly destination: Workload;
  readonly decision: Extract<InboundDecision, { kind: "connect" }>;
  readonly facts: ConnectionFacts;
  /** `host` of `forwarded`. */
  readonly originalDestination?: string | undefined;
  /**
   * Port to connect from, besides the caller's address: the caller's own. No two connections of a caller have it in
   * common, so the kernel finds it free at once, where it would search past every port in TIME_WAIT for one of its own.
   */
  readonly sourcePort?: number | undefined;
}

type Stage =
  | { readonly at: "dialling"; readonly application: Socket }
  | { readonly at: "relaying"; readonly relay: Relay }
  | { readonly at: "done" };

/** Registers, asks policy, dials and relays; every way out finishes the record once. */
export function serveInbound(
  { destination, decision, facts, originalDestination, sourcePort }: InboundRequest,
  downstream: Downstream,
  { live, reporter, dial }: InboundConnectionDeps,
  connections: ConnectionSet,
): void {
  const record = reporter.openRecord(facts);
  let stage: Stage | undefined;
  let deniedLate = false;

  const finish = (flag: ConnectionFlag, error?: string) => {
    if (stage?.at === "done") return;
    stage = { at: "done" };
    connections.delete(connection);
    handle[Symbol.dispose]();
    record.finish(flag, error);
  };
  const connection = {
    abort: (error: Error) => {
      if (stage?.at === "relaying") stage.relay.abort(error);
      else if (stage?.at === "dialling") stage.application.destroy(error);
    },
  };
  const handle = live.openInbound(
    {
      policyConnection: {
        sourceIp: facts.sourceAddress.ip,
        ...(facts.sourceIdentity !== undefined && { sourceIdentity: facts.sourceIdentity }),
        destinationIp: decision.policyTarget.ip,
        destinationPort: decision.policyTarget.port,
      },
      destination,
      sourcePort: facts.sourceAddress.port,
      ...(originalDestination !== undefined && { originalDestination }),
    },
    (why) => {
      deniedLate = true;
      connection.abort(new Error(latePolicyRejection(why)));
    },
  );
  connections.add(connection);
  if (!handle.verdict.allowed) {
    downstream.denied();
    finish("DENY", policyRejection(handle.verdict.why));
    return;
  }

  const sourceIp = decision.keepSource ? facts.sourceAddress.ip : undefined;
  const dialFrom = (port: number | undefined) => {
    let application: Socket;
    try {
      application = dial({
        ...decision.target,
        ...(sourceIp !== undefined && { sourceIp }),
        ...(sourceIp !== undefined && port !== undefined && { sourcePort: port }),
      });
    } catch (error) {
      downstream.unreachable();
      finish("CONNECT", explain(error));
      return;
    }
    stage = { at: "dialling", application };
    const onGone = () => application.destroy(new Error("the caller closed before the application was connected"));
    const onDialError = (error: Error) => {
      if (port !== undefined && codeOf(error) === "EADDRNOTAVAIL") {
        downstream.end.off("close", onGone);
        dialFrom(undefined);
        return;
      }
      if (deniedLate) downstream.denied();
      else downstream.unreachable();
      finish(deniedLate ? "DENY" : "CONNECT", explain(error));
    };
    application.once("error", onDialError);
    downstream.end.once("close", onGone);
    application.once("connect", () => {
      application.off("error", onDialError);
      downstream.end.off("close", onGone);
      joinEnds(application);
    });
  };
  const joinEnds = (application: Socket) => {
    if (!downstream.connected(application)) {
      application.on("error", () => {});
      application.destroy();
      finish("-", "the caller closed before the application was connected");
      return;
    }
    stage = {
      at: "relaying",
      relay: relay(
        { downstream: downstream.end, upstream: application },
        {
          requestBytes: (bytes) => record.requestBytes(bytes),
          responseBytes: (bytes) => record.responseBytes(bytes),
          ended: (error) => {
            if (deniedLate) finish("DENY", error && explain(error));
            else finish(error === undefined ? "-" : "CONNECT", error && explain(error));
          },
        },
      ),
    };
  };
  dialFrom(sourcePort);
}
