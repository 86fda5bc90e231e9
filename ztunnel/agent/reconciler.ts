/**
 * Brings every pod of this node to where its labels want it, in or out of the mesh, and keeps proving that it is
 * there. Everything it does is repeatable, so a failure, a restart or somebody's interference is answered by doing it
 * again; what it knows of a pod stands in one `Tracked`, what it found in one `PodReport`.
 */
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { NetworkNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import { problemsOf, type Observed, type Problem } from "./capture-check.ts";
import { decideEnrolment, type EnrolmentRules } from "./enrolment.ts";
import { KeyedQueue } from "./keyed-queue.ts";
import { isTerminal, redirectionAnnotation, type Labels, type PodFacts } from "./pod-facts.ts";
import type { InstalledRules } from "./pod-rules.ts";
import { dnsPort, wishesOf, type RedirectFacts, type RoutingBatch } from "./redirect-rules.ts";
import type { SendOutcome, ServedPod } from "./zds-session.ts";

/** What is done in and around a pod's namespace. */
interface CaptureActions {
  /** The caller closes it. */
  find(uid: string, ips: readonly Ip[]): NetworkNamespace | undefined;
  /** `joins`: the pod was outside of the mesh until now. */
  install(netnsFd: number, facts: RedirectFacts, joins: boolean): Promise<InstalledRules>;
  /** Redirects nothing new from here on. */
  release(netnsFd: number): Promise<void>;
  remove(netnsFd: number): Promise<void>;
  observe(netnsFd: number, routing: readonly RoutingBatch[]): Promise<Observed>;
  answersDns(netnsFd: number): boolean;
}

interface ZtunnelFeed {
  readonly isServed: boolean;
  remember(pod: ServedPod): void;
  add(pod: ServedPod): Promise<SendOutcome>;
  remove(uid: string): Promise<void>;
}

interface ProbeSet {
  set(uid: string, ips: readonly Ip[]): Promise<void>;
  delete(uid: string): Promise<void>;
}

export interface CapturedCondition {
  readonly status: "True" | "False";
  readonly reason: string;
  readonly message: string;
}

export type Redirection = "enabled" | "pending" | undefined;

/** Writes to pods/status. A pod that is gone is no failure. */
export interface PodStatusWriter {
  setRedirection(pod: PodFacts, value: Redirection): Promise<void>;
  setCaptured(pod: PodFacts, condition: CapturedCondition): Promise<void>;
}

/** What is known of one pod of this node. */
export interface PodReport {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  /** Whether it belongs in the mesh, and why. */
  readonly wanted: boolean;
  readonly why: string;
  /** Proven at `checkedAt`, not assumed. */
  readonly captured: boolean;
  readonly reason: string;
  readonly message: string;
  /** RFC 3339. */
  readonly checkedAt: string;
}

export interface ReconcilerDeps {
  readonly rules: EnrolmentRules;
  readonly redirect: Pick<RedirectFacts, "probeSources" | "ipv6" | "dnsCapture">;
  readonly actions: CaptureActions;
  readonly ztunnel: ZtunnelFeed;
  readonly probes: ProbeSet;
  readonly status: PodStatusWriter;
  readonly clock: Clock;
  readonly log: Logger;
  /** Told each new report, and undefined when the pod is gone. */
  readonly onReport?: (uid: string, report: PodReport | undefined) => void;
}

/** A pod that is, or was, brought into the mesh. */
interface Tracked {
  netns?: NetworkNamespace;
  rules?: InstalledRules;
  /** The facts that `rules` were made from. */
  rulesFor?: string;
  probedIps: string;
  /** Whether ztunnel acknowledged it since it connected. */
  isServed: boolean;
}

interface Failures {
  readonly count: number;
  readonly cancel: () => void;
}

/** As Istio's agent: retry after 5 ms, then twice as long each time up to 5 s, for ever. */
const retryDelay = { firstMs: 5, longestMs: 5_000 };
/** Programs run for a pod at a time; each is `nft` or `ip` for a few milliseconds. */
const concurrency = 4;

/** Why a pod is not captured (yet). */
class NotCaptured extends Error {
  override readonly name = "NotCaptured";
  readonly reason: string;
  /** Nothing but a change of the pod can help. */
  readonly isFinal: boolean;

  constructor(reason: string, message: string, isFinal = false) {
    super(message);
    this.reason = reason;
    this.isFinal = isFinal;
  }
}

export class Reconciler {
  readonly #deps: ReconcilerDeps;
  readonly #pods = new Map<string, PodFacts>();
  readonly #namespaces = new Map<string, Labels>();
  readonly #tracked = new Map<string, Tracked>();
  readonly #failures = new Map<string, Failures>();
  readonly #reports = new Map<string, PodReport>();
  /** Reasons already logged, so that hundreds of retries are one line. */
  readonly #told = new Map<string, string>();
  readonly #queue: KeyedQueue;
  /** What was last written, so that our own writes coming back are not taken for changes. */
  readonly #redirection = new Map<string, Redirection>();

  constructor(deps: ReconcilerDeps) {
    this.#deps = deps;
    this.#queue = new KeyedQueue(concurrency, (uid) => this.#reconcile(uid));
  }

  get reports(): readonly PodReport[] {
    return [...this.#reports.values()];
  }

  /** Resolves when nothing is left to do at once. */
  settled(): Promise<void> {
    return this.#queue.idle();
  }

  /**
   * For the start, before ztunnel may connect: pods that a former agent captured are ztunnel's snapshot, even those
   * whose namespace is not found.
   */
  restore(pods: readonly PodFacts[]): void {
    for (const pod of pods) {
      if (pod.annotations[redirectionAnnotation] !== "enabled" || isTerminal(pod)) continue;
      const netns = this.#deps.actions.find(pod.uid, pod.ips);
      const tracked: Tracked = { ...(netns === undefined ? {} : { netns }), probedIps: "", isServed: false };
      this.#tracked.set(pod.uid, tracked);
      this.#deps.ztunnel.remember(servedPod(pod, netns));
      // All at once, before the first is written anew: no captured pod's probes may fall out of the set meanwhile.
      this.#probe(pod, tracked).catch((error: unknown) => {
        this.#deps.log.warn({ ...nameOf(pod), error: explain(error) }, "cannot let probes pass yet");
      });
    }
  }

  podChanged(pod: PodFacts): void {
    const before = this.#pods.get(pod.uid);
    this.#pods.set(pod.uid, pod);
    const wrote = this.#redirection.has(pod.uid);
    const isForeignEdit = wrote && pod.annotations[redirectionAnnotation] !== this.#redirection.get(pod.uid);
    if (before === undefined || isForeignEdit || relevant(before) !== relevant(pod)) this.#queue.add(pod.uid);
  }

  podGone(uid: string): void {
    if (this.#pods.delete(uid)) this.#queue.add(uid);
  }

  namespaceChanged(name: string, labels: Labels | undefined): void {
    const before = this.#namespaces.get(name);
    if (labels === undefined) this.#namespaces.delete(name);
    else this.#namespaces.set(name, labels);
    if (JSON.stringify(before) === JSON.stringify(labels)) return;
    for (const pod of this.#pods.values()) if (pod.namespace === name) this.#queue.add(pod.uid);
  }

  /** A ztunnel came or went: what it serves is to be proven again. */
  ztunnelChanged(): void {
    for (const [uid, tracked] of this.#tracked) {
      tracked.isServed = false;
      this.#queue.add(uid);
    }
  }

  /** Proves every captured pod again, and mends what is found. */
  checkAll(): void {
    for (const uid of this.#tracked.keys()) this.#queue.add(uid);
  }

  /** Stops working; everything in the pods stays, for the next agent. */
  async close(): Promise<void> {
    for (const { cancel } of this.#failures.values()) cancel();
    await this.#queue.close();
    for (const tracked of this.#tracked.values()) tracked.netns?.close();
  }

  /** Stops working and takes every pod out of the mesh. */
  async cleanUp(): Promise<void> {
    for (const { cancel } of this.#failures.values()) cancel();
    await this.#queue.close();
    for (const [uid, tracked] of this.#tracked) {
      const pod = this.#pods.get(uid);
      if (pod === undefined) continue;
      try {
        await this.#leave(pod, tracked, "the node agent was uninstalled");
      } catch (error) {
        this.#deps.log.warn({ ...nameOf(pod), why: explain(error) }, "pod could not be taken out of the mesh");
      }
    }
  }

  async #reconcile(uid: string): Promise<void> {
    const pod = this.#pods.get(uid);
    if (pod === undefined) return this.#forget(uid);
    const { rules } = this.#deps;
    const verdict = decideEnrolment(pod, this.#namespaces.get(pod.namespace) ?? {}, rules);
    try {
      if (verdict.captured) {
        const besides = await this.#capture(pod);
        await this.#report(pod, verdict, { status: "True", reason: "Captured", message: `${verdict.why}${besides}` });
      } else {
        await this.#release(pod, verdict.why);
      }
      this.#clearFailures(uid);
      this.#told.delete(uid);
    } catch (error) {
      await this.#failed(pod, verdict, error);
    }
  }

  /** What is to be said of the pod besides that it is captured, if anything. */
  async #capture(pod: PodFacts): Promise<string> {
    if (pod.ips.length === 0) throw new NotCaptured("NoAddress", "it has no address yet", true);
    const tracked = this.#track(pod);
    const netns = this.#namespaceOf(pod, tracked);
    const asked = this.#redirectFacts(pod);
    // ztunnel first: were the rules first, a running pod's connections would be refused until it listens. But rules
    // even when ztunnel does not answer: a pod of the mesh does not speak past its policies.
    const served = tracked.isServed ? ({ ok: true } as const) : await this.#deps.ztunnel.add(servedPod(pod, netns));
    tracked.isServed = served.ok;
    // Before the rules: the node's probes must not be captured, nor fail for want of a ztunnel.
    await this.#probe(pod, tracked);
    // Questions that nobody answers would break every name: they go to the cluster's resolvers until somebody does.
    const wanted = { ...asked, dnsCapture: asked.dnsCapture && this.#deps.actions.answersDns(netns.fd) };
    await this.#install(pod, tracked, netns, wanted);
    if (!served.ok) {
      await this.#writePending(pod);
      throw new NotCaptured("ZtunnelPending", served.why);
    }
    await this.#writeRedirection(pod, "enabled");
    await this.#prove(pod, tracked, netns, wanted);
    const isLessThanAsked = asked.dnsCapture && !wanted.dnsCapture;
    return isLessThanAsked ? `; its DNS is not captured: ztunnel does not listen on ${dnsPort} in it` : "";
  }

  #track(pod: PodFacts): Tracked {
    const known = this.#tracked.get(pod.uid);
    if (known !== undefined) return known;
    const tracked: Tracked = { probedIps: "", isServed: false };
    this.#tracked.set(pod.uid, tracked);
    return tracked;
  }

  #namespaceOf(pod: PodFacts, tracked: Tracked): NetworkNamespace {
    const netns = tracked.netns ?? this.#deps.actions.find(pod.uid, pod.ips);
    if (netns !== undefined) return (tracked.netns = netns);
    throw new NotCaptured("NamespaceNotFound", `no network namespace on this node holds ${pod.ips.join(", ")}`);
  }

  #redirectFacts(pod: PodFacts): RedirectFacts {
    try {
      return { ...this.#deps.redirect, ...wishesOf(pod.annotations, this.#deps.redirect) };
    } catch (error) {
      throw new NotCaptured("AnnotationInvalid", explain(error), true);
    }
  }

  async #install(pod: PodFacts, tracked: Tracked, netns: NetworkNamespace, wanted: RedirectFacts): Promise<void> {
    const wantedKey = JSON.stringify(wanted);
    if (tracked.rules !== undefined && tracked.rulesFor === wantedKey) return;
    // Rules of a former agent, or that somebody removed, carry connections that are to live on.
    const joins =
      tracked.rulesFor === undefined &&
      (this.#pods.get(pod.uid) ?? pod).annotations[redirectionAnnotation] === undefined;
    try {
      tracked.rules = await this.#deps.actions.install(netns.fd, wanted, joins);
      tracked.rulesFor = wantedKey;
    } catch (error) {
      throw new NotCaptured("RulesFailed", explain(error));
    }
  }

  async #probe(pod: PodFacts, tracked: Tracked): Promise<void> {
    const ips = pod.ips.join();
    if (tracked.probedIps === ips) return;
    await this.#deps.probes.set(pod.uid, pod.ips);
    tracked.probedIps = ips;
  }

  /** Looks, mends what can be mended here, looks again. */
  async #prove(pod: PodFacts, tracked: Tracked, netns: NetworkNamespace, wanted: RedirectFacts): Promise<void> {
    const first = await this.#look(pod, tracked, netns);
    if (first.length === 0) return;
    // What ends loses its addresses before it is gone: an agent that starts meanwhile finds it so.
    this.#deps.log[pod.isTerminating ? "debug" : "warn"](
      { ...nameOf(pod), problems: first },
      "pod is not captured as it should be: mending",
    );
    if (first.some(({ reason }) => reason === "WrongNamespace")) this.#forgetNamespace(pod, tracked);
    else if (first.some(({ reason }) => reason === "RulesMissing" || reason === "RoutingMissing")) {
      delete tracked.rules;
      await this.#install(pod, tracked, netns, wanted);
    }
    if (first.some(({ reason }) => reason === "ListenersMissing")) tracked.isServed = false;
    const [problem] = tracked.netns === undefined ? first : await this.#look(pod, tracked, netns);
    if (problem !== undefined) throw new NotCaptured(problem.reason, problem.message);
  }

  async #look(pod: PodFacts, tracked: Tracked, netns: NetworkNamespace): Promise<readonly Problem[]> {
    const { tables = "", routing = [], dnsCapture = false } = tracked.rules ?? {};
    const observed = await this.#deps.actions.observe(netns.fd, routing);
    return problemsOf(observed, { ips: pod.ips, tables, routing, dnsCapture });
  }

  #forgetNamespace(pod: PodFacts, tracked: Tracked): void {
    tracked.netns?.close();
    delete tracked.netns;
    delete tracked.rules;
    tracked.isServed = false;
    this.#deps.ztunnel.remember(servedPod(pod, undefined));
  }

  async #release(pod: PodFacts, why: string): Promise<void> {
    const tracked = this.#tracked.get(pod.uid);
    const wasCaptured = tracked !== undefined || pod.annotations[redirectionAnnotation] !== undefined;
    if (wasCaptured) await this.#leave(pod, tracked ?? this.#track(pod), why);
    const condition = { status: "False", reason: "NotSelected", message: why } as const;
    const hasCondition = wasCaptured || pod.captured !== undefined;
    await this.#report(pod, { captured: false, why }, condition, hasCondition);
  }

  /**
   * The annotation first, so that peers stop tunnelling to it. Then nothing new is redirected, ztunnel ends what it
   * carries, and only then does the way go by which both ends of those connections hear of it: were the rules gone
   * first, whoever waits for an answer would wait for ever.
   */
  async #leave(pod: PodFacts, tracked: Tracked, why: string): Promise<void> {
    await this.#writeRedirection(pod, undefined);
    // A pod that has ended takes its namespace, and the rules in it, with it.
    if (!isTerminal(pod)) {
      const netns = this.#namespaceOf(pod, tracked);
      await this.#deps.actions.release(netns.fd);
      await this.#deps.ztunnel.remove(pod.uid);
      await this.#deps.actions.remove(netns.fd);
    }
    await this.#forget(pod.uid);
    this.#deps.log.info({ ...nameOf(pod), why }, "pod left the mesh");
  }

  /** The pod is no longer ours: nothing of it stays on the node or in ztunnel. */
  async #forget(uid: string): Promise<void> {
    const tracked = this.#tracked.get(uid);
    this.#tracked.delete(uid);
    this.#clearFailures(uid);
    if (!this.#pods.has(uid)) {
      this.#reports.delete(uid);
      this.#redirection.delete(uid);
      this.#told.delete(uid);
      this.#deps.onReport?.(uid, undefined);
    }
    if (tracked === undefined) return;
    try {
      await this.#deps.probes.delete(uid);
    } catch (error) {
      this.#deps.log.warn({ uid, why: explain(error) }, "pod could not be taken out of the probe set");
    }
    await this.#deps.ztunnel.remove(uid);
    tracked.netns?.close();
  }

  async #writeRedirection(pod: PodFacts, value: Redirection): Promise<void> {
    const latest = this.#pods.get(pod.uid) ?? pod;
    const isThere = latest.annotations[redirectionAnnotation] === value;
    this.#redirection.set(pod.uid, value);
    if (isThere) return;
    await this.#deps.status.setRedirection(pod, value);
    if (value === "enabled") this.#deps.log.info(nameOf(pod), "pod joined the mesh");
  }

  /** A ztunnel that restarts does not make a captured pod uncaptured for its peers: only a new one is pending. */
  async #writePending(pod: PodFacts): Promise<void> {
    const latest = this.#pods.get(pod.uid) ?? pod;
    if (latest.annotations[redirectionAnnotation] === "enabled") return;
    if (this.#redirection.get(pod.uid) === "enabled") return;
    await this.#writeRedirection(pod, "pending");
  }

  async #failed(
    pod: PodFacts,
    verdict: { readonly captured: boolean; readonly why: string },
    error: unknown,
  ): Promise<void> {
    const reason = error instanceof NotCaptured ? error.reason : "Failed";
    const message = explain(error);
    const isFinal = error instanceof NotCaptured && error.isFinal;
    const count = (this.#failures.get(pod.uid)?.count ?? 0) + 1;
    this.#clearFailures(pod.uid);
    if (!isFinal) {
      const delayMs = Math.min(retryDelay.firstMs * 2 ** (count - 1), retryDelay.longestMs);
      const cancel = this.#deps.clock.schedule(delayMs, () => this.#queue.add(pod.uid));
      this.#failures.set(pod.uid, { count, cancel });
    }
    // The first failures are often over in milliseconds: nobody needs to read of them.
    const isWorthTelling = (isFinal || count >= quietFailures) && !pod.isTerminating;
    const isNews = isWorthTelling && this.#told.get(pod.uid) !== reason;
    if (isNews) this.#told.set(pod.uid, reason);
    this.#deps.log[isNews ? "warn" : "debug"](
      { ...nameOf(pod), reason, why: message, attempts: count },
      "pod is not as its labels want it",
    );
    const condition = { status: "False", reason, message } as const;
    try {
      await this.#report(pod, verdict, condition, isWorthTelling && reason !== "NoAddress");
    } catch (writeError) {
      this.#deps.log.warn({ ...nameOf(pod), why: explain(writeError) }, "pod status could not be written");
    }
  }

  #clearFailures(uid: string): void {
    this.#failures.get(uid)?.cancel();
    this.#failures.delete(uid);
  }

  async #report(
    pod: PodFacts,
    verdict: { readonly captured: boolean; readonly why: string },
    condition: CapturedCondition,
    writes = true,
  ): Promise<void> {
    const { clock, onReport, status } = this.#deps;
    const report: PodReport = {
      uid: pod.uid,
      ...nameOf(pod),
      wanted: verdict.captured,
      why: verdict.why,
      captured: condition.status === "True",
      reason: condition.reason,
      message: condition.message,
      checkedAt: new Date(clock.now()).toISOString(),
    };
    if (!this.#pods.has(pod.uid)) return;
    this.#reports.set(pod.uid, report);
    onReport?.(pod.uid, report);
    const latest = this.#pods.get(pod.uid) ?? pod;
    if (writes && !isSameCondition(latest.captured, condition)) await status.setCaptured(latest, condition);
  }
}

/**
 * 5 + 10 + … + 320 ms: long enough for a pod's namespace to appear and for ztunnel to connect to an agent that was
 * replaced, short enough not to hide trouble.
 */
const quietFailures = 8;

const servedPod = (pod: PodFacts, netns: NetworkNamespace | undefined): ServedPod => ({
  uid: pod.uid,
  info: { name: pod.name, namespace: pod.namespace, serviceAccount: pod.serviceAccount },
  netns,
});

const nameOf = ({ namespace, name }: PodFacts): { readonly namespace: string; readonly name: string } => ({
  namespace,
  name,
});

/** Everything that enrolment or rules depend on, without what we write ourselves. */
function relevant({ labels, annotations, ips, hostNetwork, phase }: PodFacts): string {
  const { [redirectionAnnotation]: _ours, ...others } = annotations;
  return JSON.stringify([labels, others, ips, hostNetwork, phase]);
}

const isSameCondition = (a: PodFacts["captured"], b: CapturedCondition): boolean =>
  a?.status === b.status && a.reason === b.reason && a.message === b.message;
