/** A whole waypoint in this process, with a control plane of the test's own. */
import type { CertificateSource } from "#shared/ca/certificate-manager.ts";
import { systemClock } from "#shared/clock/clock.ts";
import { Logging } from "#shared/observe/logging.ts";
import { readConfig } from "#waypoint/config.ts";
import { startWaypoint, type Waypoint } from "#waypoint/waypoint.ts";

export interface FixtureOptions {
  /** `XDS_ADDRESS`. */
  readonly xdsAddress: string;
  /** Without them there are no tunnels. */
  readonly certificates?: CertificateSource;
  readonly upstreamHbonePort?: number;
  readonly drainSeconds?: number;
  /** Lines of the log, as JSON. */
  readonly onLog?: (line: string) => void;
}

const anyPort = { HBONE_PORT: "0", ADMIN_PORT: "0", STATUS_PORT: "0", STATS_PORT: "0", PROMETHEUS_PORT: "0" };

/** Namespace `shop`, service account `waypoint`. */
export function startTestWaypoint(options: FixtureOptions): Promise<Waypoint> {
  const { xdsAddress, certificates, upstreamHbonePort, drainSeconds = 5, onLog = () => {} } = options;
  const config = readConfig({
    env: {
      ...anyPort,
      POD_NAME: "waypoint-0",
      POD_NAMESPACE: "shop",
      SERVICE_ACCOUNT: "waypoint",
      INSTANCE_IP: "127.0.0.1",
      IPV6_ENABLED: "false",
      XDS_ADDRESS: xdsAddress,
      WAYPOINT_TUNNELS: certificates === undefined ? "off" : "on",
      TERMINATION_DRAIN_DURATION_SECONDS: String(drainSeconds),
    },
  });
  const filter = { fallback: "debug" as const, scopes: new Map() };
  return startWaypoint(config, {
    clock: systemClock,
    logging: new Logging("json", filter, { write: onLog, flushSync: () => {} }),
    ...(certificates !== undefined && { certificates }),
    ...(upstreamHbonePort !== undefined && { upstreamHbonePort }),
  });
}
