/** What translation needs to know of the control plane itself; Istio's environment variable in brackets. */
export interface TranslateOptions {
  /** First segment of workload uids [CLUSTER_ID]. */
  readonly clusterId: string;
  /** DNS domain of the cluster. */
  readonly domain: string;
  /** Istio objects labelled with another revision are not ours [REVISION]; empty: every object is. */
  readonly revision: string;
  /** Namespace of the control plane, whose label names the network [POD_NAMESPACE]. */
  readonly systemNamespace: string;
  /** Selector policies that let only the waypoint in [PILOT_AUTO_ALLOW_WAYPOINT_POLICY]. */
  readonly autoAllowWaypointPolicy: boolean;
  /** Send policies annotated as dry run [AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY]. */
  readonly dryRunPolicies: boolean;
  /** Automatic addresses for ServiceEntries [PILOT_ENABLE_IP_AUTOALLOCATE]. */
  readonly autoAllocateIps: boolean;
  /** [PILOT_IP_AUTOALLOCATE_IPV4_PREFIX] */
  readonly autoAllocateIpv4: string;
  /** [PILOT_IP_AUTOALLOCATE_IPV6_PREFIX] */
  readonly autoAllocateIpv6: string;
  /** ServiceEntries may select pods [PILOT_ENABLE_SERVICEENTRY_SELECT_PODS]. */
  readonly serviceEntriesSelectPods: boolean;
  /** Kubernetes Services may select WorkloadEntries [PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES]. */
  readonly servicesSelectWorkloadEntries: boolean;
  /** Endpoints of other networks are reached through gateways only [AMBIENT_ENABLE_MULTI_NETWORK]. */
  readonly multiNetwork: boolean;
  /** Write conditions [AMBIENT_ENABLE_STATUS]. */
  readonly writeStatus: boolean;
}

export const defaultOptions: TranslateOptions = {
  clusterId: "Kubernetes",
  domain: "cluster.local",
  revision: "default",
  systemNamespace: "istio-system",
  autoAllowWaypointPolicy: false,
  dryRunPolicies: false,
  autoAllocateIps: true,
  autoAllocateIpv4: "240.240.0.0/16",
  autoAllocateIpv6: "2001:2::/48",
  serviceEntriesSelectPods: true,
  servicesSelectWorkloadEntries: true,
  multiNetwork: false,
  writeStatus: true,
};
