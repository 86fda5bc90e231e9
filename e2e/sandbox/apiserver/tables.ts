import { humanDuration } from "./human-duration.ts";
import { readJsonPath } from "./json-path.ts";
import type { KubeObject } from "./object-store.ts";
import { podRow } from "./pod-row.ts";
import type { PrinterColumn, ResourceInfo } from "./resources.ts";
import { child, listOf, numberOf, objectsOf, textOf, type JsonObject } from "./schema.ts";

interface Column {
  readonly name: string;
  readonly type: string;
  readonly format: string;
  readonly description: string;
  readonly priority: number;
}

interface Printer {
  readonly columns: readonly Column[];
  /** One cell per column. */
  row(object: KubeObject, nowMs: number): readonly unknown[];
}

/** Objects as the table that `kubectl get` asks for; `include` is how much of each object rides along. */
export function toTable(
  objects: readonly KubeObject[],
  info: ResourceInfo,
  {
    nowMs,
    include,
    columns,
    list,
  }: { nowMs: number; include: string; columns?: readonly PrinterColumn[]; list?: JsonObject },
): JsonObject {
  const printer =
    columns !== undefined && columns.length > 0
      ? customPrinter(columns)
      : (printers[`${info.resource}.${info.group}`] ?? plainPrinter(!info.builtIn));
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata: list ?? { resourceVersion: objects[0]?.metadata.resourceVersion ?? "" },
    columnDefinitions: printer.columns,
    rows: objects.map((object) => ({ cells: printer.row(object, nowMs), object: included(object, include) })),
  };
}

function included(object: KubeObject, include: string): unknown {
  if (include === "None") return null;
  if (include === "Object") return object;
  return { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: object.metadata };
}

