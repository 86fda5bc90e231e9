/** The node agent's settings, named as Istio's CNI agent names them where it has them. */
import { EnvReader } from "#shared/config/env-reader.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { isIpv6, tryIp, type Ip } from "#shared/net/ip.ts";
import { zdsPathDefault } from "#ztunnel/inpod/zds-messages.ts";
import { enablementDefault, parseEnablement, type EnrolmentRules } from "./enrolment.ts";
import type { NamespaceDirs } from "./netns-finder.ts";
import { probeSourcesDefault, type RedirectFacts } from "./redirect-rules.ts";

export interface AgentConfig {
  readonly nodeName: string;
  readonly rules: EnrolmentRules;
  readonly redirect: Pick<RedirectFacts, "probeSources" | "ipv6" | "dnsCapture">;
  readonly zdsPath: string;
  readonly dirs: NamespaceDirs;
  readonly daemonSetName: string;
  readonly readinessPort: number;
  readonly metricsPort: number;
  /** How often every captured pod is proven again. */
  readonly checkIntervalMs: number;
  readonly logLevel: (typeof logLevels)[number];
}

const logLevels = ["trace", "debug", "info", "warn", "error", "silent"] as const;

/** @throws MeshError CONFIG_INVALID once, naming every variable that is wrong */
export function readAgentConfig(env: Readonly<Record<string, string | undefined>>): AgentConfig {
  const read = new EnvReader(env);
  const config: AgentConfig = {
    nodeName: readRequired(read, "NODE_NAME", "write the name of this node (downward API: spec.nodeName)"),
    rules: {
      enablement: readEnablement(read),
      excludedNamespaces: new Set(listOf(read.text("EXCLUDE_NAMESPACES", "kube-system"))),
      systemNamespace: read.text("SYSTEM_NAMESPACE", read.text("POD_NAMESPACE", "istio-system")),
    },
    redirect: {
      probeSources: {
        v4: readIp(read, "HOST_PROBE_SNAT_IP", probeSourcesDefault.v4),
        v6: readIp(read, "HOST_PROBE_SNAT_IPV6", probeSourcesDefault.v6),
      },
      ipv6: read.boolean("AMBIENT_IPV6", true),
      dnsCapture: read.boolean("AMBIENT_DNS_CAPTURE", true),
    },
    zdsPath: read.text("ZTUNNEL_UDS_ADDRESS", zdsPathDefault),
    dirs: {
      proc: read.text("HOST_PROC_DIR", "/host/proc"),
      netns: read.text("HOST_NETNS_DIR", "/host/var/run/netns"),
    },
    daemonSetName: read.text("DAEMONSET_NAME", "istio-cni-node"),
    readinessPort: read.port("READINESS_PORT", 8_000),
    metricsPort: read.port("MONITORING_PORT", 15_014),
    checkIntervalMs: read.durationMs("CAPTURE_CHECK_INTERVAL", 30_000),
    logLevel: read.oneOf("LOG_LEVEL", logLevels, "info"),
  };
  read.finish();
  return config;
}

const listOf = (text: string): readonly string[] =>
  text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");

function readRequired(read: EnvReader, name: string, remedy: string): string {
  const value = read.optionalText(name);
  if (value === undefined) read.reject(name, "", remedy);
  return value ?? "";
}

function readIp(read: EnvReader, name: string, fallback: Ip): Ip {
  const text = read.optionalText(name);
  const ip = text === undefined ? fallback : tryIp(text);
  if (ip !== undefined && isIpv6(ip) === isIpv6(fallback)) return ip;
  read.reject(name, text ?? "", `write an ${isIpv6(fallback) ? "IPv6" : "IPv4"} address such as ${fallback}`);
  return fallback;
}

function readEnablement(read: EnvReader): EnrolmentRules["enablement"] {
  const text = read.text("AMBIENT_ENABLEMENT_SELECTOR", enablementDefault);
  try {
    return parseEnablement(text);
  } catch (error) {
    read.reject("AMBIENT_ENABLEMENT_SELECTOR", text.trim(), explain(error));
    return [];
  }
}
