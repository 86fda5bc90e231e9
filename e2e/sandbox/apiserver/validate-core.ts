import { sameJson } from "./json-value.ts";
import { ApiError, duplicate, forbiddenField, invalid, invalidValue, required, type FieldError } from "./api-error.ts";
import { deref } from "./core-schemas.ts";
import { validateCrd } from "./crd-resources.ts";
import type { KubeObject } from "./object-store.ts";
import type { ResourceInfo } from "./resources.ts";
import { quantityForm, readQuantity } from "./quantity.ts";
import { child, isObject, listOf, objectsOf, textOf, type JsonObject } from "./schema.ts";
import { fromSelectorObject, matchesLabels } from "./selectors.ts";
import {
  checkName,
  nameRules,
  validateFinalizerChange,
  validateLabels,
  validateMetadata,
} from "./validate-metadata.ts";
import { validateValue } from "./validate-value.ts";
import { validateWebhooks } from "./validate-webhooks.ts";

/** Checks a built-in object as it is about to be stored. Throws one `Invalid` that lists everything. */
export function validateCore(object: KubeObject, previous: KubeObject | undefined, info: ResourceInfo): void {
  const errors = validateMetadata(object, true);
  if (previous !== undefined) errors.push(...validateFinalizerChange(object, previous));
  errors.push(...validateShape(object, info));
  const rule = rules[object.kind];
  if (rule !== undefined) errors.push(...rule(object, previous));
  if (errors.length > 0) throw invalid(info.group, info.kind, object.metadata.name, dropRepeats(errors));
  if (object.kind === "CustomResourceDefinition") validateCrd(object);
}

/** Required fields, types and fixed sets of values, from the schema. Status is written by controllers, in pieces. */
function validateShape(object: KubeObject, info: ResourceInfo): FieldError[] {
  const schema = deref(info.versions[0]?.schema ?? {});
  const { metadata: _metadata, status: _status, ...content } = object;
  const { metadata: _1, status: _2, ...properties } = schema.properties ?? {};
  const needed = (schema.required ?? []).filter((field) => field !== "status" && field !== "metadata");
  return validateValue(content, { ...schema, properties, required: needed });
}

function dropRepeats(errors: readonly FieldError[]): FieldError[] {
  const seen = new Set<string>();
  return errors.filter(({ field, message }) => {
    const text = `${field}\n${message}`;
    return !seen.has(text) && seen.add(text);
  });
}

type Rule = (object: KubeObject, previous: KubeObject | undefined) => FieldError[];

const rules: Readonly<Record<string, Rule>> = {
  ClusterRole: validateRole,
  ClusterRoleBinding: validateBinding,
  ConfigMap: (object, previous) => [
    ...validateData(object, ["data", "binaryData"]),
    ...Object.keys(child(object, "binaryData"))
      .filter((key) => Object.hasOwn(child(object, "data"), key))
      .map((key) => invalidValue(`data[${key}]`, key, "duplicate of key present in binaryData")),
    ...validateImmutable(object, previous, ["data", "binaryData", "immutable"]),
  ],
  DaemonSet: validateWorkload,
  Deployment: validateWorkload,
  MutatingWebhookConfiguration: validateWebhooks,
  Job: (object, previous) =>
    previous === undefined ? [] : unchanged(object, previous, "spec", ["selector", "template", "completions"]),
  Pod: validatePod,
  ReplicaSet: validateWorkload,
  Role: validateRole,
  RoleBinding: validateBinding,
  Secret: validateSecret,
  Service: validateService,
  StatefulSet: validateWorkload,
  ValidatingWebhookConfiguration: validateWebhooks,
};

function unchanged(object: KubeObject, previous: KubeObject, parent: string, fields: readonly string[]): FieldError[] {
  return fields
    .filter((field) => !sameJson(child(object, parent)[field], child(previous, parent)[field]))
    .map((field) => invalidValue(`${parent}.${field}`, child(object, parent)[field], "field is immutable"));
}

function validateWorkload(object: KubeObject, previous: KubeObject | undefined): FieldError[] {
  const spec = child(object, "spec");
  const errors: FieldError[] = [];
  const replicas = spec["replicas"];
  if (typeof replicas === "number" && replicas < 0) {
    errors.push(invalidValue("spec.replicas", replicas, "must be greater than or equal to 0"));
  }
  errors.push(...validateTemplateSelector(object, spec));
  const template = child(spec, "template");
  if (isObject(template["spec"])) {
    errors.push(...validatePodSpec(template["spec"], "spec.template.spec"));
    const policy = template["spec"]["restartPolicy"];
    if (policy !== "Always") {
      errors.push({
        reason: "FieldValueNotSupported",
        field: "spec.template.spec.restartPolicy",
        message: `Unsupported value: ${JSON.stringify(policy)}: supported values: "Always"`,
      });
    }
  }
  if (previous !== undefined) errors.push(...unchanged(object, previous, "spec", ["selector"]));
  return errors;
}

