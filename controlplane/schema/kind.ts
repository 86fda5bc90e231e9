import type { z } from "zod";
import type { Field } from "./field.ts";

/** A column that `kubectl get` shows. */
export interface Column {
  readonly name: string;
  readonly type: "string" | "date" | "integer";
  readonly jsonPath: string;
  readonly description?: string;
  /** 1 for columns that only `-o wide` shows. */
  readonly priority?: number;
}

/** One kind of configuration object: its names, its schema, and the rules that no schema can carry. */
export interface KindDefinition {
  readonly group: string;
  readonly kind: string;
  readonly plural: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly isNamespaced: boolean;
  /** Stored version first; all versions have the same schema. */
  readonly versions: readonly string[];
  readonly description: string;
  readonly columns: readonly Column[];
  readonly spec: z.core.$ZodType;
  readonly isSpecRequired: boolean;
  readonly hasStatus: boolean;
  /** Annotations and labels of the CRD that its readers ask for. */
  readonly crdAnnotations?: Readonly<Record<string, string>>;
  readonly crdLabels?: Readonly<Record<string, string>>;
  /** Semantic rules. `spec` may be of any form: see {@link Field}. */
  readonly check: (spec: Field, object: Field) => void;
}

export const age: Column = {
  name: "Age",
  type: "date",
  jsonPath: ".metadata.creationTimestamp",
  description: "When it was created",
};

const ofIstio = { isNamespaced: true, hasStatus: true, isSpecRequired: false } as const;

/** What the security kinds share. */
export const securityKind = {
  ...ofIstio,
  group: "security.istio.io",
  categories: ["istio-io", "security-istio-io"],
  versions: ["v1", "v1beta1"],
} as const;

/** What the networking kinds share. */
export const networkingKind = {
  ...ofIstio,
  group: "networking.istio.io",
  categories: ["istio-io", "networking-istio-io"],
  versions: ["v1", "v1beta1", "v1alpha3"],
} as const;

export const telemetryKind = {
  ...ofIstio,
  group: "telemetry.istio.io",
  categories: ["istio-io", "telemetry-istio-io"],
  versions: ["v1alpha1", "v1"],
} as const;

/**
 * What the Gateway API kinds share. The API server demands the approval annotation in groups under k8s.io; istiod reads
 * the bundle version and passes over kinds that are older than it needs.
 */
export const gatewayKind = {
  group: "gateway.networking.k8s.io",
  categories: ["gateway-api"],
  isNamespaced: true,
  hasStatus: true,
  isSpecRequired: true,
  crdAnnotations: {
    "api-approved.kubernetes.io": "unapproved, written for Ambit after the specification of Gateway API",
    "gateway.networking.k8s.io/bundle-version": "v1.6.0",
    "gateway.networking.k8s.io/channel": "experimental",
  },
} as const;
