import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  randomUUID,
  sign,
  verify,
  type KeyObject,
} from "node:crypto";
import type { Clock } from "#shared/clock/clock.ts";
import { ApiError } from "./api-error.ts";
import type { KubeObject, ObjectStore } from "./object-store.ts";
import { ids } from "./resources.ts";
import { child, isObject, listOf, numberOf, textOf, type JsonObject } from "./schema.ts";

export const issuer = "https://kubernetes.default.svc.cluster.local";
/** What a token is for when its request names nothing else. */
export const defaultAudiences: readonly string[] = [issuer];

/** Who a request comes from. */
export interface User {
  readonly name: string;
  readonly uid?: string;
  readonly groups: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

export interface TokenOptions {
  readonly audiences: readonly string[];
  readonly expirationSeconds: number;
  readonly bound?: { readonly kind: "Pod" | "Node" | "Secret"; readonly name: string; readonly uid: string };
  /** The node of a bound pod. */
  readonly node?: { readonly name: string; readonly uid: string };
}

/** Signs and checks the JSON web tokens of service accounts. Its key lives as long as the server. */
export class ServiceAccountTokens {
  readonly #privateKey: KeyObject;
  readonly #publicKey: KeyObject;
  readonly #keyId: string;
  readonly #clock: Clock;
  readonly #store: Pick<ObjectStore, "get">;