function validateTemplateSelector(object: KubeObject, spec: JsonObject): FieldError[] {
  const selector = spec["selector"];
  if (!isObject(selector)) return [];
  const isEmpty =
    Object.keys(child(selector, "matchLabels")).length === 0 && listOf(selector, "matchExpressions").length === 0;
  if (isEmpty) {
    return [invalidValue("spec.selector", selector, `empty selector is invalid for ${object.kind.toLowerCase()}`)];
  }
  const labels = child(child(child(spec, "template"), "metadata"), "labels") as Record<string, string>;
  const errors = validateLabels(labels, "spec.template.metadata.labels");
  const parsed = tryParse(selector);
  if (parsed === undefined) return errors;
  if (!matchesLabels(parsed, labels)) {
    errors.push(invalidValue("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"));
  }
  return errors;
}

function tryParse(selector: JsonObject): ReturnType<typeof fromSelectorObject> | undefined {
  try {
    return fromSelectorObject(selector);
  } catch (error) {
    if (error instanceof ApiError) return undefined; // the schema's own error names the operator
    throw error;
  }
}

/** Fields of a pod that may change once it exists. */
function withoutMutable(spec: JsonObject): JsonObject {
  const copy = structuredClone(spec);
  for (const list of ["containers", "initContainers"]) {
    for (const container of objectsOf(copy, list)) delete container["image"];
  }
  for (const field of [
    "activeDeadlineSeconds",
    "terminationGracePeriodSeconds",
    "tolerations",
    "schedulingGates",
    "nodeName",
    "ephemeralContainers",
  ]) {
    delete copy[field];
  }
  return copy;
}

function validatePod(object: KubeObject, previous: KubeObject | undefined): FieldError[] {
  const spec = child(object, "spec");
  const errors = validatePodSpec(spec, "spec");
  if (previous === undefined) return errors;
  const before = child(previous, "spec");
  if (before["nodeName"] !== undefined && before["nodeName"] !== spec["nodeName"]) {
    errors.push(forbiddenField("spec.nodeName", "a pod stays on the node that it was bound to"));
  }
  if (!sameJson(withoutMutable(spec), withoutMutable(before))) {
    errors.push(
      forbiddenField(
        "spec",
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
      ),
    );
  }
  return errors;
}

function validatePodSpec(spec: JsonObject, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const volumes = validateVolumes(spec, path, errors);
  const names = new Set<string>();
  for (const list of ["initContainers", "containers"]) {
    for (const [at, container] of objectsOf(spec, list).entries()) {
      errors.push(...validateContainer(container, `${path}.${list}[${at}]`, volumes, names));
    }
  }
  if (Array.isArray(spec["containers"]) && spec["containers"].length === 0) errors.push(required(`${path}.containers`));
  const grace = spec["terminationGracePeriodSeconds"];
  if (typeof grace === "number" && grace < 0) {
    errors.push(invalidValue(`${path}.terminationGracePeriodSeconds`, grace, "must be greater than or equal to 0"));
  }
  return errors;
}

function validateVolumes(spec: JsonObject, path: string, errors: FieldError[]): ReadonlySet<string> {
  const names = new Set<string>();
  for (const [at, volume] of objectsOf(spec, "volumes").entries()) {
    const name = textOf(volume, "name") ?? "";
    errors.push(...checkName(name, nameRules.label, `${path}.volumes[${at}].name`));
    if (names.has(name)) errors.push(duplicate(`${path}.volumes[${at}].name`, name));
    names.add(name);
    if (isObject(volume["secret"]) && (textOf(volume["secret"], "secretName") ?? "") === "")
      errors.push(required(`${path}.volumes[${at}].secret.secretName`));
    const sources = Object.keys(volume).filter((field) => field !== "name");
    for (const extra of sources.slice(1)) {
      errors.push(forbiddenField(`${path}.volumes[${at}].${extra}`, "may not specify more than 1 volume type"));
    }
  }
  return names;
}