/** `Name`, `Ready*` for a wide-only column, `Ready#` for a number. */
function columnsOf(...names: readonly string[]): readonly Column[] {
  return names.map((text) => {
    const name = text.replaceAll(/[*#]/gu, "");
    return {
      name,
      type: text.includes("#") ? "integer" : "string",
      format: name === "Name" ? "name" : "",
      description: name,
      priority: text.includes("*") ? 1 : 0,
    };
  });
}

const age = (object: KubeObject, nowMs: number) => humanDuration(nowMs - Date.parse(object.metadata.creationTimestamp));
const since = (time: string | undefined, nowMs: number) =>
  time === undefined ? "<unknown>" : humanDuration(nowMs - Date.parse(time));
const orNone = (text: string) => (text === "" ? "<none>" : text);
const joined = (values: readonly unknown[]) => orNone(values.map(String).join(","));
const count = (object: JsonObject | undefined, field: string) => numberOf(object, field) ?? 0;

function selectorText(selector: JsonObject): string {
  const equal = Object.entries(child(selector, "matchLabels")).map(([key, value]) => `${key}=${String(value)}`);
  const expressions = objectsOf(selector, "matchExpressions").map((one) => {
    const key = textOf(one, "key") ?? "";
    const values = `(${listOf(one, "values").join(",")})`;
    switch (one["operator"]) {
      case "Exists":
        return key;
      case "DoesNotExist":
        return `!${key}`;
      case "In":
        return `${key} in ${values}`;
      default:
        return `${key} notin ${values}`;
    }
  });
  return joined([...equal.sort(), ...expressions]);
}

const plainSelector = (selector: JsonObject) => selectorText({ matchLabels: selector });

function containersOf(object: KubeObject): { names: string; images: string } {
  const containers = objectsOf(child(child(child(object, "spec"), "template"), "spec"), "containers");
  return { names: joined(containers.map((one) => one["name"])), images: joined(containers.map((one) => one["image"])) };
}

function plainPrinter(withAge: boolean): Printer {
  return withAge
    ? { columns: columnsOf("Name", "Age"), row: (object, now) => [object.metadata.name, age(object, now)] }
    : {
        columns: columnsOf("Name", "Created At"),
        row: (object) => [object.metadata.name, object.metadata.creationTimestamp],
      };
}

function customPrinter(columns: readonly PrinterColumn[]): Printer {
  const own = columns.map((column) => ({
    name: column.name,
    type: column.type,
    format: column.format ?? "",
    description: column.description ?? `Custom resource definition column (in JSONPath format): ${column.jsonPath}`,
    priority: column.priority ?? 0,
  }));
  return {
    columns: [...columnsOf("Name"), ...own],
    row: (object, now) => [object.metadata.name, ...columns.map((column) => customCell(object, column, now))],
  };
}

function customCell(object: KubeObject, { jsonPath, type }: PrinterColumn, nowMs: number): unknown {
  const values = readJsonPath(object, jsonPath).filter((value) => value !== null);
  if (values.length === 0) return null;
  const [first] = values;
  if (type === "date") return typeof first === "string" ? since(first, nowMs) : null;
  if (type === "integer" || type === "number" || type === "boolean") return first;
  return values.map((value) => (typeof value === "string" ? value : JSON.stringify(value))).join(",");
}

const printers: Readonly<Record<string, Printer>> = {
  "pods.": {
    columns: columnsOf(
      "Name",
      "Ready",
      "Status",
      "Restarts",
      "Age",
      "IP*",
      "Node*",
      "Nominated Node*",
      "Readiness Gates*",
    ),
    row: (pod, now) => podRow(pod, age(pod, now), now),
  },
  "namespaces.": {
    columns: columnsOf("Name", "Status", "Age"),
    row: (object, now) => [object.metadata.name, textOf(child(object, "status"), "phase"), age(object, now)],
  },
  "nodes.": {
    columns: columnsOf(
      "Name",
      "Status",
      "Roles",
      "Age",
      "Version",
      "Internal-IP*",
      "External-IP*",
      "OS-Image*",
      "Kernel-Version*",
      "Container-Runtime*",
    ),
    row: nodeRow,
  },
  "services.": {
    columns: columnsOf("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector*"),
    row: serviceRow,
  },
  "endpoints.": {
    columns: columnsOf("Name", "Endpoints", "Age"),
    row: (object, now) => [object.metadata.name, shorten(endpointsOf(object), 3), age(object, now)],
  },
  "endpointslices.discovery.k8s.io": {
    columns: columnsOf("Name", "AddressType", "Ports", "Endpoints", "Age"),
    row: (object, now) => {
      const ports = objectsOf(object, "ports").map(({ port }) => String(port));
      const endpoints = objectsOf(object, "endpoints").flatMap((endpoint) => listOf(endpoint, "addresses").map(String));
      return [
        object.metadata.name,
        object["addressType"],
        ports.length === 0 ? "<unset>" : shorten(ports, 3),
        endpoints.length === 0 ? "<unset>" : shorten(endpoints, 3),
        age(object, now),
      ];
    },
  },
  "configmaps.": {
    columns: columnsOf("Name", "Data#", "Age"),
    row: (object, now) => [object.metadata.name, size(object, "data") + size(object, "binaryData"), age(object, now)],
  },
  "secrets.": {
    columns: columnsOf("Name", "Type", "Data#", "Age"),
    row: (object, now) => [object.metadata.name, object["type"], size(object, "data"), age(object, now)],
  },
  "serviceaccounts.": {
    columns: columnsOf("Name", "Secrets#", "Age"),
    row: (object, now) => [object.metadata.name, listOf(object, "secrets").length, age(object, now)],
  },
  "events.": {
    columns: columnsOf(
      "Last Seen",
      "Type",
      "Reason",
      "Object",
      "Subobject*",
      "Source*",
      "Message",
      "First Seen*",
      "Count*",
      "Name*",
    ),
    row: eventRow,
  },
  "deployments.apps": {
    columns: columnsOf("Name", "Ready", "Up-to-date#", "Available#", "Age", "Containers*", "Images*", "Selector*"),
    row: (object, now) => {
      const status = child(object, "status");
      const { names, images } = containersOf(object);
      const ready = `${count(status, "readyReplicas")}/${count(child(object, "spec"), "replicas")}`;
      return [
        object.metadata.name,
        ready,
        count(status, "updatedReplicas"),
        count(status, "availableReplicas"),
        age(object, now),
        names,
        images,
        selectorText(child(child(object, "spec"), "selector")),
      ];
    },
  },
  "replicasets.apps": {
    columns: columnsOf("Name", "Desired#", "Current#", "Ready#", "Age", "Containers*", "Images*", "Selector*"),
    row: (object, now) => {
      const status = child(object, "status");
      const { names, images } = containersOf(object);
      return [
        object.metadata.name,
        count(child(object, "spec"), "replicas"),
        count(status, "replicas"),
        count(status, "readyReplicas"),
        age(object, now),
        names,
        images,
        selectorText(child(child(object, "spec"), "selector")),
      ];
    },
  },
  "daemonsets.apps": {
    columns: columnsOf(
      "Name",
      "Desired#",
      "Current#",
      "Ready#",
      "Up-to-date#",
      "Available#",
      "Node Selector",
      "Age",
      "Containers*",
      "Images*",
      "Selector*",
    ),
    row: (object, now) => {
      const status = child(object, "status");
      const { names, images } = containersOf(object);
      const nodeSelector = child(child(child(child(object, "spec"), "template"), "spec"), "nodeSelector");
      return [
        object.metadata.name,
        count(status, "desiredNumberScheduled"),
        count(status, "currentNumberScheduled"),
        count(status, "numberReady"),
        count(status, "updatedNumberScheduled"),
        count(status, "numberAvailable"),
        plainSelector(nodeSelector),
        age(object, now),
        names,
        images,
        selectorText(child(child(object, "spec"), "selector")),
      ];
    },
  },
  "statefulsets.apps": {
    columns: columnsOf("Name", "Ready", "Age", "Containers*", "Images*"),
    row: (object, now) => {
      const { names, images } = containersOf(object);
      const ready = `${count(child(object, "status"), "readyReplicas")}/${count(child(object, "spec"), "replicas")}`;
      return [object.metadata.name, ready, age(object, now), names, images];
    },
  },
  "jobs.batch": {
    columns: columnsOf("Name", "Status", "Completions", "Duration", "Age"),
    row: (object, now) => {
      const status = child(object, "status");
      const conditions = objectsOf(status, "conditions")
        .filter((one) => one["status"] === "True")
        .map((one) => one["type"]);
      const state = conditions.includes("Complete") ? "Complete" : conditions.includes("Failed") ? "Failed" : "Running";
      const started = textOf(status, "startTime");
      const end = textOf(status, "completionTime");
      const duration =
        started === undefined ? "" : humanDuration((end === undefined ? now : Date.parse(end)) - Date.parse(started));
      return [
        object.metadata.name,
        state,
        `${count(status, "succeeded")}/${count(child(object, "spec"), "completions")}`,
        duration,
        age(object, now),
      ];
    },
  },
  "leases.coordination.k8s.io": {
    columns: columnsOf("Name", "Holder", "Age"),
    row: (object, now) => [
      object.metadata.name,
      textOf(child(object, "spec"), "holderIdentity") ?? "",
      age(object, now),
    ],
  },
  "customresourcedefinitions.apiextensions.k8s.io": {
    columns: columnsOf("Name", "Created At"),
    row: (object) => [object.metadata.name, object.metadata.creationTimestamp],
  },
  "networkpolicies.networking.k8s.io": {
    columns: columnsOf("Name", "Pod-Selector", "Age"),
    row: (object, now) => [
      object.metadata.name,
      selectorText(child(child(object, "spec"), "podSelector")),
      age(object, now),
    ],
  },
  "ingresses.networking.k8s.io": {
    columns: columnsOf("Name", "Class", "Hosts", "Address", "Ports", "Age"),
    row: (object, now) => {
      const spec = child(object, "spec");
      const hosts = objectsOf(spec, "rules").map((rule) => textOf(rule, "host") ?? "");
      const addresses = objectsOf(child(child(object, "status"), "loadBalancer"), "ingress");
      return [
        object.metadata.name,
        textOf(spec, "ingressClassName") ?? "<none>",
        hosts.length === 0
          ? "*"
          : shorten(
              hosts.map((host) => (host === "" ? "*" : host)),
              3,
            ),
        addresses.map((one) => textOf(one, "ip") ?? textOf(one, "hostname") ?? "").join(","),
        objectsOf(spec, "tls").length > 0 ? "80, 443" : "80",
        age(object, now),
      ];
    },
  },
  "ingressclasses.networking.k8s.io": {
    columns: columnsOf("Name", "Controller", "Parameters", "Age"),
    row: (object, now) => {
      const parameters = child(child(object, "spec"), "parameters");
      const kind = [textOf(parameters, "kind"), textOf(parameters, "apiGroup")].filter((part) => part !== undefined);
      const name = textOf(parameters, "name");
      return [
        object.metadata.name,
        textOf(child(object, "spec"), "controller") ?? "",
        name === undefined ? "<none>" : `${kind.join(".")}/${name}`,
        age(object, now),
      ];
    },
  },
  "cronjobs.batch": {
    columns: columnsOf(
      "Name",
      "Schedule",
      "Timezone",
      "Suspend",
      "Active#",
      "Last Schedule",
      "Age",
      "Containers*",
      "Images*",
      "Selector*",
    ),
    row: (object, now) => {
      const spec = child(object, "spec");
      const status = child(object, "status");
      const last = textOf(status, "lastScheduleTime");
      const { names, images } = containersOf({ ...object, spec: child(child(spec, "jobTemplate"), "spec") });
      return [
        object.metadata.name,
        textOf(spec, "schedule") ?? "",
        textOf(spec, "timeZone") ?? "<none>",
        spec["suspend"] === true ? "True" : "False",
        listOf(status, "active").length,
        last === undefined ? "<none>" : since(last, now),
        age(object, now),
        names,
        images,
        "<none>",
      ];
    },
  },
  "storageclasses.storage.k8s.io": {
    columns: columnsOf("Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"),
    row: (object, now) => {
      const isDefault = object.metadata.annotations?.["storageclass.kubernetes.io/is-default-class"] === "true";
      return [
        `${object.metadata.name}${isDefault ? " (default)" : ""}`,
        textOf(object, "provisioner") ?? "",
        textOf(object, "reclaimPolicy") ?? "Delete",
        textOf(object, "volumeBindingMode") ?? "Immediate",
        String(object["allowVolumeExpansion"] === true),
        age(object, now),
      ];
    },
  },
  "rolebindings.rbac.authorization.k8s.io": bindingPrinter(),
  "clusterrolebindings.rbac.authorization.k8s.io": bindingPrinter(),
  "poddisruptionbudgets.policy": {
    columns: columnsOf("Name", "Min Available", "Max Unavailable", "Allowed Disruptions#", "Age"),
    row: (object, now) => {
      const spec = child(object, "spec");
      const shown = (value: unknown) => (typeof value === "string" || typeof value === "number" ? value : "N/A");
      return [
        object.metadata.name,
        shown(spec["minAvailable"]),
        shown(spec["maxUnavailable"]),
        count(child(object, "status"), "disruptionsAllowed"),
        age(object, now),
      ];
    },
  },
  "priorityclasses.scheduling.k8s.io": {
    columns: columnsOf("Name", "Value#", "Global-Default", "Age"),
    row: (object, now) => [object.metadata.name, object["value"], object["globalDefault"] === true, age(object, now)],
  },
  "mutatingwebhookconfigurations.admissionregistration.k8s.io": webhookPrinter(),
  "validatingwebhookconfigurations.admissionregistration.k8s.io": webhookPrinter(),
  "horizontalpodautoscalers.autoscaling": {
    columns: columnsOf("Name", "Reference", "MinPods", "MaxPods#", "Replicas#", "Age"),
    row: (object, now) => {
      const spec = child(object, "spec");
      const target = child(spec, "scaleTargetRef");
      const reference = `${textOf(target, "kind") ?? ""}/${textOf(target, "name") ?? ""}`;
      return [
        object.metadata.name,
        reference,
        String(numberOf(spec, "minReplicas") ?? "<unset>"),
        count(spec, "maxReplicas"),
        count(child(object, "status"), "currentReplicas"),
        age(object, now),
      ];
    },
  },
};

function bindingPrinter(): Printer {
  const named = (object: KubeObject, kind: string) =>
    objectsOf(object, "subjects")
      .filter((subject) => subject["kind"] === kind)
      .map((subject) =>
        kind === "ServiceAccount"
          ? `${textOf(subject, "namespace") ?? ""}/${textOf(subject, "name") ?? ""}`
          : subject["name"],
      )
      .join(", ");
  return {
    columns: columnsOf("Name", "Role", "Age", "Users*", "Groups*", "ServiceAccounts*"),
    row: (object, now) => {
      const role = child(object, "roleRef");
      return [
        object.metadata.name,
        `${textOf(role, "kind") ?? ""}/${textOf(role, "name") ?? ""}`,
        age(object, now),
        named(object, "User"),
        named(object, "Group"),
        named(object, "ServiceAccount"),
      ];
    },
  };
}

function webhookPrinter(): Printer {
  return {
    columns: columnsOf("Name", "Webhooks#", "Age"),
    row: (object, now) => [object.metadata.name, listOf(object, "webhooks").length, age(object, now)],
  };
}

const size = (object: KubeObject, field: string) => Object.keys(child(object, field)).length;

function shorten(values: readonly string[], most: number): string {
  if (values.length === 0) return "<none>";
  const shown = values.slice(0, most).join(",");
  return values.length > most ? `${shown} + ${values.length - most} more...` : shown;
}

function endpointsOf(object: KubeObject): readonly string[] {
  return objectsOf(object, "subsets").flatMap((subset) => {
    const ports = objectsOf(subset, "ports");
    return objectsOf(subset, "addresses").flatMap(({ ip }) => {
      const host = String(ip).includes(":") ? `[${String(ip)}]` : String(ip);
      return ports.length === 0 ? [host] : ports.map(({ port }) => `${host}:${String(port)}`);
    });
  });
}

function nodeRow(node: KubeObject, nowMs: number): readonly unknown[] {
  const status = child(node, "status");
  const ready = objectsOf(status, "conditions").find((one) => one["type"] === "Ready");
  const state = ready === undefined ? "Unknown" : ready["status"] === "True" ? "Ready" : "NotReady";
  const blocked = child(node, "spec")["unschedulable"] === true ? ",SchedulingDisabled" : "";
  const prefix = "node-role.kubernetes.io/";
  const roles = Object.keys(node.metadata.labels ?? {})
    .filter((key) => key.startsWith(prefix))
    .map((key) => key.slice(prefix.length));
  const facts = child(status, "nodeInfo");
  const address = (type: string) =>
    objectsOf(status, "addresses").find((one) => one["type"] === type)?.["address"] ?? "<none>";
  return [
    node.metadata.name,
    `${state}${blocked}`,
    joined(roles.sort()),
    age(node, nowMs),
    textOf(facts, "kubeletVersion") ?? "",
    address("InternalIP"),
    address("ExternalIP"),
    textOf(facts, "osImage") ?? "<unknown>",
    textOf(facts, "kernelVersion") ?? "<unknown>",
    textOf(facts, "containerRuntimeVersion") ?? "<unknown>",
  ];
}

function serviceRow(service: KubeObject, nowMs: number): readonly unknown[] {
  const spec = child(service, "spec");
  const ports = objectsOf(spec, "ports").map(
    ({ port, nodePort, protocol }) =>
      `${String(port)}${typeof nodePort === "number" ? `:${nodePort}` : ""}/${String(protocol)}`,
  );
  return [
    service.metadata.name,
    spec["type"],
    textOf(spec, "clusterIP") ?? "<none>",
    externalAddress(service),
    joined(ports),
    age(service, nowMs),
    plainSelector(child(spec, "selector")),
  ];
}

function externalAddress(service: KubeObject): string {
  const spec = child(service, "spec");
  const external = listOf(spec, "externalIPs").map(String);
  if (spec["type"] === "ExternalName") return textOf(spec, "externalName") ?? "<none>";
  if (spec["type"] !== "LoadBalancer") return joined(external);
  const given = objectsOf(child(child(service, "status"), "loadBalancer"), "ingress").map(
    (one) => textOf(one, "ip") ?? textOf(one, "hostname") ?? "",
  );
  const all = [...given, ...external];
  return all.length === 0 ? "<pending>" : all.join(",");
}

function eventRow(event: KubeObject, nowMs: number): readonly unknown[] {
  const about = child(event, "involvedObject");
  const series = child(event, "series");
  const first = textOf(event, "firstTimestamp") ?? textOf(event, "eventTime") ?? event.metadata.creationTimestamp;
  const last = textOf(series, "lastObservedTime") ?? textOf(event, "lastTimestamp") ?? first;
  const source = child(event, "source");
  const from = [textOf(source, "component") ?? textOf(event, "reportingComponent"), textOf(source, "host")].filter(
    (part) => part !== undefined && part !== "",
  );
  return [
    since(last, nowMs),
    event["type"],
    event["reason"],
    `${(textOf(about, "kind") ?? "").toLowerCase()}/${textOf(about, "name") ?? ""}`,
    textOf(about, "fieldPath") ?? "",
    from.join(", "),
    (textOf(event, "message") ?? "").trim(),
    since(first, nowMs),
    numberOf(series, "count") ?? numberOf(event, "count") ?? 1,
    event.metadata.name,
  ];
}
