/** A container's environment, arguments and downward API: pure functions of what the cluster knows. */
import { readQuantity } from "../apiserver/quantity.ts";
import type { Container, EnvVar, FieldRef, Pod, ResourceFieldRef, Service } from "../kinds.ts";

export interface EnvironmentFacts {
  readonly pod: Pod;
  /** Addresses of the pod, the preferred one first; the node's for pods in its network. */
  readonly podIps: readonly string[];
  readonly hostIps: readonly string[];
  readonly configMap: (name: string) => Readonly<Record<string, string>> | undefined;
  /** Decoded. */
  readonly secret: (name: string) => Readonly<Record<string, string>> | undefined;
  /** For the variables that describe services: those of the pod's namespace, and `default/kubernetes`. */
  readonly services: readonly Service[];
  readonly capacity: { readonly cpu: number; readonly memoryBytes: number };
}

/** Something that the container refers to does not exist (yet): the kubelet waits and says so. */
export class MissingReferenceError extends Error {
  override readonly name = "MissingReferenceError";
}

/** @throws MissingReferenceError naming the config map, secret or key */
export function containerEnvironment(container: Container, facts: EnvironmentFacts): Record<string, string> {
  const environment: Record<string, string> = { ...serviceVariables(facts) };
  for (const source of container.envFrom ?? []) {
    Object.assign(environment, importedVariables(source, facts));
  }
  for (const variable of container.env ?? []) {
    const value = variableValue(variable, container, facts, environment);
    if (value !== undefined) environment[variable.name] = value;
  }
  return environment;
}

function importedVariables(
  source: NonNullable<Container["envFrom"]>[number],
  facts: EnvironmentFacts,
): Record<string, string> {
  const { prefix = "", configMapRef, secretRef } = source;
  const reference = configMapRef ?? secretRef;
  if (reference === undefined) return {};
  const kind = configMapRef === undefined ? "secret" : "configmap";
  const data = configMapRef === undefined ? facts.secret(reference.name) : facts.configMap(reference.name);
  if (data === undefined) {
    if (reference.optional === true) return {};
    throw new MissingReferenceError(`${kind} "${reference.name}" not found`);
  }
  return Object.fromEntries(Object.entries(data).map(([key, value]) => [`${prefix}${key}`, value]));
}

function variableValue(
  { value, valueFrom }: EnvVar,
  container: Container,
  facts: EnvironmentFacts,
  earlier: Readonly<Record<string, string>>,
): string | undefined {
  if (valueFrom === undefined) return expandVariables(value ?? "", earlier);
  if (valueFrom.fieldRef !== undefined) return fieldValue(valueFrom.fieldRef, facts);
  if (valueFrom.resourceFieldRef !== undefined) return resourceValue(valueFrom.resourceFieldRef, container, facts);
  const reference = valueFrom.configMapKeyRef ?? valueFrom.secretKeyRef;
  if (reference === undefined) return "";
  const kind = valueFrom.configMapKeyRef === undefined ? "secret" : "configmap";
  const data = kind === "secret" ? facts.secret(reference.name) : facts.configMap(reference.name);
  const found = data?.[reference.key];
  if (found !== undefined || reference.optional === true) return found;
  if (data === undefined) throw new MissingReferenceError(`${kind} "${reference.name}" not found`);
  throw new MissingReferenceError(
    `couldn't find key ${reference.key} in ${kind} ${facts.pod.metadata.namespace}/${reference.name}`,
  );
}

/** `$(NAME)` becomes the value of NAME if there is one and stays as it is if not; `$$` is a plain dollar sign. */
export function expandVariables(text: string, variables: Readonly<Record<string, string>>): string {
  return text.replaceAll(/\$(?:\$|\(([^()]*)\))/gu, (whole: string, name: string | undefined) => {
    if (name === undefined) return "$";
    return Object.hasOwn(variables, name) ? (variables[name] ?? "") : whole;
  });
}

