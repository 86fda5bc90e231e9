import type { MetricsRegistry } from "#shared/observe/metrics.ts";
import type { ServerEvent } from "#shared/xds/served-stream.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import { configKinds } from "#controlplane/schema/kinds.ts";
import type { CertificateEvent } from "#controlplane/ca/certificate-service.ts";

/** What metrics read when they are scraped. */
export interface MetricsFacts {
  readonly version: string;
  services(): number;
  workloads(): number;
  rootEndMs(): number | undefined;
}

export interface ControlPlaneMetrics {
  onXds(event: ServerEvent): void;
  onCertificate(event: CertificateEvent): void;
  /** An object arrived from the source. */
  onConfigEvent(kind: string, type: string): void;
  onTranslation(durationMs: number, outcome: "ok" | "failed"): void;
  /** The webhook has answered. */
  onReviewed(resource: ReviewedResource, isAllowed: boolean): void;
}

interface ReviewedResource {
  readonly group: string;
  readonly version: string;
  readonly resource: string;
}

/** Istio's short names of types, which its dashboards filter by. */
const shortTypes: ReadonlyMap<string, string> = new Map([
  [typeUrls.address, "wds"],
  [typeUrls.authorization, "wads"],
  [typeUrls.listener, "lds"],
  [typeUrls.cluster, "cds"],
  [typeUrls.endpoints, "eds"],
]);
const shortType = (typeUrl: string): string => shortTypes.get(typeUrl) ?? "other";

/** Istio's bounds, in seconds and bytes. */
const convergenceBounds = [0.1, 0.5, 1, 3, 5, 10, 20, 30];
const sizeBounds = [1, 10_000, 1_000_000, 4_000_000, 10_000_000, 40_000_000];

/** Metrics under the names that Istio's control plane uses, where it has one for the same thing. */
export function controlPlaneMetrics(registry: MetricsRegistry, facts: MetricsFacts): ControlPlaneMetrics {
  const { version } = facts;
  registry
    .gauge({ name: "pilot_info", help: "Build of the control plane", labels: ["version"] })
    .series(version).value = 1;
  const connected = registry
    .gauge({ name: "pilot_xds", help: "Clients connected for discovery", labels: ["version"] })
    .series(version);
  const pushes = registry.counter({ name: "pilot_xds_pushes", help: "Discovery responses sent", labels: ["type"] });
  const rejects = registry.counter({
    name: "pilot_total_xds_rejects",
    help: "Discovery responses that a client refused",
    labels: ["type"],
  });
  const sizes = registry.histogram(
    { name: "pilot_xds_config_size_bytes", help: "Size of discovery responses", labels: ["type"] },
    sizeBounds,
  );
  const convergence = registry
    .histogram(
      { name: "pilot_proxy_convergence_time", help: "Seconds from a change to the response that carries it" },
      convergenceBounds,
    )
    .series();
  const refused = registry.counter({
    name: "pilot_xds_refused_streams",
    help: "Discovery streams refused or ended for a fault of the client",
    labels: ["code"],
  });
  const inbound = registry.counter({
    name: "pilot_inbound_updates",
    help: "Objects that arrived from the source",
    labels: ["type", "event"],
  });
  const translations = registry.counter({ name: "pilot_pushcontext_init", help: "Translations", labels: ["outcome"] });
  const reviews = (name: string, help: string) =>
    registry.counter({ name, help, labels: ["group", "version", "resource"] });
  const passed = reviews("galley_validation_passed", "Objects that the webhook let pass");
  const failed = reviews("galley_validation_failed", "Objects that the webhook refused");
  const translationSeconds = registry
    .histogram(
      { name: "pilot_pushcontext_init_seconds", help: "Seconds that translations took" },
      [0.01, 0.1, 0.5, 1, 3, 5],
    )
    .series();
  registry.observed("gauge", { name: "pilot_services", help: "Services served" }, () => facts.services());
  registry.observed("gauge", { name: "pilot_workloads", help: "Workloads served" }, () => facts.workloads());
  registry.observed(
    "gauge",
    { name: "citadel_server_root_cert_expiry_timestamp", help: "Unix time at which the first root ends" },
    () => {
      const endMs = facts.rootEndMs();
      return endMs === undefined ? undefined : endMs / 1_000;
    },
  );
  const counter = (name: string, help: string) => registry.counter({ name, help }).series();
  const certificates: Record<CertificateEvent, { value: number }> = {
    request: counter("citadel_server_csr_count", "Certificate requests"),
    "authentication-failed": counter("citadel_server_authentication_failure_count", "Requests not authenticated"),
    "csr-malformed": counter("citadel_server_csr_parsing_err_count", "Requests that cannot be read"),
    "sign-failed": counter("citadel_server_csr_sign_err_count", "Requests that could not be signed"),
    issued: counter("citadel_server_success_cert_issuance_count", "Certificates issued"),
  };
  return {
    onXds(event) {
      switch (event.kind) {
        case "connected":
        case "disconnected":
          connected.value = event.connections;
          return;
        case "refused":
          refused.series(String(event.code)).value += 1;
          return;
        case "accepted":
        case "acknowledged":
          return;
        case "rejected":
          rejects.series(shortType(event.typeUrl)).value += 1;
          return;
        case "pushed": {
          const type = shortType(event.typeUrl);
          pushes.series(type).value += 1;
          sizes.series(type).observe(event.bytes);
          convergence.observe(event.delayMs / 1_000);
        }
      }
    },
    onCertificate(event) {
      certificates[event].value += 1;
    },
    onConfigEvent(kind, type) {
      inbound.series(kind, type).value += 1;
    },
    onReviewed({ group, version, resource }, isAllowed) {
      const kind = configKinds.find((each) => each.group === group && each.plural === resource);
      // Who asks is not checked: nobody shall make us remember names of their own.
      const labels = kind?.versions.includes(version) === true ? [group, version, resource] : ["other", "", ""];
      (isAllowed ? passed : failed).series(...labels).value += 1;
    },
    onTranslation(durationMs, outcome) {
      translations.series(outcome).value += 1;
      translationSeconds.observe(durationMs / 1_000);
    },
  };
}
