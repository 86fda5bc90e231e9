/** L4 authorization policies: our own readonly form of `istio.security.Authorization`. */
import type { Cidr } from "#shared/net/cidr.ts";

export type StringMatch =
  { readonly kind: "exact" | "prefix" | "suffix"; readonly value: string } | { readonly kind: "presence" };

export interface ServiceAccountMatch {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** Kinds of fields are ANDed, values within one ORed; a match without any value never matches. */
export interface PolicyMatch {
  readonly namespaces: readonly StringMatch[];
  readonly notNamespaces: readonly StringMatch[];
  readonly principals: readonly StringMatch[];
  readonly notPrincipals: readonly StringMatch[];
  readonly serviceAccounts: readonly ServiceAccountMatch[];
  readonly notServiceAccounts: readonly ServiceAccountMatch[];
  readonly sourceIps: readonly Cidr[];
  readonly notSourceIps: readonly Cidr[];
  readonly destinationIps: readonly Cidr[];
  readonly notDestinationIps: readonly Cidr[];
  readonly destinationPorts: readonly number[];
  readonly notDestinationPorts: readonly number[];
}

/** Names nothing: to be filled in, since it never matches by itself. */
export const emptyMatch: PolicyMatch = {
  namespaces: [],
  notNamespaces: [],
  principals: [],
  notPrincipals: [],
  serviceAccounts: [],
  notServiceAccounts: [],
  sourceIps: [],
  notSourceIps: [],
  destinationIps: [],
  notDestinationIps: [],
  destinationPorts: [],
  notDestinationPorts: [],
};

/** Matches are ORed; none is true. */
export type PolicyClause = readonly PolicyMatch[];
/** Clauses are ANDed; none matches everything. */
export type PolicyRule = readonly PolicyClause[];

export interface Policy {
  /** `namespace/name`. */
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly scope: "GLOBAL" | "NAMESPACE" | "WORKLOAD_SELECTOR";
  readonly action: "ALLOW" | "DENY";
  readonly dryRun: boolean;
  /** Rules are ORed; none never matches. */
  readonly rules: readonly PolicyRule[];
}
