/** Resource types that the mesh serves. */
export const typeUrls = {
  address: "type.googleapis.com/istio.workload.Address",
  authorization: "type.googleapis.com/istio.security.Authorization",
  cluster: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
  endpoints: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
  listener: "type.googleapis.com/envoy.config.listener.v3.Listener",
  secret: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
  routes: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
} as const;

/** The one method of delta discovery. */
export const deltaMethod = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/** The one method of discovery as state of the world. */
export const stateMethod = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
