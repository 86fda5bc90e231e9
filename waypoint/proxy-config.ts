/** `PROXY_CONFIG`: what Istio's control plane tells a proxy that it deploys itself, as JSON. */
import { parseDurationMs, type EnvReader } from "#shared/config/env-reader.ts";

export interface ProxyConfig {
  readonly discoveryAddress?: string | undefined;
  readonly drainMs?: number | undefined;
}

const name = "PROXY_CONFIG";

/** What else stands in it is Envoy's or its agent's affair. Mistakes go to `read`. */
export function readProxyConfig(read: EnvReader): ProxyConfig {
  const text = read.optionalText(name);
  if (text === undefined) return {};
  const config = parse(text);
  if (config === undefined) {
    read.reject(name, text.slice(0, 60), "write a JSON object");
    return {};
  }
  const { discoveryAddress, terminationDrainDuration: drain } = config;
  const drainMs = typeof drain === "string" ? parseDurationMs(drain) : undefined;
  if (drain !== undefined && drainMs === undefined) {
    read.reject(`${name}.terminationDrainDuration`, JSON.stringify(drain), 'write a duration such as "5s"');
  }
  return { discoveryAddress: typeof discoveryAddress === "string" ? discoveryAddress : undefined, drainMs };
}

function parse(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
