import type { ReviewedToken, TokenAuthenticator } from "#controlplane/ca/caller.ts";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { KubeError, type KubeClient } from "./kube-client.ts";

interface TokenReview {
  readonly status?: {
    readonly authenticated?: boolean;
    readonly error?: string;
    readonly audiences?: readonly string[];
    readonly user?: { readonly username?: string; readonly extra?: Readonly<Record<string, readonly string[]>> };
  };
}

export interface TokenReviewerOptions {
  readonly client: KubeClient;
  /** A token must be made for one of these. */
  readonly audiences: readonly string[];
  /** The cluster whose tokens this API server knows. */
  readonly clusterId: string;
}

const accountForm = /^system:serviceaccount:([^:]+):([^:]+)$/;
const podName = "authentication.kubernetes.io/pod-name";
const podUid = "authentication.kubernetes.io/pod-uid";

/** Asks the API server whose token it is. */
export class TokenReviewer implements TokenAuthenticator {
  readonly #options: TokenReviewerOptions;

  constructor(options: TokenReviewerOptions) {
    this.#options = options;
  }

  async review(token: string, clusterId: string | undefined): Promise<ReviewedToken> {
    const { client, audiences, clusterId: own } = this.#options;
    if (clusterId !== undefined && clusterId !== "" && clusterId !== own) {
      throw refused(`it is of cluster "${clusterId}", and this control plane knows only "${own}"`);
    }
    const answer = await client
      .request<TokenReview>("/apis/authentication.k8s.io/v1/tokenreviews", {
        method: "POST",
        body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenReview", spec: { token, audiences } },
      })
      .catch((thrown: unknown) => {
        // What the server cannot even read as a token is no trouble of ours.
        if (thrown instanceof KubeError && (thrown.status === 400 || thrown.status === 422))
          throw refused(thrown.message);
        throw thrown;
      });
    return readReview(answer, audiences);
  }
}

const refused = (why: string): MeshError => new MeshError("UNAUTHENTICATED", `Cannot accept the token: ${why}`);

function readReview({ status }: TokenReview, audiences: readonly string[]): ReviewedToken {
  if (status?.authenticated !== true) throw refused(status?.error ?? "the API server does not know it");
  // A server that knows nothing of audiences names none, and then the token may be meant for anybody.
  if (audiences.length > 0 && !audiences.some((audience) => status.audiences?.includes(audience))) {
    throw refused(`it is not made for audience ${audiences.join(" or ")}`);
  }
  const [, namespace, serviceAccount] = accountForm.exec(status.user?.username ?? "") ?? [];
  if (namespace === undefined || serviceAccount === undefined) {
    throw refused(`"${status.user?.username ?? ""}" is no service account`);
  }
  const [name] = status.user?.extra?.[podName] ?? [];
  const [uid] = status.user?.extra?.[podUid] ?? [];
  return { namespace, serviceAccount, ...(name === undefined || uid === undefined ? {} : { pod: { name, uid } }) };
}
