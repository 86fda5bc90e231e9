/** Translation's settings from the environment variables of Istio's control plane. */
import type { EnvReader } from "#shared/config/env-reader.ts";
import { rangeBytes } from "./address-bytes.ts";
import { defaultOptions, type TranslateOptions } from "./options.ts";

/** Mistakes are left with `read`, for its `finish`. */
export function readTranslateOptions(read: EnvReader, domain: string): TranslateOptions {
  const range = (name: string, fallback: string, octets: number): string => {
    const text = read.text(name, fallback);
    if (rangeBytes(text)?.address.length === octets) return text;
    read.reject(name, text, `write a range such as ${fallback}`);
    return fallback;
  };
  return {
    clusterId: read.text("CLUSTER_ID", defaultOptions.clusterId),
    domain,
    revision: read.text("REVISION", defaultOptions.revision),
    systemNamespace: read.text("POD_NAMESPACE", defaultOptions.systemNamespace),
    autoAllowWaypointPolicy: read.boolean("PILOT_AUTO_ALLOW_WAYPOINT_POLICY", defaultOptions.autoAllowWaypointPolicy),
    dryRunPolicies: read.boolean("AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY", defaultOptions.dryRunPolicies),
    autoAllocateIps: read.boolean("PILOT_ENABLE_IP_AUTOALLOCATE", defaultOptions.autoAllocateIps),
    autoAllocateIpv4: range("PILOT_IP_AUTOALLOCATE_IPV4_PREFIX", defaultOptions.autoAllocateIpv4, 4),
    autoAllocateIpv6: range("PILOT_IP_AUTOALLOCATE_IPV6_PREFIX", defaultOptions.autoAllocateIpv6, 16),
    serviceEntriesSelectPods: read.boolean(
      "PILOT_ENABLE_SERVICEENTRY_SELECT_PODS",
      defaultOptions.serviceEntriesSelectPods,
    ),
    servicesSelectWorkloadEntries: read.boolean(
      "PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES",
      defaultOptions.servicesSelectWorkloadEntries,
    ),
    multiNetwork: read.boolean("AMBIENT_ENABLE_MULTI_NETWORK", defaultOptions.multiNetwork),
    writeStatus: read.boolean("AMBIENT_ENABLE_STATUS", defaultOptions.writeStatus),
  };
}
