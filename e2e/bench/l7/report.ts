/** From measurements to a table: each proxy, and the waypoint's share of haproxy in the same run. */
import { anchors } from "./anchors.ts";
import type { FullPath } from "./full-path.ts";
import type { ByProxy, measureProxies } from "./measure.ts";

export type Proxies = Awaited<ReturnType<typeof measureProxies>>;

export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly haproxy?: number | undefined;
  readonly waypoint?: number | undefined;
  readonly envoy?: number | undefined;
  /** The waypoint's share of haproxy, the better the larger; of the path without the mesh in the rows about that. */
  readonly ratio?: number | undefined;
  /** What Envoy reached elsewhere: a ratio where there is one, else the figure itself. */
  readonly anchor?: number | undefined;
}

export function rowsOf({ throughput, memory, latency }: Proxies, fullPath: readonly FullPath[]): Row[] {
  return [
    ...throughput.flatMap(({ protocol, setting, proxies }): Row[] => {
      const known = anchors.throughput[protocol];
      const rates = row(proxies, ({ perSecond }) => perSecond);
      const cpu = row(proxies, ({ cpuSecondsPer100k }) => cpuSecondsPer100k);
      return [
        {
          name: `${protocol}, ${setting}`,
          unit: "requests/s",
          ...rates,
          ratio: share(rates.waypoint, rates.haproxy),
          anchor: setting === "1000 routes" ? undefined : known[setting],
        },
        { name: "  CPU per 100 000 requests", unit: "s", ...cpu, ratio: share(cpu.haproxy, cpu.waypoint) },
      ];
    }),
    ...latency.flatMap(({ setting, rate, proxies }): Row[] =>
      (["p50Us", "p90Us", "p99Us"] as const).map((which) => ({
        name: which === "p50Us" ? `added latency at ${rate}/s, ${setting}, p50` : `  ${which.slice(0, 3)}`,
        unit: "µs",
        ...row(proxies, (added) => added[which]),
        anchor:
          rate === 1_000 && which !== "p99Us" && setting !== "1000 routes"
            ? anchors.latency[setting][which]
            : undefined,
      })),
    ),
    memoryRow("RSS, fresh", "MiB", memory, "freshMib"),
    memoryRow("RSS, after full load", "MiB", memory, "afterLoadMib"),
    memoryRow("RSS, each of 1000 idle connections", "KiB", memory, "perIdleConnectionKib"),
    ...fullPath.flatMap(({ connections, direct, mesh }): Row[] => [
      {
        name: `client, ztunnel, waypoint, ztunnel, server: ${connections} connection${connections === 1 ? "" : "s"}`,
        unit: "requests/s",
        waypoint: mesh.perSecond,
        ratio: share(mesh.perSecond, direct.perSecond),
      },
      { name: "  p50", unit: "µs", waypoint: mesh.p50Us, ratio: share(mesh.p50Us, direct.p50Us) },
      { name: "  p99", unit: "µs", waypoint: mesh.p99Us, ratio: share(mesh.p99Us, direct.p99Us) },
    ]),
  ];
}

const row = <T>(proxies: ByProxy<T>, pick: (of: T) => number) => {
  const of = (name: string) => {
    const found = proxies[name];
    return found === undefined ? undefined : pick(found);
  };
  return { haproxy: of("haproxy"), waypoint: of("waypoint"), envoy: of("envoy") };
};

const memoryRow = (name: string, unit: string, memory: Proxies["memory"], which: keyof typeof anchors.memory): Row => ({
  name,
  unit,
  ...row(memory, (of) => of[which]),
  anchor: anchors.memory[which],
});

const share = (part: number | undefined, whole: number | undefined): number | undefined =>
  part === undefined || whole === undefined ? undefined : part / whole;

const shown = (value: number | undefined): string =>
  value === undefined
    ? ""
    : Math.abs(value) >= 1_000
      ? Math.round(value).toLocaleString("en-US")
      : Math.abs(value) >= 100
        ? String(Math.round(value))
        : value.toPrecision(3);

export function printTable(rows: readonly Row[]): void {
  const lines = [
    ["", "unit", "haproxy", "waypoint", "Envoy", "ratio", "Envoy 1.40 elsewhere"],
    ...rows.map(({ name, unit, haproxy, waypoint, envoy, ratio, anchor }) => [
      name,
      unit,
      ...[haproxy, waypoint, envoy, ratio, anchor].map(shown),
    ]),
  ];
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0))) ?? [];
  for (const line of lines) {
    const cells = line.map((cell, column) =>
      column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
    );
    console.log(cells.join("  ").trimEnd());
  }
}
