import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { parse, parseAllDocuments } from "yaml";
import { coreKinds } from "#controlplane/schema/core-kinds.ts";
import { configKinds } from "#controlplane/schema/kinds.ts";
import { formatProblem } from "#controlplane/schema/problem.ts";
import { checkObject } from "#controlplane/schema/validate.ts";
import { crdFiles } from "./crd-files.ts";

const here = import.meta.dirname;
const house = dirname(here);

interface Metadata {
  readonly name: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

interface Container {
  readonly name: string;
  readonly image: string;
  readonly env?: readonly { readonly name: string }[];
  readonly envFrom?: readonly { readonly configMapRef: { readonly name: string } }[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly readinessProbe?: {
    readonly httpGet?: { readonly port: number };
    readonly tcpSocket?: { readonly port: number };
  };
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
}

interface PodSpec {
  readonly serviceAccountName: string;
  readonly containers: readonly Container[];
  readonly volumes?: readonly { readonly name: string }[];
}

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Metadata;
  readonly data?: Readonly<Record<string, string>>;
  readonly rules?: readonly Rule[];
  readonly roleRef?: { readonly kind: string; readonly name: string };
  readonly subjects?: readonly { readonly kind: string; readonly name: string; readonly namespace: string }[];
  readonly spec?: {
    readonly selector?: Readonly<Record<string, unknown>>;
    readonly template?: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> };
      readonly spec: PodSpec;
    };
    readonly ports?: readonly { readonly port: number; readonly targetPort?: number | string }[];
  };
}

const filesUnder = (folder: string): readonly string[] =>
  readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return filesUnder(path);
    return name.endsWith(".yaml") ? [path] : [];
  });

const objectsIn = (path: string): readonly Manifest[] =>
  parseAllDocuments(readFileSync(path, "utf8")).map((document) => {
    expect(document.errors).toEqual([]);
    return document.toJS() as Manifest;
  });

/** What `kubectl apply -k` would apply. */
function kustomized(folder: string): readonly Manifest[] {
  const { resources } = parse(readFileSync(join(folder, "kustomization.yaml"), "utf8")) as { resources: string[] };
  return resources.flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? kustomized(path) : objectsIn(path);
  });
}

const base = kustomized(join(here, "base"));
const bookshop = kustomized(join(here, "samples/bookshop"));
const named = (objects: readonly Manifest[], kind: string, name: string): Manifest | undefined =>
  objects.find((object) => object.kind === kind && object.metadata.name === name);
const workloads = (objects: readonly Manifest[]) =>
  objects.flatMap((object) =>
    object.spec?.template === undefined
      ? []
      : [{ object, template: object.spec.template, pod: object.spec.template.spec }],
  );

describe("kustomizations", () => {
  test.each(["base", "crds", "samples/bookshop"])("%s names every file beside it, and no other", (folder) => {
    const path = join(here, folder);
    const { resources } = parse(readFileSync(join(path, "kustomization.yaml"), "utf8")) as { resources: string[] };
    const files = readdirSync(path).filter((name) => name.endsWith(".yaml") && name !== "kustomization.yaml");
    expect(resources.filter((name) => !name.startsWith("../")).toSorted()).toEqual(files.toSorted());
  });

  test("no object is written twice", () => {
    const keys = [...base, ...bookshop].map(
      ({ kind, metadata }) => `${kind} ${metadata.namespace ?? ""}/${metadata.name}`,
    );
    expect(keys.length).toBe(new Set(keys).size);
  });

  test("crds are what the schemas say (else: node manifests/generate-crds.ts)", async () => {
    const files = await crdFiles();
    expect(readdirSync(join(here, "crds")).toSorted()).toEqual([...files.keys()].toSorted());
    for (const [name, text] of files) expect(readFileSync(join(here, "crds", name), "utf8")).toBe(text);
  });
});