/** The downward API's fields, for variables and for files. */
export function fieldValue({ fieldPath }: FieldRef, { pod, podIps, hostIps }: EnvironmentFacts): string {
  const { metadata, spec } = pod;
  const keyed = /^metadata\.(labels|annotations)\['(.+)'\]$/u.exec(fieldPath);
  if (keyed !== null) return metadata[keyed[1] as "labels" | "annotations"]?.[keyed[2] ?? ""] ?? "";
  switch (fieldPath) {
    case "metadata.name":
      return metadata.name;
    case "metadata.namespace":
      return metadata.namespace ?? "";
    case "metadata.uid":
      return metadata.uid;
    case "metadata.labels":
      return propertyLines(metadata.labels);
    case "metadata.annotations":
      return propertyLines(metadata.annotations);
    case "spec.nodeName":
      return spec.nodeName ?? "";
    case "spec.serviceAccountName":
      return spec.serviceAccountName ?? "default";
    case "status.hostIP":
      return hostIps[0] ?? "";
    case "status.hostIPs":
      return hostIps.join(",");
    case "status.podIP":
      return podIps[0] ?? "";
    case "status.podIPs":
      return podIps.join(",");
    default:
      throw new MissingReferenceError(`fieldPath "${fieldPath}" is not one that the downward API has`);
  }
}

/** One `key="value"` line each, sorted, with Go's quoting. */
function propertyLines(properties: Readonly<Record<string, string>> = {}): string {
  return Object.keys(properties)
    .sort()
    .map((key) => `${key}=${JSON.stringify(properties[key])}`)
    .join("\n");
}

export function resourceValue(
  { containerName, resource, divisor = "1" }: ResourceFieldRef,
  own: Container | undefined,
  { pod, capacity }: EnvironmentFacts,
): string {
  const container =
    containerName === undefined
      ? own
      : [...pod.spec.containers, ...(pod.spec.initContainers ?? [])].find(({ name }) => name === containerName);
  const [part = "", name = ""] = resource.split(".");
  const written = container?.resources?.[part as "limits" | "requests"]?.[name];
  // Without a limit a container may use the whole node.
  const whole = name === "cpu" ? capacity.cpu : name === "memory" ? capacity.memoryBytes : 0;
  const amount = written === undefined ? (part === "limits" ? whole : 0) : (readQuantity(written) ?? 0);
  const unit = readQuantity(divisor === "0" ? "1" : divisor) ?? 0;
  return String(Math.ceil(amount / unit));
}

/** `REDIS_SERVICE_HOST`, `REDIS_PORT_6379_TCP_ADDR` and so on, as the kubelet has always set them. */
function serviceVariables({ pod, services }: EnvironmentFacts): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const { metadata, spec } of services) {
    const isApi = metadata.namespace === "default" && metadata.name === "kubernetes";
    const isLinked = metadata.namespace === pod.metadata.namespace && pod.spec.enableServiceLinks !== false;
    const ip = spec.clusterIP;
    const ports = spec.ports ?? [];
    const first = ports[0];
    if ((!isApi && !isLinked) || ip === undefined || ip === "" || ip === "None" || first === undefined) continue;
    const prefix = metadata.name.toUpperCase().replaceAll(/[-.]/gu, "_");
    const host = ip.includes(":") ? `[${ip}]` : ip;
    const url = ({ port, protocol = "TCP" }: typeof first) => `${protocol.toLowerCase()}://${host}:${port}`;
    variables[`${prefix}_SERVICE_HOST`] = ip;
    variables[`${prefix}_SERVICE_PORT`] = String(first.port);
    variables[`${prefix}_PORT`] = url(first);
    for (const port of ports) {
      const protocol = port.protocol ?? "TCP";
      if (port.name !== undefined && port.name !== "") {
        variables[`${prefix}_SERVICE_PORT_${port.name.toUpperCase().replaceAll("-", "_")}`] = String(port.port);
      }
      const base = `${prefix}_PORT_${port.port}_${protocol}`;
      variables[base] = url(port);
      variables[`${base}_PROTO`] = protocol.toLowerCase();
      variables[`${base}_PORT`] = String(port.port);
      variables[`${base}_ADDR`] = ip;
    }
  }
  return variables;
}
