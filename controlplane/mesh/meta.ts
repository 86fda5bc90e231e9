/** What every object says of itself. */
export type Labels = ReadonlyMap<string, string>;

export interface OwnerReference {
  readonly kind: string;
  readonly name: string;
  readonly isController: boolean;
}

export interface Meta {
  readonly name: string;
  /** Empty for cluster-scoped kinds. */
  readonly namespace: string;
  readonly uid: string;
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly generation: number;
  readonly createdMs: number;
  readonly isDeleting: boolean;
  readonly generateName: string;
  readonly owners: readonly OwnerReference[];
}

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly lastTransitionTime: string;
}