describe("objects", () => {
  test.each(filesUnder(here).map((path) => [relative(here, path)]))("%s holds valid objects", (path) => {
    for (const object of objectsIn(join(here, path))) {
      if (object.kind === "Kustomization") continue;
      const { problems } = checkObject(object);
      expect(problems.map(formatProblem)).toEqual([]);
    }
  });

  test.each(workloads([...base, ...bookshop]).map((each) => [each.object.metadata.name, each] as const))(
    "%s fits together",
    (_name, { object, template, pod }) => {
      const all = [...base, ...bookshop];
      const { namespace } = object.metadata;
      const inNamespace = all.filter(({ metadata }) => metadata.namespace === namespace);
      expect(template.metadata.labels).toMatchObject(object.spec?.selector?.["matchLabels"] ?? { none: "" });
      expect(named(inNamespace, "ServiceAccount", pod.serviceAccountName)).toBeDefined();
      for (const container of pod.containers) {
        const volumes = (pod.volumes ?? []).map(({ name }) => name);
        for (const { name } of container.volumeMounts ?? []) expect(volumes).toContain(name);
        for (const { configMapRef } of container.envFrom ?? []) {
          expect(named(inNamespace, "ConfigMap", configMapRef.name)).toBeDefined();
        }
        expect(container.readinessProbe).toBeDefined();
      }
    },
  );

  test("every Service selects a workload that has its ports", () => {
    for (const service of [...base, ...bookshop].filter(({ kind }) => kind === "Service")) {
      const selector = (service.spec?.selector ?? {}) as Readonly<Record<string, string>>;
      const behind = workloads([...base, ...bookshop]).filter(
        ({ object, template }) =>
          object.metadata.namespace === service.metadata.namespace &&
          Object.entries(selector).every(([key, value]) => template.metadata.labels[key] === value),
      );
      expect(behind).toHaveLength(1);
      const ports = behind.flatMap(({ pod }) => pod.containers.flatMap((container) => container.ports ?? []));
      for (const { port, targetPort = port } of service.spec?.ports ?? []) {
        expect(ports.some(({ name, containerPort }) => name === targetPort || containerPort === targetPort)).toBe(true);
      }
    }
  });

  test("what belongs to the mesh is not captured by it", () => {
    for (const { template } of workloads(base))
      expect(template.metadata.labels["istio.io/dataplane-mode"]).toBe("none");
  });
});

/** The source files of a program, as text. */
const sources = (...folders: readonly string[]): string =>
  folders
    .flatMap((folder) =>
      readdirSync(join(house, folder), { recursive: true, encoding: "utf8" }).map((name) => join(house, folder, name)),
    )
    .filter((path) => path.endsWith(".ts") && !basename(path).endsWith(".test.ts"))
    .map((path) => readFileSync(path, "utf8"))
    .join("\n");

describe("environment", () => {
  const programs: Readonly<Record<string, string>> = {
    "ambit/controlplane": sources("controlplane"),
    "ambit/ztunnel": sources("ztunnel"),
    "ambit/node-agent": sources("ztunnel/agent"),
  };

  /** ztunnel reads every variable with this prefix. */
  const prefixes = ["ISTIO_META_"];
  /** Of Istio's chart, for its own ztunnel where that stands in for ours. */
  const forIstio = new Set(["RUST_BACKTRACE", "INPOD_ENABLED"]);

  const variables = workloads(base).flatMap(({ pod }) =>
    pod.containers.flatMap(({ image, env = [], envFrom = [] }) => [
      ...env.map(({ name }) => [image, name] as const),
      ...envFrom.flatMap(({ configMapRef }) =>
        Object.keys(named(base, "ConfigMap", configMapRef.name)?.data ?? {}).map((name) => [image, name] as const),
      ),
    ]),
  );

  test.each(variables.filter(([, name]) => !forIstio.has(name)))("%s reads %s", (image, name) => {
    const text = programs[image] ?? "";
    const isRead = [name, ...prefixes.filter((prefix) => name.startsWith(prefix))].some((each) =>
      text.includes(`"${each}"`),
    );
    expect(isRead).toBe(true);
  });
});

