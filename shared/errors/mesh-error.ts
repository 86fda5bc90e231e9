/** What went wrong, whose fault it is, whether trying again can help, and what to do about it. */
export interface Failure {
  /** Who should look: the configuration's author, the calling side, the called side, or us. */
  readonly blame: "config" | "downstream" | "upstream" | "internal";
  readonly retry: boolean;
  readonly remedy: string;
}

/** Every failure the mesh reports by code. Add one only where somebody would act differently. */
export const failures = {
  NODE_TOO_OLD: {
    blame: "config",
    retry: false,
    remedy: 'Start with "npm run …", which uses the Node that npm ci installed',
  },
  CONFIG_INVALID: {
    blame: "config",
    retry: false,
    remedy: "Correct the settings named in the message",
  },
  IDENTITY_MALFORMED: {
    blame: "config",
    retry: false,
    remedy: "Write spiffe://<trust domain>/ns/<namespace>/sa/<service account>",
  },
  ADDRESS_MALFORMED: {
    blame: "config",
    retry: false,
    remedy: "Write an IPv4 or IPv6 address, or a range such as 10.0.0.0/8",
  },
  RESOURCE_MALFORMED: {
    blame: "upstream",
    retry: false,
    remedy: "The control plane sent a resource outside its schema: see the field named",
  },
  PEER_UNVERIFIED: {
    blame: "upstream",
    retry: false,
    remedy: "Check that both sides trust the same root and the identity is the expected one",
  },
  CERTIFICATE_UNAVAILABLE: {
    blame: "internal",
    retry: true,
    remedy: "Check that the CA is reachable and that the pod runs on this node",
  },
  HBONE_CONNECT_TIMEOUT: {
    blame: "upstream",
    retry: true,
    remedy: "Check that NetworkPolicy allows TCP 15008 to the pod",
  },
  HBONE_CONNECT_FAILED: {
    blame: "upstream",
    retry: true,
    remedy: "Check that the peer listens on 15008 and is captured",
  },
  HBONE_REFUSED: {
    blame: "upstream",
    retry: false,
    remedy: "The peer answered the CONNECT with an error: see its access log",
  },
  HBONE_PROTOCOL: {
    blame: "upstream",
    retry: true,
    remedy: "The peer does not speak HTTP/2 CONNECT as HBONE requires",
  },
  UPSTREAM_CONNECT_FAILED: {
    blame: "upstream",
    retry: true,
    remedy: "Check that the destination listens on this port",
  },
  WORKLOAD_UNKNOWN: {
    blame: "internal",
    retry: true,
    remedy: "The control plane has not sent this pod yet: check its connection",
  },
  SYSTEM_CALL_FAILED: {
    blame: "internal",
    retry: false,
    remedy: "Check the capabilities named in manifests/base (NET_ADMIN, NET_RAW, SYS_ADMIN)",
  },
  XDS_STREAM_FAILED: {
    blame: "upstream",
    retry: true,
    remedy: "Check the control plane's address, certificate and log",
  },
  UNAUTHENTICATED: {
    blame: "downstream",
    retry: false,
    remedy: "Present a valid service account token",
  },
} as const satisfies Record<string, Failure>;

export type FailureCode = keyof typeof failures;

/** An error with a code from {@link failures}; the message names the action and quotes the value. */
export class MeshError extends Error {
  override readonly name = "MeshError";
  readonly code: FailureCode;

  constructor(code: FailureCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }

  get remedy(): string {
    return failures[this.code].remedy;
  }
}

/** The sentence to show for anything thrown, with the causes it wraps. */
export function explain(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  return thrown.cause === undefined ? thrown.message : `${thrown.message}: ${explain(thrown.cause)}`;
}

/** The `code` of anything thrown, such as ECONNRESET; empty if it has none. */
export function codeOf(thrown: unknown): string {
  return typeof thrown === "object" && thrown !== null && "code" in thrown ? String(thrown.code) : "";
}
