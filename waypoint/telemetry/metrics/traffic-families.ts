/** Istio's metrics of requests and connections. */
import type { MetricsRegistry } from "#shared/observe/metrics.ts";
import { CountFamily, DistributionFamily } from "./labelled-family.ts";

/** As Telemetry objects and Istio's stats filter name them, without the prefix. */
export const metricNames = [
  "requests_total",
  "request_duration_milliseconds",
  "request_bytes",
  "response_bytes",
  "request_messages_total",
  "response_messages_total",
  "tcp_connections_opened_total",
  "tcp_connections_closed_total",
  "tcp_sent_bytes_total",
  "tcp_received_bytes_total",
] as const;

export type MetricName = (typeof metricNames)[number];

export class TrafficFamilies {
  readonly requests = new CountFamily({
    name: "istio_requests",
    help: "The total number of requests that were answered or given up",
  });
  readonly duration = new DistributionFamily({
    name: "istio_request_duration_milliseconds",
    help: "How long requests took, in milliseconds",
  });
  readonly requestBytes = new DistributionFamily({
    name: "istio_request_bytes",
    help: "The sizes of the bodies of requests",
  });
  readonly responseBytes = new DistributionFamily({
    name: "istio_response_bytes",
    help: "The sizes of the bodies of answers",
  });
  readonly requestMessages = new CountFamily({
    name: "istio_request_messages",
    help: "The total number of gRPC messages sent by clients",
  });
  readonly responseMessages = new CountFamily({
    name: "istio_response_messages",
    help: "The total number of gRPC messages sent by servers",
  });
  readonly opened = new CountFamily({
    name: "istio_tcp_connections_opened",
    help: "The total number of TCP connections opened",
  });
  readonly closed = new CountFamily({
    name: "istio_tcp_connections_closed",
    help: "The total number of TCP connections closed",
  });
  readonly sentBytes = new CountFamily({
    name: "istio_tcp_sent_bytes",
    help: "The total number of bytes sent to clients over TCP connections",
  });
  readonly receivedBytes = new CountFamily({
    name: "istio_tcp_received_bytes",
    help: "The total number of bytes received from clients over TCP connections",
  });

  constructor(registry: MetricsRegistry) {
    const { requests, duration, requestBytes, responseBytes, requestMessages, responseMessages } = this;
    const { opened, closed, sentBytes, receivedBytes } = this;
    for (const family of [
      requests,
      duration,
      requestBytes,
      responseBytes,
      requestMessages,
      responseMessages,
      opened,
      closed,
      sentBytes,
      receivedBytes,
    ]) {
      registry.add(family);
    }
  }
}
