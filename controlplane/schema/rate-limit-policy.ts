import { age, type KindDefinition } from "./kind.ts";
import { checkRateLimitPolicy } from "./rate-limit-checks.ts";
import { rateLimitSpec } from "./rate-limit-forms.ts";

export const rateLimitPolicy: KindDefinition = {
  group: "policy.ambit.dev",
  kind: "RateLimitPolicy",
  plural: "ratelimitpolicies",
  shortNames: ["rlp"],
  categories: ["istio-io", "policy-ambit-dev"],
  isNamespaced: true,
  versions: ["v1alpha1"],
  hasStatus: true,
  isSpecRequired: true,
  description: "How many requests of whom a service takes. The waypoint in front of it counts.",
  columns: [
    { name: "Mode", type: "string", jsonPath: ".spec.mode" },
    { name: "Accepted", type: "string", jsonPath: '.status.conditions[?(@.type=="Accepted")].status' },
    { name: "Enforced", type: "string", jsonPath: '.status.conditions[?(@.type=="Enforced")].status' },
    age,
  ],
  spec: rateLimitSpec,
  check: checkRateLimitPolicy,
};
