/** What a policy applies to: a label selector, or references to what it is attached to. */
import { z } from "zod";
import type { Field } from "./field.ts";
import { checkLabels } from "./scalars.ts";

export const workloadSelector = z
  .strictObject({
    matchLabels: z
      .record(z.string(), z.string().max(63))
      .optional()
      .describe("Labels that a pod must have, all of them; none: every pod"),
  })
  .describe("The pods of this namespace that it applies to; in the root namespace, of all namespaces");

const targetRef = z
  .strictObject({
    group: z.string().max(253).optional().describe("API group of the target; empty for a Service"),
    kind: z.string().min(1).max(63).describe("Service, ServiceEntry, Gateway or GatewayClass"),
    name: z.string().min(1).max(253).describe("Name of the target"),
    namespace: z.string().optional().describe("Must be empty: a policy applies to its own namespace"),
  })
  .describe("What a waypoint serves");

/** The three ways to attach; a kind writes `...attachment` among its fields. */
export const attachment = {
  selector: workloadSelector
    .optional()
    .describe(
      "The pods of this namespace that it applies to; in the root namespace, of all namespaces. Waypoints do not go by it: write targetRefs",
    ),
  targetRef: targetRef.optional().describe("The single form of targetRefs"),
  targetRefs: z
    .array(targetRef)
    .max(16)
    .optional()
    .describe(
      "Attaches the object to a waypoint (Gateway), to all of them (GatewayClass, in the root namespace), or to services that a waypoint serves",
    ),
};

/** The same rule for the CRD, in the words of the API server. */
export const oneAttachment = {
  "x-kubernetes-validations": [
    {
      rule: "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
      message: "only one of selector, targetRef and targetRefs can be set",
    },
  ],
};

const allowedTargets = new Set([
  "/Service",
  "networking.istio.io/ServiceEntry",
  "gateway.networking.k8s.io/Gateway",
  "gateway.networking.k8s.io/GatewayClass",
]);

export function checkSelector(selector: Field, labelsField: "matchLabels" | "labels" = "matchLabels"): void {
  const labels = selector.at(labelsField);
  checkLabels(labels, labelsField === "labels" ? 256 : 4096);
  if (selector.isSet && (!labels.isSet || labels.isEmpty)) {
    selector.warn("selects every pod of the namespace", "leave the selector out to say so, or name labels");
  }
}

export function checkAttachment(spec: Field): void {
  spec.atMostOne(["selector", "targetRef", "targetRefs"]);
  checkSelector(spec.at("selector"));
  const single = spec.at("targetRef");
  for (const ref of [...(single.isSet ? [single] : []), ...spec.at("targetRefs").items()]) checkTarget(ref);
}

function checkTarget(ref: Field): void {
  const kind = ref.at("kind").text;
  const group = ref.at("group").text ?? "";
  if (kind !== undefined && kind !== "" && !allowedTargets.has(`${group}/${kind}`)) {
    const groupText = group === "" ? "the core group" : `group "${group}"`;
    ref.error(
      `kind "${kind}" of ${groupText} is no target`,
      'write Service (group ""), ServiceEntry (networking.istio.io), Gateway or GatewayClass (gateway.networking.k8s.io)',
    );
  }
  if ((ref.at("namespace").text ?? "") !== "") {
    ref.at("namespace").error("references into other namespaces are not supported", "leave the namespace out");
  }
}