function validateContainer(
  container: JsonObject,
  path: string,
  volumes: ReadonlySet<string>,
  names: Set<string>,
): FieldError[] {
  const name = textOf(container, "name") ?? "";
  const errors = checkName(name, nameRules.label, `${path}.name`);
  if (names.has(name)) errors.push(duplicate(`${path}.name`, name));
  names.add(name);
  if ((textOf(container, "image") ?? "") === "") errors.push(required(`${path}.image`));
  for (const [at, port] of objectsOf(container, "ports").entries()) {
    errors.push(...validatePort(port["containerPort"], `${path}.ports[${at}].containerPort`));
    const portName = textOf(port, "name") ?? "";
    if (portName !== "") errors.push(...checkName(portName, nameRules.portName, `${path}.ports[${at}].name`));
  }
  for (const [at, variable] of objectsOf(container, "env").entries()) {
    if ((textOf(variable, "name") ?? "") === "") errors.push(required(`${path}.env[${at}].name`));
    if (variable["value"] !== undefined && variable["value"] !== "" && variable["valueFrom"] !== undefined) {
      errors.push(invalidValue(`${path}.env[${at}].valueFrom`, "", "may not be specified when `value` is not empty"));
    }
  }
  for (const [at, mount] of objectsOf(container, "volumeMounts").entries()) {
    const volume = textOf(mount, "name") ?? "";
    if (!volumes.has(volume)) {
      errors.push({
        reason: "FieldValueInvalid",
        field: `${path}.volumeMounts[${at}].name`,
        message: `Not found: ${JSON.stringify(volume)}`,
      });
    }
  }
  errors.push(...validateResources(child(container, "resources"), `${path}.resources`));
  for (const probe of ["livenessProbe", "readinessProbe", "startupProbe"]) {
    if (isObject(container[probe])) errors.push(...validateProbe(container[probe], `${path}.${probe}`));
  }
  return errors;
}

/** What a container asks for may be neither negative nor more than it may have. */
function validateResources(resources: JsonObject, path: string): FieldError[] {
  const limits = child(resources, "limits");
  const requests = child(resources, "requests");
  const errors: FieldError[] = [];
  for (const [part, amounts] of Object.entries({ limits, requests })) {
    for (const [name, amount] of Object.entries(amounts)) {
      const field = `${path}.${part}[${name}]`;
      const value = readQuantity(amount);
      if (value === undefined) errors.push(invalidValue(field, amount, quantityForm));
      else if (value < 0) errors.push(invalidValue(field, String(amount), "must be greater than or equal to 0"));
    }
  }
  for (const [name, amount] of Object.entries(requests)) {
    const most = readQuantity(limits[name]);
    if (most === undefined || (readQuantity(amount) ?? 0) <= most) continue;
    const why = `must be less than or equal to ${name} limit of ${String(limits[name])}`;
    errors.push(invalidValue(`${path}.requests`, String(amount), why));
  }
  return errors;
}

function validateProbe(probe: JsonObject, path: string): FieldError[] {
  const handlers = ["exec", "grpc", "httpGet", "tcpSocket"].filter((handler) => probe[handler] !== undefined);
  if (handlers.length === 0) return [required(path, "must specify a handler type")];
  const errors = handlers
    .slice(1)
    .map((handler) => forbiddenField(`${path}.${handler}`, "may not specify more than 1 handler type"));
  for (const handler of handlers) {
    const { port } = child(probe, handler);
    if (typeof port === "number") errors.push(...validatePort(port, `${path}.${handler}.port`));
  }
  for (const field of [
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
  ]) {
    const value = probe[field];
    if (typeof value === "number" && value < 0) {
      errors.push(invalidValue(`${path}.${field}`, value, "must be greater than or equal to 0"));
    }
  }
  return errors;
}

function validatePort(port: unknown, field: string): FieldError[] {
  if (typeof port === "number" && port >= 1 && port <= 65_535) return [];
  return [port === undefined ? required(field) : invalidValue(field, port, "must be between 1 and 65535, inclusive")];
}

function validateService(object: KubeObject, previous: KubeObject | undefined): FieldError[] {
  const spec = child(object, "spec");
  const errors = validateServicePorts(spec);
  if (spec["type"] === "ExternalName") {
    errors.push(
      ...checkName((textOf(spec, "externalName") ?? "").replace(/\.$/u, ""), nameRules.subdomain, "spec.externalName"),
    );
  }
  if (isObject(spec["selector"]))
    errors.push(...validateLabels(spec["selector"] as Record<string, string>, "spec.selector"));
  const before = previous === undefined ? {} : child(previous, "spec");
  const keepsAddress =
    before["type"] !== "ExternalName" && spec["type"] !== "ExternalName" && before["clusterIP"] !== undefined;
  if (keepsAddress && before["clusterIP"] !== "" && before["clusterIP"] !== spec["clusterIP"]) {
    errors.push(invalidValue("spec.clusterIPs[0]", [spec["clusterIP"]], "may not change once set"));
  }
  return errors;
}

