import { request, type RequestOptions } from "node:https";
import { Readable, Writable } from "node:stream";
import {
  AuthorizationV1Api,
  CoreV1Api,
  Exec,
  KubeConfig,
  KubernetesObjectApi,
  Log,
  PatchStrategy,
  Watch,
  type KubernetesObject,
  type V1Status,
} from "@kubernetes/client-node";
import type { KubeObject } from "#e2e/sandbox/apiserver/object-store.ts";
import type { Answer, ClusterDriver, Ref } from "./cluster-driver.ts";

const strategies = {
  merge: PatchStrategy.MergePatch,
  strategic: PatchStrategy.StrategicMergePatch,
  json: PatchStrategy.JsonPatch,
};
const waitMs = 20_000;

const headerOf = ({ apiVersion, kind, name, namespace }: Ref) => ({
  apiVersion,
  kind,
  metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
});

class Collected extends Writable {
  readonly #chunks: Buffer[] = [];

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#chunks.push(chunk);
    done();
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString();
  }
}

/** Makes the same calls through the official JavaScript client. */
export class ClientDriver implements ClusterDriver {
  readonly name = "@kubernetes/client-node";
  readonly #config = new KubeConfig();
  readonly #objects: KubernetesObjectApi;

  constructor(kubeconfig: string) {
    this.#config.loadFromString(kubeconfig);
    this.#objects = KubernetesObjectApi.makeApiClient(this.#config);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #do<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      const { body } = error as { body?: unknown };
      const message = typeof body === "string" ? body : JSON.stringify(body ?? String(error));
      throw new Error(message.replaceAll('\\"', '"'), { cause: error });
    }
  }

  async create(object: object): Promise<void> {
    const { kind } = object as KubernetesObject;
    if (kind === "CustomResourceDefinition") {
      // The client's model of it calls "default" by another name and would lose it.
      await this.#request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", object);
      return;
    }
    await this.#do(this.#objects.create(object as KubernetesObject));
  }

  async apply(object: object, { dryRun = false } = {}): Promise<void> {
    const spec = object as KubernetesObject;
    const work = this.#objects.patch(
      spec,
      undefined,
      dryRun ? "All" : undefined,
      "client-apply",
      true,
      PatchStrategy.ServerSideApply,
    );
    await this.#do(work);
  }

  async applyServerSide(
    object: object,
    { manager, force = false }: { manager: string; force?: boolean },
  ): Promise<void> {
    await this.#do(
      this.#objects.patch(
        object as KubernetesObject,
        undefined,
        undefined,
        manager,
        force,
        PatchStrategy.ServerSideApply,
      ),
    );
  }

  async get(ref: Ref): Promise<KubeObject> {
    return (await this.#do(this.#objects.read(headerOf(ref)))) as unknown as KubeObject;
  }

  async list({ apiVersion, kind, namespace }: Omit<Ref, "name">, labelSelector = ""): Promise<readonly string[]> {
    const found = await this.#do(
      this.#objects.list(apiVersion, kind, namespace, undefined, undefined, undefined, undefined, labelSelector),
    );
    return found.items.map(({ metadata }) => metadata?.name ?? "");
  }

  async patch(ref: Ref, type: "merge" | "strategic" | "json", patch: object): Promise<void> {
    // The client's object API builds the path from the body, which a JSON patch is not: so the request is made here.
    const { apiVersion, kind, namespace, name } = ref;
    const prefix = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const path = `${prefix}${namespace === undefined ? "" : `/namespaces/${namespace}`}/${kind.toLowerCase()}s/${name}`;
    await this.#request("PATCH", path, patch, strategies[type]);
  }

  async #request(method: string, path: string, body: object, contentType = "application/json"): Promise<unknown> {
    const options: RequestOptions = { method, headers: { "content-type": contentType } };
    await this.#config.applyToHTTPSOptions(options);
    return new Promise((resolve, reject) => {
      const call = request(
        `${this.#config.getCurrentCluster()?.server ?? ""}${path}`,
        options as object,
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("end", () => {
            const text = Buffer.concat(chunks).toString();
            if ((response.statusCode ?? 500) < 300) resolve(JSON.parse(text));
            else reject(new Error(text.replaceAll('\\"', '"')));
          });
        },
      );
      call.on("error", reject);
      call.end(JSON.stringify(body));
    });
  }

  async edit(ref: Ref, { from, to }: { from: string; to: string }): Promise<void> {
    // The same edit on JSON: `replicas: 2` there is `"replicas":2` here.
    const inJson = (text: string) => text.replace(/^(\w+): /u, '"$1":');
    const text = JSON.stringify(await this.get(ref)).replace(inJson(from), inJson(to));
    await this.#do(this.#objects.replace(JSON.parse(text) as KubernetesObject));
  }

  label(ref: Ref, key: string, value: string | null): Promise<void> {
    return this.patch(ref, "merge", { metadata: { labels: { [key]: value } } });
  }

  annotate(ref: Ref, key: string, value: string): Promise<void> {
    return this.patch(ref, "merge", { metadata: { annotations: { [key]: value } } });
  }

  async scale({ namespace, name }: Ref, replicas: number): Promise<void> {
    const path = `/apis/apps/v1/namespaces/${namespace ?? ""}/deployments/${name}/scale`;
    await this.#request("PATCH", path, { spec: { replicas } }, PatchStrategy.MergePatch);
  }

  restart(ref: Ref): Promise<void> {
    const annotations = { "kubectl.kubernetes.io/restartedAt": new Date().toISOString() };
    return this.patch(ref, "strategic", { spec: { template: { metadata: { annotations } } } });
  }

  waitForRollout(ref: Ref): Promise<void> {
    return this.#until(ref, (object) => {
      const { spec, status, metadata } = object as unknown as {
        spec: { replicas: number };
        status: { observedGeneration?: number; availableReplicas?: number; updatedReplicas?: number };
        metadata: { generation: number };
      };
      return (
        status.observedGeneration === metadata.generation &&
        status.updatedReplicas === spec.replicas &&
        status.availableReplicas === spec.replicas
      );
    });
  }

  waitForCondition(ref: Ref, condition: string): Promise<void> {
    return this.#until(ref, (object) => {
      const { conditions = [] } = (object["status"] ?? {}) as { conditions?: { type: string; status: string }[] };
      return conditions.some(({ type, status }) => type === condition && status === "True");
    });
  }

  async #until(ref: Ref, isDone: (object: KubeObject) => boolean): Promise<void> {
    if (isDone(await this.get(ref))) return;
    await this.#watchUntil(
      ref,
      (phase, object) => phase !== "DELETED" && object.metadata.name === ref.name && isDone(object),
    );
  }

  /** Watches until `isDone` says so; fails after the time that kubectl would wait too. */
  async #watchUntil(
    kind: Omit<Ref, "name">,
    isDone: (phase: string, object: KubeObject) => boolean,
    meanwhile?: () => Promise<void>,
  ): Promise<void> {
    const { apiVersion, namespace } = kind;
    const prefix = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const path = `${prefix}${namespace === undefined ? "" : `/namespaces/${namespace}`}/${kind.kind.toLowerCase()}s`;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error(`nothing came of the watch on ${path}`)), waitMs);
    const watch = await new Watch(this.#config).watch(
      path,
      {},
      (phase, object: KubeObject) => {
        if (isDone(phase, object)) resolve();
      },
      (error: unknown) => reject(error instanceof Error ? error : new Error("the watch ended")),
    );
    try {
      await Promise.all([promise, meanwhile?.()]);
    } finally {
      clearTimeout(timer);
      watch.abort();
    }
  }

  async delete(ref: Ref, propagation: "Background" | "Foreground" | "Orphan"): Promise<void> {
    const { uid } = (await this.get(ref)).metadata;
    await this.#do(this.#objects.delete(headerOf(ref), undefined, undefined, undefined, undefined, propagation));
    const deadline = Date.now() + waitMs;
    // As kubectl: wait until the object is gone, not only marked.
    while (Date.now() < deadline) {
      const left = await this.get(ref).catch(() => undefined);
      if (left?.metadata.uid !== uid) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`${ref.kind} "${ref.name}" is still there`);
  }

  async logs(
    { namespace = "", name }: Ref,
    container: string,
    { tailLines, follow = false }: { tailLines?: number; follow?: boolean },
  ): Promise<string> {
    const output = new Collected();
    const ended = new Promise<void>((resolve, reject) => {
      output.on("finish", resolve);
      output.on("error", reject);
    });
    await this.#do(
      new Log(this.#config).log(namespace, name, container, output, {
        follow,
        ...(tailLines === undefined ? {} : { tailLines }),
      }),
    );
    await ended;
    return output.text;
  }

  async exec(
    { namespace = "", name }: Ref,
    container: string,
    command: readonly string[],
    stdin?: string,
  ): Promise<Answer> {
    const [stdout, stderr] = [new Collected(), new Collected()];
    const input = stdin === undefined ? null : Readable.from([Buffer.from(stdin)]);
    const status = await new Promise<V1Status>((resolve, reject) => {
      new Exec(this.#config)
        .exec(namespace, name, container, [...command], stdout, stderr, input, false, resolve)
        .catch(reject);
    });
    const exit = status.details?.causes?.find(({ reason }) => reason === "ExitCode")?.message;
    return {
      code: status.status === "Success" ? 0 : Number(exit ?? -1),
      stdout: stdout.text,
      stderr: stderr.text || (status.message ?? ""),
    };
  }

  async watch(kind: Omit<Ref, "name">, count: number, meanwhile: () => Promise<void>): Promise<readonly string[]> {
    const seen: string[] = [];
    await this.#watchUntil(kind, (_phase, object) => seen.push(object.metadata.name) >= count, meanwhile);
    return seen;
  }

  async resources(): Promise<readonly string[]> {
    const { resources } = await this.#do(this.#config.makeApiClient(CoreV1Api).getAPIResources());
    return resources.map(({ name }) => name);
  }

  async canI(verb: string, resource: string, user?: string): Promise<boolean> {
    const api = this.#config.makeApiClient(AuthorizationV1Api);
    const resourceAttributes = { verb, resource, namespace: "default" };
    const review =
      user === undefined
        ? await api.createSelfSubjectAccessReview({ body: { spec: { resourceAttributes } } })
        : await api.createSubjectAccessReview({ body: { spec: { user, resourceAttributes } } });
    return review.status?.allowed === true;
  }

  async token(namespace: string, name: string): Promise<string> {
    const answer = await this.#do(
      this.#config
        .makeApiClient(CoreV1Api)
        .createNamespacedServiceAccountToken({ namespace, name, body: { spec: { audiences: [] } } }),
    );
    return answer.status?.token ?? "";
  }
}
