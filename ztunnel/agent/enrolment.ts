/** Whether a pod belongs in the mesh, and why. Pure: labels and rules in, verdict out. */
import { parse } from "yaml";
import { z } from "zod";
import { MeshError, explain } from "#shared/errors/mesh-error.ts";
import { compileSelector, labelSelectorSchema } from "./label-selector.ts";
import { isTerminal, type Labels, type PodFacts } from "./pod-facts.ts";

export interface Enrolment {
  readonly captured: boolean;
  readonly why: string;
}

interface EnablementRule {
  readonly pod: (labels: Labels) => boolean;
  readonly namespace: (labels: Labels) => boolean;
}

export interface EnrolmentRules {
  /** The pod joins if both selectors of one entry match. */
  readonly enablement: readonly EnablementRule[];
  readonly excludedNamespaces: ReadonlySet<string>;
  /** Where ztunnel itself runs. */
  readonly systemNamespace: string;
}

/** Label on a pod or its namespace by which users decide. */
const modeLabel = "istio.io/dataplane-mode";

/** As Istio's: a pod labelled ambient, or any pod not labelled none in a namespace labelled ambient. */
export const enablementDefault = `
- podSelector:
    matchLabels: {${modeLabel}: ambient}
- podSelector:
    matchExpressions: [{key: ${modeLabel}, operator: NotIn, values: [none]}]
  namespaceSelector:
    matchLabels: {${modeLabel}: ambient}
`;

const enablementSchema = z.array(
  z.strictObject({
    podSelector: labelSelectorSchema.prefault({}),
    namespaceSelector: labelSelectorSchema.prefault({}),
  }),
);

/** @throws MeshError CONFIG_INVALID naming each wrong field */
export function parseEnablement(yaml: string): EnrolmentRules["enablement"] {
  const fail = (why: string, cause?: unknown) =>
    new MeshError("CONFIG_INVALID", `Cannot read AMBIENT_ENABLEMENT_SELECTOR: ${why}`, cause);
  let document: unknown;
  try {
    document = parse(yaml);
  } catch (error) {
    throw fail(explain(error), error);
  }
  const read = enablementSchema.safeParse(document);
  if (!read.success) {
    throw fail(read.error.issues.map(({ path, message }) => `${path.join(".") || "it"}: ${message}`).join("; "));
  }
  return read.data.map(({ podSelector, namespaceSelector }) => ({
    pod: compileSelector(podSelector),
    namespace: compileSelector(namespaceSelector),
  }));
}

const out = (why: string): Enrolment => ({ captured: false, why });

/** Exclusions come before selectors: no label brings a host-network pod into the mesh. */
export function decideEnrolment(pod: PodFacts, namespaceLabels: Labels, rules: EnrolmentRules): Enrolment {
  if (pod.namespace === rules.systemNamespace && pod.labels["app"] === "ztunnel") return out("it is ztunnel itself");
  if (pod.hostNetwork) return out("it uses the host's network");
  if (isTerminal(pod)) return out(`it has ended (phase ${pod.phase})`);
  if (rules.excludedNamespaces.has(pod.namespace)) {
    return out(`namespace ${pod.namespace} is excluded by EXCLUDE_NAMESPACES`);
  }
  if (Object.hasOwn(pod.annotations, "sidecar.istio.io/status")) {
    return out("it has a sidecar (annotation sidecar.istio.io/status)");
  }
  const entry = rules.enablement.findIndex(
    ({ pod: matchesPod, namespace }) => matchesPod(pod.labels) && namespace(namespaceLabels),
  );
  if (entry >= 0) return { captured: true, why: `entry ${entry + 1} of AMBIENT_ENABLEMENT_SELECTOR selects it` };
  const mode = pod.labels[modeLabel];
  if (mode !== undefined) return out(`its label ${modeLabel} is "${mode}"`);
  const namespaceMode = namespaceLabels[modeLabel];
  if (namespaceMode === undefined) return out(`neither it nor namespace ${pod.namespace} has label ${modeLabel}`);
  return out(`label ${modeLabel} of namespace ${pod.namespace} is "${namespaceMode}"`);
}