function validateServicePorts(spec: JsonObject): FieldError[] {
  const ports = objectsOf(spec, "ports");
  const needsPorts = spec["type"] !== "ExternalName" && spec["clusterIP"] !== "None";
  if (ports.length === 0) return needsPorts ? [required("spec.ports")] : [];
  const errors: FieldError[] = [];
  const names = new Set<unknown>();
  const numbers = new Set<string>();
  for (const [at, port] of ports.entries()) {
    const path = `spec.ports[${at}]`;
    const name = textOf(port, "name") ?? "";
    if (name === "" && ports.length > 1) errors.push(required(`${path}.name`));
    if (name !== "") {
      errors.push(...checkName(name, nameRules.label, `${path}.name`));
      if (names.has(name)) errors.push(duplicate(`${path}.name`, name));
      names.add(name);
    }
    errors.push(...validatePort(port["port"], `${path}.port`));
    const number = `${String(port["protocol"])}/${String(port["port"])}`;
    if (numbers.has(number)) errors.push(duplicate(path, { port: port["port"], protocol: port["protocol"] }));
    numbers.add(number);
    if (typeof port["targetPort"] === "number") errors.push(...validatePort(port["targetPort"], `${path}.targetPort`));
  }
  return errors;
}

/** Most that a ConfigMap or Secret may hold: 1 MiB, as Kubernetes. */
const maxDataBytes = 1024 * 1024;

function validateData(object: KubeObject, fields: readonly string[]): FieldError[] {
  const errors: FieldError[] = [];
  let bytes = 0;
  for (const field of fields) {
    for (const [key, value] of Object.entries(child(object, field))) {
      if (!/^[-._a-zA-Z0-9]{1,253}$/u.test(key)) {
        const why =
          "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
        errors.push(invalidValue(`${field}[${key}]`, key, why));
      }
      bytes += Buffer.byteLength(String(value));
    }
  }
  if (bytes > maxDataBytes) {
    errors.push({
      reason: "FieldValueTooLong",
      field: fields[0] ?? "data",
      message: `Too long: may not be more than ${maxDataBytes} bytes`,
    });
  }
  return errors;
}

function validateImmutable(
  object: KubeObject,
  previous: KubeObject | undefined,
  fields: readonly string[],
): FieldError[] {
  if (previous?.["immutable"] !== true) return [];
  return fields
    .filter((field) => !sameJson(object[field], previous[field]))
    .map((field) => forbiddenField(field, "field is immutable when `immutable` is set"));
}

function validateSecret(object: KubeObject, previous: KubeObject | undefined): FieldError[] {
  const errors = [...validateData(object, ["data"]), ...validateImmutable(object, previous, ["data", "immutable"])];
  for (const [key, value] of Object.entries(child(object, "data"))) {
    if (typeof value === "string" && !/^[A-Za-z0-9+/\s]*={0,2}\s*$/u.test(value)) {
      errors.push(invalidValue(`data[${key}]`, "<redacted>", "must be base64"));
    }
  }
  if (previous !== undefined && previous["type"] !== object["type"]) {
    errors.push(invalidValue("type", object["type"], "field is immutable"));
  }
  for (const key of neededKeys[textOf(object, "type") ?? ""] ?? [])
    if (!Object.hasOwn(child(object, "data"), key)) errors.push(required(`data[${key}]`));
  return errors;
}

/** What a Secret of a type must have. */
const neededKeys: Readonly<Record<string, readonly string[]>> = {
  "kubernetes.io/tls": ["tls.crt", "tls.key"],
  "kubernetes.io/dockercfg": [".dockercfg"],
  "kubernetes.io/dockerconfigjson": [".dockerconfigjson"],
  "kubernetes.io/ssh-auth": ["ssh-privatekey"],
};

function validateRole(object: KubeObject): FieldError[] {
  return objectsOf(object, "rules").flatMap((rule, at) => {
    const path = `rules[${at}]`;
    const errors =
      listOf(rule, "verbs").length === 0 ? [required(`${path}.verbs`, "verbs must contain at least one value")] : [];
    if (listOf(rule, "nonResourceURLs").length > 0) return errors;
    if (listOf(rule, "apiGroups").length === 0)
      errors.push(required(`${path}.apiGroups`, "resource rules must supply at least one api group"));
    if (listOf(rule, "resources").length === 0)
      errors.push(required(`${path}.resources`, "resource rules must supply at least one resource"));
    return errors;
  });
}

function validateBinding(object: KubeObject, previous: KubeObject | undefined): FieldError[] {
  const errors: FieldError[] = [];
  if (previous !== undefined && !sameJson(object["roleRef"], previous["roleRef"])) {
    errors.push(invalidValue("roleRef", object["roleRef"], "cannot change roleRef"));
  }
  for (const [at, subject] of objectsOf(object, "subjects").entries()) {
    if (subject["kind"] === "ServiceAccount" && (textOf(subject, "namespace") ?? "") === "") {
      errors.push(required(`subjects[${at}].namespace`));
    }
  }
  return errors;
}