/** `verb group/resource`, for every right of an account. */
function rightsOf(account: string, scope: "ClusterRole" | "Role"): readonly string[] {
  const roles = base
    .filter(({ kind, subjects }) => kind === `${scope}Binding` && subjects?.some(({ name }) => name === account))
    .map(({ roleRef }) => named(base, roleRef?.kind ?? "", roleRef?.name ?? ""));
  return roles
    .flatMap((role) => role?.rules ?? [])
    .flatMap(({ apiGroups, resources, verbs, resourceNames }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) =>
          verbs.map(
            (verb) => `${verb} ${group}/${resource}${resourceNames === undefined ? "" : ` ${resourceNames.join()}`}`,
          ),
        ),
      ),
    )
    .toSorted();
}

describe("rights", () => {
  const readRights = (group: string, plural: string): readonly string[] =>
    ["get", "list", "watch"].map((verb) => `${verb} ${group}/${plural}`);

  test("the control plane may read what its source watches, and write what it writes, and nothing else", () => {
    const wanted = [
      ...[...coreKinds, ...configKinds].flatMap(({ group, plural }) => readRights(group, plural)),
      ...readRights("apiextensions.k8s.io", "customresourcedefinitions"),
      ...configKinds.filter(({ hasStatus }) => hasStatus).map(({ group, plural }) => `patch ${group}/${plural}/status`),
      "patch /services/status",
      "create /configmaps",
      "update /configmaps",
      "create authentication.k8s.io/tokenreviews",
      // What runs for waypoints.
      ...readRights("", "serviceaccounts"),
      ...readRights("apps", "deployments"),
      "get autoscaling/horizontalpodautoscalers",
      "get policy/poddisruptionbudgets",
      ...[
        "/services",
        "/serviceaccounts",
        "apps/deployments",
        "autoscaling/horizontalpodautoscalers",
        "policy/poddisruptionbudgets",
      ].flatMap((resource) => [`create ${resource}`, `patch ${resource}`]),
      "create gateway.networking.k8s.io/gatewayclasses",
      ...["get", "list", "watch", "patch"].map(
        (verb) => `${verb} admissionregistration.k8s.io/validatingwebhookconfigurations istio-validator-istio-system`,
      ),
    ];
    expect(rightsOf("istiod", "ClusterRole")).toEqual(wanted.toSorted());
  });

  test("in its own namespace it keeps its key and its lease", () => {
    expect(rightsOf("istiod", "Role")).toEqual([
      "create /secrets",
      "create coordination.k8s.io/leases",
      "get /secrets istio-ca-secret",
      "get coordination.k8s.io/leases istio-status-leader",
      "update /secrets istio-ca-secret",
      "update coordination.k8s.io/leases istio-status-leader",
    ]);
  });

  test("the node agent may read pods and namespaces, and mark pods through their status", () => {
    expect(rightsOf("istio-cni", "ClusterRole")).toEqual([
      "get /namespaces",
      "get /pods",
      "get apps/daemonsets istio-cni-node",
      "list /namespaces",
      "list /pods",
      "patch /pods/status",
      "watch /namespaces",
      "watch /pods",
    ]);
    expect(rightsOf("istio-cni", "Role")).toEqual([]);
  });

  test("ztunnel has no rights, and not even a token", () => {
    expect([...rightsOf("ztunnel", "ClusterRole"), ...rightsOf("ztunnel", "Role")]).toEqual([]);
    expect(named(base, "ServiceAccount", "ztunnel")).toMatchObject({ automountServiceAccountToken: false });
  });

  test("nothing is granted by star", () => {
    for (const { rules = [] } of base) {
      for (const { apiGroups, resources, verbs } of rules) {
        expect([...apiGroups, ...resources, ...verbs].some((each) => each.includes("*"))).toBe(false);
      }
    }
  });
});

interface Schema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly [field: string]: unknown;
}

