import { randomBytes, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { ApiError } from "./api-error.ts";
import {
  defaultAudiences,
  serviceAccountUser,
  type ServiceAccountTokens,
  type User,
} from "./service-account-tokens.ts";

export const anonymous: User = { name: "system:anonymous", groups: ["system:unauthenticated"] };
const administrator: User = { name: "kubernetes-admin", groups: ["system:masters", "system:authenticated"] };

/** Tells who a request comes from by its bearer token: the kubeconfig's administrator or a service account. */
export class Authenticator {
  readonly adminToken = randomBytes(24).toString("base64url");
  readonly #tokens: ServiceAccountTokens;

  constructor(tokens: ServiceAccountTokens) {
    this.#tokens = tokens;
  }

  /**
   * Throws 401 for a token that is wrong; a request without one is anonymous. Administrators may act as others
   * (`kubectl --as`).
   */
  authenticate(headers: IncomingHttpHeaders): User {
    const user = this.#bearer(headers.authorization);
    const asked = headers["impersonate-user"];
    if (asked === undefined) return user;
    if (!user.groups.includes("system:masters") || typeof asked !== "string") {
      throw new ApiError(
        "Forbidden",
        `users ${JSON.stringify(asked)} is forbidden: User "${user.name}" cannot impersonate resource "users" in API group "" at the cluster scope`,
      );
    }
    const groups = [headers["impersonate-group"] ?? []].flat();
    const account = /^system:serviceaccount:([^:]+):([^:]+)$/u.exec(asked);
    if (account !== null && groups.length === 0) return serviceAccountUser(account[1] ?? "", account[2] ?? "");
    return { name: asked, groups: [...new Set([...groups, "system:authenticated"])] };
  }

  #bearer(header: string | undefined): User {
    const token = /^Bearer\s+(\S+)$/iu.exec(header ?? "")?.[1];
    if (token === undefined) return anonymous;
    if (isSame(token, this.adminToken)) return administrator;
    const checked = this.#tokens.check(token, defaultAudiences);
    if ("error" in checked) throw new ApiError("Unauthorized", "Unauthorized");
    return checked.user;
  }
}

function isSame(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
