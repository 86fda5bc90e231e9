/** What the sandbox's outer process, in the machine's network, and its inner one, in the sandbox's, tell each other. */

export interface InnerOptions {
  readonly name: string;
  readonly nodes: number;
  readonly ipv6: boolean;
  /** Image name → command in its place. */
  readonly images: Readonly<Record<string, readonly string[]>>;
  readonly backOffBaseMs: number;
  /** Ports on which the sandbox listens for a control plane outside, which the outer process reaches. */
  readonly outside: readonly number[];
}

export type ToInner =
  /** Comes with the listening socket for kubectl, which belongs to the machine's network. */
  | { readonly kind: "start"; readonly options: InnerOptions }
  /** Comes with the connection, unless there is an error. */
  | { readonly kind: "dialed"; readonly id: number; readonly error?: string }
  | { readonly kind: "locate"; readonly id: number; readonly what: Location };

export type Location =
  { readonly node: string } | { readonly namespace: string; readonly pod: string; readonly container?: string };

export type FromInner =
  | { readonly kind: "listening" }
  | { readonly kind: "progress"; readonly text: string }
  | { readonly kind: "warning"; readonly text: string }
  | { readonly kind: "ready"; readonly caPem: string; readonly token: string }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "dial"; readonly id: number; readonly port: number }
  | { readonly kind: "located"; readonly id: number; readonly place: Place | { readonly error: string } };

/** Numbers and paths as the sandbox sees them. */
export interface Place {
  readonly netns: string;
  /** The container's first process. */
  readonly pid?: number;
}
