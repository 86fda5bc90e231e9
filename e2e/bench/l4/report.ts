/** From measurements to a table of ratios beside the anchors. */
import { anchors } from "./anchors.ts";
import type { LoadResult } from "./load.ts";
import type { Meshed, Plain, Traffic } from "./measure.ts";

export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly direct?: number;
  readonly meshed: number;
  /** Of the same pods without the mesh. */
  readonly ratio?: number;
  /** What Istio's ztunnel reached: a ratio where there is one, else the figure itself. */
  readonly anchor?: number;
}

export function rowsOf(direct: Traffic, meshed: Meshed, plain: Plain): Row[] {
  /** Beside two plain proxies in Node: what remains when the machine is taken out of the figure. */
  const overPlain = (unit: string, direct: number | undefined, value: number | undefined): Row => ({
    name: "  beside two plain proxies",
    unit,
    direct: direct ?? Number.NaN,
    meshed: value ?? Number.NaN,
    ratio: (value ?? Number.NaN) / (direct ?? Number.NaN),
  });
  const compared = (
    name: string,
    unit: string,
    pick: (traffic: Traffic) => number | undefined,
    anchor?: number,
  ): Row => {
    const [from, to] = [pick(direct) ?? Number.NaN, pick(meshed) ?? Number.NaN];
    return { name, unit, direct: from, meshed: to, ratio: to / from, ...(anchor === undefined ? {} : { anchor }) };
  };
  const bulk = (name: string, of: (traffic: Traffic) => LoadResult, anchor?: number) =>
    compared(name, "Gbit/s", (traffic) => of(traffic).gigabitsPerSecond, anchor);
  const trips = (connections: 1 | 32 | 256, anchor: number): Row[] => {
    const of = (traffic: Traffic) => traffic[`pingpong${connections}`];
    const name = `1 KiB round trips, ${connections} connection${connections === 1 ? "" : "s"}`;
    const p99 = connections === 32 ? anchors["1 KiB round trips, 32 connections"].p99Ratio : undefined;
    const plainly = connections === 256 ? undefined : plain[`pingpong${connections}`];
    return [
      compared(name, "/s", (traffic) => of(traffic).perSecond, anchor),
      ...(plainly === undefined ? [] : [overPlain("/s", plainly.perSecond, of(meshed).perSecond)]),
      compared(`  p50`, "µs", (traffic) => of(traffic).p50Us),
      compared(`  p99`, "µs", (traffic) => of(traffic).p99Us, p99),
    ];
  };
  const alone = (name: keyof typeof anchors, unit: string, value: number): Row => {
    const anchor = anchors[name];
    return { name, unit, meshed: value, ...("value" in anchor ? { anchor: anchor.value } : {}) };
  };
  return [
    bulk("bulk up, 1 connection", ({ up1 }) => up1, anchors["bulk up, 1 connection"].ratio),
    overPlain("Gbit/s", plain.up1.gigabitsPerSecond, meshed.up1.gigabitsPerSecond),
    bulk("bulk up, 8 connections", ({ up8 }) => up8, anchors["bulk up, 8 connections"].ratio),
    bulk("bulk down, 1 connection", ({ down1 }) => down1),
    bulk("bulk down, 8 connections", ({ down8 }) => down8),
    ...trips(1, anchors["1 KiB round trips, 1 connection"].ratio),
    ...trips(32, anchors["1 KiB round trips, 32 connections"].ratio),
    ...trips(256, anchors["1 KiB round trips, 256 connections"].ratio),
    compared(
      "new connections, first second",
      "/s",
      ({ connects }) => connects.firstSecondPerSecond,
      anchors["new connections, first second"].ratio,
    ),
    compared(
      "new connections, later",
      "/s",
      ({ connects }) => connects.laterPerSecond,
      anchors["new connections, later"].ratio,
    ),
    alone("CPU of both proxies per GB", "s", meshed.cpu.secondsPerGigabyte),
    overPlain("s", plain.cpu.secondsPerGigabyte, meshed.cpu.secondsPerGigabyte),
    alone("CPU of both proxies per 1000 round trips at 32", "ms", meshed.cpu.msPerThousandRoundTrips),
    overPlain("ms", plain.cpu.msPerThousandRoundTrips, meshed.cpu.msPerThousandRoundTrips),
    alone("ztunnel RSS, fresh", "MiB", meshed.rssFreshMib),
    alone("ztunnel RSS, per idle connection", "KiB", meshed.rssPerIdleConnectionKib),
    alone("ztunnel RSS, after the connections", "MiB", meshed.rssAfterMib),
  ];
}

const shown = (value: number | undefined): string =>
  value === undefined ? "" : value >= 1_000 ? Math.round(value).toLocaleString("en-US") : value.toPrecision(3);

export function printTable(rows: readonly Row[]): void {
  const lines = [
    ["", "unit", "direct", "mesh", "ratio", "Istio's ztunnel"],
    ...rows.map(({ name, unit, direct, meshed, ratio, anchor }) => [
      name,
      unit,
      shown(direct),
      shown(meshed),
      shown(ratio),
      shown(anchor),
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
