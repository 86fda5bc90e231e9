/** What the node agent needs to know of a pod and its namespace: our own readonly form of the Kubernetes objects. */
import type { Ip } from "#shared/net/ip.ts";

export type Labels = Readonly<Record<string, string>>;

export interface PodFacts {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels: Labels;
  readonly annotations: Labels;
  /** Empty until the pod has an address. */
  readonly ips: readonly Ip[];
  readonly hostNetwork: boolean;
  /** Pending, Running, Succeeded, Failed or Unknown. */
  readonly phase: string;
  /** Its deletion was asked for; it may still serve. */
  readonly isTerminating: boolean;
  /** The condition that this agent writes, as last seen. */
  readonly captured?: { readonly status: string; readonly reason: string; readonly message: string };
}

/** Set by this agent on pods/status; the control plane publishes HBONE for `enabled` only. */
export const redirectionAnnotation = "ambient.istio.io/redirection";
/** Type of the condition that says whether a pod is captured, and why. */
export const capturedCondition = "ambit.dev/Captured";

/** Its containers have ended for good: nothing will run in it again. */
export const isTerminal = (pod: PodFacts): boolean => pod.phase === "Succeeded" || pod.phase === "Failed";