/** What an API server demands of a structural schema. */
function structuralProblems(schema: Schema, path: string): readonly string[] {
  const problems: string[] = [];
  const isFree =
    schema["x-kubernetes-int-or-string"] === true || schema["x-kubernetes-preserve-unknown-fields"] === true;
  if (schema.type === undefined && !isFree) problems.push(`${path}: no type`);
  if (typeof schema.additionalProperties === "boolean") problems.push(`${path}: additionalProperties is a boolean`);
  if (schema.properties !== undefined && schema.additionalProperties !== undefined) problems.push(`${path}: both`);
  for (const key of ["$ref", "$schema", "const", "propertyNames", "oneOf", "allOf", "definitions"]) {
    if (key in schema) problems.push(`${path}: ${key}`);
  }
  if (schema.type === "array" && schema.items === undefined) problems.push(`${path}: no items`);
  for (const [key, value] of Object.entries(schema.properties ?? {}))
    problems.push(...structuralProblems(value, `${path}.${key}`));
  if (schema.items !== undefined) problems.push(...structuralProblems(schema.items, `${path}[]`));
  if (typeof schema.additionalProperties === "object")
    problems.push(...structuralProblems(schema.additionalProperties, `${path}{}`));
  return problems;
}

/** As `kubectl apply` notes an object: with room for its annotations, and a line break at the end. */
const applied = (object: { readonly metadata: object }): string =>
  `${JSON.stringify({ ...object, metadata: { annotations: {}, ...object.metadata } })}\n`;

describe("crds", () => {
  const crds = base.filter(({ kind }) => kind === "CustomResourceDefinition") as unknown as readonly {
    readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
    readonly spec: {
      readonly group: string;
      readonly scope: string;
      readonly names: { readonly plural: string; readonly kind: string; readonly shortNames?: readonly string[] };
      readonly versions: readonly {
        readonly name: string;
        readonly served: boolean;
        readonly storage: boolean;
        readonly subresources?: object;
        readonly additionalPrinterColumns: readonly object[];
        readonly schema: { readonly openAPIV3Schema: Schema };
      }[];
    };
  }[];

  test.each(crds.map((crd) => [crd.metadata.name, crd] as const))(
    "%s is one that an API server takes",
    (name, { metadata, spec }) => {
      expect(name).toBe(`${spec.names.plural}.${spec.group}`);
      expect(spec.versions.filter(({ storage }) => storage)).toHaveLength(1);
      for (const version of spec.versions) {
        expect(structuralProblems(version.schema.openAPIV3Schema, "")).toEqual([]);
        expect(version.additionalPrinterColumns.length).toBeGreaterThan(0);
      }
      // Groups of Kubernetes itself are guarded.
      const needsApproval = spec.group.endsWith(".k8s.io");
      expect(metadata.annotations?.["api-approved.kubernetes.io"] !== undefined).toBe(needsApproval);
    },
  );

  test.each(crds.map((crd) => [crd.metadata.name, crd] as const))("%s can be applied from the client", (_name, crd) => {
    // kubectl keeps the whole object in an annotation, and an API server bounds what all annotations hold together.
    const annotations = {
      ...crd.metadata.annotations,
      "kubectl.kubernetes.io/last-applied-configuration": applied(crd),
    };
    const bytes = Object.entries(annotations).reduce((sum, pair) => sum + Buffer.byteLength(pair.join("")), 0);
    expect(bytes).toBeLessThan(262_144);
  });

  test("every kind that the source reads has one, and none is left over", () => {
    expect(crds.map(({ spec }) => spec.names.kind).toSorted()).toEqual(configKinds.map(({ kind }) => kind).toSorted());
  });

  test("one writer of conditions does not take away those of another", () => {
    for (const { spec } of crds.filter(({ spec }) => spec.versions[0]?.subresources !== undefined)) {
      const conditions = spec.versions[0]?.schema.openAPIV3Schema.properties?.["status"]?.properties?.["conditions"];
      expect(conditions).toMatchObject({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"] });
    }
  });
});
