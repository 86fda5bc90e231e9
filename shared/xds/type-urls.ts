/** Resource types that the mesh serves. */
export const typeUrls = {
  address: "type.googleapis.com/istio.workload.Address",
  authorization: "type.googleapis.com/istio.security.Authorization",
} as const;

/** The one method of delta discovery. */
export const deltaMethod = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
