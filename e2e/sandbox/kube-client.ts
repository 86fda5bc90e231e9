/** A small Kubernetes client for those who start a sandbox: what `kubectl apply`, `get` and `delete` do, as functions. */
import { Agent, request } from "node:https";
import type { KubeObject, NewObject } from "./apiserver/object-store.ts";

export interface KubeAccess {
  /** `https://127.0.0.1:6443` */
  readonly server: string;
  readonly caPem: string;
  readonly token: string;
}

export interface ObjectReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace?: string;
  readonly name: string;
}

/** The API server's refusal. */
export class KubeError extends Error {
  override readonly name = "KubeError";
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

interface Resource {
  readonly name: string;
  readonly namespaced: boolean;
  readonly kind: string;
}

const requestTimeoutMs = 30_000;
const fieldManager = "sandbox";

export class KubeClient {
  readonly #access: KubeAccess;
  readonly #agent: Agent;
  readonly #resources = new Map<string, readonly Resource[]>();

  constructor(access: KubeAccess) {
    this.#access = access;
    this.#agent = new Agent({ keepAlive: true, ca: access.caPem, maxSockets: 8 });
  }

  close(): void {
    this.#agent.destroy();
  }

  /** Server-side apply, taking over fields from others. */
  async apply(object: NewObject): Promise<KubeObject> {
    const path = await this.#path(referenceTo(object));
    const query = `?fieldManager=${fieldManager}&force=true`;
    return (await this.request("PATCH", path + query, object, "application/apply-patch+yaml")) as KubeObject;
  }

  /** Undefined where there is no such object. */
  async get(reference: ObjectReference): Promise<KubeObject | undefined> {
    return this.#orUndefined(this.#path(reference).then((path) => this.request("GET", path)));
  }

  async list(reference: Omit<ObjectReference, "name">, query = ""): Promise<readonly KubeObject[]> {
    const path = await this.#path({ ...reference, name: "" });
    const { items } = (await this.request("GET", path.replace(/\/$/u, "") + query)) as { items: KubeObject[] };
    return items;
  }

  async delete(reference: ObjectReference): Promise<void> {
    await this.#orUndefined(this.#path(reference).then((path) => this.request("DELETE", path)));
  }

  async #orUndefined(answer: Promise<unknown>): Promise<KubeObject | undefined> {
    try {
      return (await answer) as KubeObject;
    } catch (error) {
      if (error instanceof KubeError && error.code === 404) return undefined;
      throw error;
    }
  }

  async #path({ apiVersion, kind, namespace, name }: ObjectReference): Promise<string> {
    const resource = await this.#resource(apiVersion, kind);
    const base = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const scope = resource.namespaced ? `/namespaces/${namespace ?? "default"}` : "";
    return `${base}${scope}/${resource.name}/${name}`;
  }

  async #resource(apiVersion: string, kind: string): Promise<Resource> {
    const find = () =>
      this.#resources.get(apiVersion)?.find((resource) => resource.kind === kind && !resource.name.includes("/"));
    const known = find();
    if (known !== undefined) return known;
    const path = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const { resources } = (await this.request("GET", path).catch((error: unknown) => {
      if (error instanceof KubeError && error.code === 404) return { resources: [] };
      throw error;
    })) as { resources: Resource[] };
    this.#resources.set(apiVersion, resources);
    const found = find();
    if (found === undefined) throw new KubeError(404, `no matches for kind "${kind}" in version "${apiVersion}"`);
    return found;
  }

  /** One request; the answer's body read as JSON, or as text where it is none. */
  request(method: string, path: string, body?: unknown, type = "application/json"): Promise<unknown> {
    const { server, token } = this.#access;
    const headers: Record<string, string> = { authorization: `Bearer ${token}`, accept: "application/json" };
    if (body !== undefined) headers["content-type"] = type;
    return new Promise((resolve, reject) => {
      const call = request(
        `${server}${path}`,
        { method, headers, agent: this.#agent, timeout: requestTimeoutMs },
        (response) => {
          let text = "";
          response.setEncoding("utf8");
          response.on("data", (part: string) => (text += part));
          response.on("error", reject);
          response.on("end", () => {
            const code = response.statusCode ?? 0;
            const answer = parse(text);
            if (code < 400) resolve(answer);
            else reject(new KubeError(code, messageOf(answer) ?? `${method} ${path} answered ${code}`));
          });
        },
      );
      call.on("timeout", () =>
        call.destroy(new Error(`${method} ${path} was not answered within ${requestTimeoutMs} ms`)),
      );
      call.on("error", reject);
      call.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}

export const referenceTo = ({ apiVersion, kind, metadata }: NewObject): ObjectReference => ({
  apiVersion,
  kind,
  name: metadata.name ?? "",
  ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
});

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

const messageOf = (answer: unknown) =>
  typeof answer === "object" && answer !== null && "message" in answer ? String(answer.message) : undefined;