  constructor({ clock, store }: { clock: Clock; store: Pick<ObjectStore, "get"> }) {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.#privateKey = privateKey;
    this.#publicKey = createPublicKey(privateKey);
    this.#keyId = createHash("sha256")
      .update(this.#publicKey.export({ type: "spki", format: "der" }))
      .digest("base64url");
    this.#clock = clock;
    this.#store = store;
  }

  /** The public key, as `/openid/v1/jwks` shows it. */
  get jwks(): { keys: JsonObject[] } {
    return { keys: [{ ...this.#publicKey.export({ format: "jwk" }), use: "sig", alg: "ES256", kid: this.#keyId }] };
  }

  issue(
    account: KubeObject,
    { audiences, expirationSeconds, bound, node }: TokenOptions,
  ): { token: string; expiresAt: string } {
    const now = Math.floor(this.#clock.now() / 1000);
    const { name, namespace, uid } = account.metadata;
    const claims = {
      aud: audiences,
      exp: now + expirationSeconds,
      iat: now,
      iss: issuer,
      jti: randomUUID(),
      "kubernetes.io": {
        namespace,
        serviceaccount: { name, uid },
        ...(bound === undefined ? {} : { [bound.kind.toLowerCase()]: { name: bound.name, uid: bound.uid } }),
        ...(node === undefined ? {} : { node }),
      },
      nbf: now,
      sub: `system:serviceaccount:${namespace ?? ""}:${name}`,
    };
    const expiresAt = `${new Date((now + expirationSeconds) * 1000).toISOString().slice(0, 19)}Z`;
    return { token: this.#sign(claims), expiresAt };
  }

  #sign(claims: object): string {
    const text = `${encode({ alg: "ES256", kid: this.#keyId })}.${encode(claims)}`;
    const signature = sign("sha256", Buffer.from(text), { key: this.#privateKey, dsaEncoding: "ieee-p1363" });
    return `${text}.${signature.toString("base64url")}`;
  }

  /**
   * The user that a token stands for, or why it stands for nobody: signature, times, audience, and whether the
   * account and the object it is bound to still exist.
   */
  check(token: string, audiences: readonly string[]): { user: User; audiences: readonly string[] } | { error: string } {
    const claims = this.#readSigned(token);
    if (claims === undefined) return { error: "invalid bearer token" };
    const now = this.#clock.now() / 1000;
    if (claims["iss"] !== issuer) return { error: "invalid bearer token: unknown issuer" };
    if ((numberOf(claims, "exp") ?? 0) <= now) return { error: "service account token has expired" };
    if ((numberOf(claims, "nbf") ?? 0) > now + 60) return { error: "service account token is not valid yet" };
    const meant = listOf(claims, "aud")
      .filter((audience) => audiences.includes(String(audience)))
      .map(String);
    if (meant.length === 0) {
      return {
        error: `token audiences ${JSON.stringify(claims["aud"])} is invalid for the target audiences ${JSON.stringify(audiences)}`,
      };
    }
    const found = this.#findUser(child(claims, "kubernetes.io"));
    return "error" in found
      ? found
      : { user: { ...found, extra: { ...found.extra, ...credentialId(claims) } }, audiences: meant };
  }

  #readSigned(token: string): JsonObject | undefined {
    const [header, payload, signature, ...rest] = token.split(".");
    if (header === undefined || payload === undefined || signature === undefined || rest.length > 0) return undefined;
    const { alg } = decode(header) ?? {};
    if (alg !== "ES256") return undefined;
    const isGenuine = verify(
      "sha256",
      Buffer.from(`${header}.${payload}`),
      { key: this.#publicKey, dsaEncoding: "ieee-p1363" },
      Buffer.from(signature, "base64url"),
    );
    return isGenuine ? decode(payload) : undefined;
  }

  #findUser(claims: JsonObject): User | { error: string } {
    const namespace = textOf(claims, "namespace") ?? "";
    const { name, uid } = child(claims, "serviceaccount");
    const account = this.#store.get(ids.serviceAccounts, namespace, String(name));
    if (account === undefined || account.metadata.uid !== uid)
      return { error: `service account ${namespace}/${String(name)} has been deleted` };
    const extra: Record<string, readonly string[]> = {};
    const pod = claims["pod"];
    if (isObject(pod)) {
      if (!this.#stillExists(ids.pods, namespace, pod)) return { error: "service account token has been invalidated" };
      extra["authentication.kubernetes.io/pod-name"] = [String(pod["name"])];
      extra["authentication.kubernetes.io/pod-uid"] = [String(pod["uid"])];
    }
    const secret = claims["secret"];
    if (isObject(secret) && !this.#stillExists(ids.secrets, namespace, secret))
      return { error: "service account token has been invalidated" };
    const node = claims["node"];
    if (isObject(node)) {
      extra["authentication.kubernetes.io/node-name"] = [String(node["name"])];
      extra["authentication.kubernetes.io/node-uid"] = [String(node["uid"])];
    }
    return { ...serviceAccountUser(namespace, String(name)), uid: account.metadata.uid, extra };
  }

  #stillExists(id: typeof ids.pods | typeof ids.secrets, namespace: string, reference: JsonObject): boolean {
    return this.#store.get(id, namespace, String(reference["name"]))?.metadata.uid === reference["uid"];
  }
}

function credentialId(claims: JsonObject): Record<string, readonly string[]> {
  const id = textOf(claims, "jti");
  return id === undefined ? {} : { "authentication.kubernetes.io/credential-id": [`JTI=${id}`] };
}

export function serviceAccountUser(namespace: string, name: string): User {
  return {
    name: `system:serviceaccount:${namespace}:${name}`,
    groups: ["system:serviceaccounts", `system:serviceaccounts:${namespace}`, "system:authenticated"],
  };
}

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

function decode(part: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, "base64url").toString("utf8"));
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Seconds: shortest life of a token that may be asked for, as Kubernetes. */
const minTokenSeconds = 600;
const maxTokenSeconds = 2 ** 32;

/** Answers a TokenRequest for a service account: the body of `serviceaccounts/<name>/token`. */
export function requestToken(
  account: KubeObject,
  request: JsonObject,
  { tokens, store }: { tokens: ServiceAccountTokens; store: Pick<ObjectStore, "get"> },
): JsonObject {
  const spec = child(request, "spec");
  const asked = numberOf(spec, "expirationSeconds") ?? 3600;
  if (asked < minTokenSeconds || asked > maxTokenSeconds) {
    const why =
      asked < minTokenSeconds
        ? "may not specify a duration less than 10 minutes"
        : "may not specify a duration larger than 2^32 seconds";
    const field = "spec.expirationSeconds";
    throw new ApiError(
      "Invalid",
      `TokenRequest.authentication.k8s.io "" is invalid: ${field}: Invalid value: ${asked}: ${why}`,
      {
        group: "authentication.k8s.io",
        kind: "TokenRequest",
        causes: [{ reason: "FieldValueInvalid", field, message: `Invalid value: ${asked}: ${why}` }],
      },
    );
  }
  const given = listOf(spec, "audiences").map(String);
  const audiences = given.length === 0 ? defaultAudiences : given;
  const reference = spec["boundObjectRef"];
  const bound = isObject(reference) ? findBound(account, reference, store) : {};
  const { token, expiresAt } = tokens.issue(account, { audiences, expirationSeconds: asked, ...bound });
  return {
    kind: "TokenRequest",
    apiVersion: "authentication.k8s.io/v1",
    metadata: { name: account.metadata.name, namespace: account.metadata.namespace, creationTimestamp: null },
    spec: { ...spec, audiences, expirationSeconds: asked, boundObjectRef: reference ?? null },
    status: { token, expirationTimestamp: expiresAt },
  };
}

function findBound(
  account: KubeObject,
  reference: JsonObject,
  store: Pick<ObjectStore, "get">,
): Pick<TokenOptions, "bound" | "node"> {
  const kind = textOf(reference, "kind");
  const name = textOf(reference, "name") ?? "";
  if (kind !== "Pod" && kind !== "Secret" && kind !== "Node")
    throw new ApiError("BadRequest", `cannot bind token to object of type ${String(kind)}`);
  const id = kind === "Pod" ? ids.pods : kind === "Secret" ? ids.secrets : ids.nodes;
  const namespace = kind === "Node" ? undefined : account.metadata.namespace;
  const object = store.get(id, namespace, name);
  if (object === undefined)
    throw new ApiError("NotFound", `${id.resource} "${name}" not found`, { name, kind: id.resource });
  const { uid } = object.metadata;
  const wanted = textOf(reference, "uid") ?? "";
  if (wanted !== "" && wanted !== uid) {
    throw new ApiError(
      "Conflict",
      `the UID in the bound object reference (${wanted}) does not match the UID in record (${uid}). The object might have been deleted and then recreated`,
    );
  }
  const accountName = textOf(child(object, "spec"), "serviceAccountName") ?? "default";
  if (kind === "Pod" && accountName !== account.metadata.name) {
    throw new ApiError(
      "BadRequest",
      `cannot bind token for serviceaccount "${account.metadata.name}" to pod running with different serviceaccount name.`,
    );
  }
  const nodeName = textOf(child(object, "spec"), "nodeName");
  const node = kind === "Pod" && nodeName !== undefined ? store.get(ids.nodes, undefined, nodeName) : undefined;
  return {
    bound: { kind, name, uid },
    ...(node === undefined ? {} : { node: { name: node.metadata.name, uid: node.metadata.uid } }),
  };
}
