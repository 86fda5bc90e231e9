/** How traffic is spread over regions and zones: `localityLbSetting` and `zoneAwareLbSetting` of a load balancer. */
import { z } from "zod";
import type { Field } from "./field.ts";
import { filled } from "./scalars.ts";

const failover = {
  enabled: z.boolean().optional().describe("Whether places count; true if not written"),
  failover: z
    .array(
      z.strictObject({
        from: filled.describe("Region of the callers"),
        to: filled.describe("Region whose endpoints are next"),
      }),
    )
    .optional()
    .describe("Where a region goes when its own endpoints fail; any other region if not written"),
  failoverPriority: z
    .array(filled)
    .optional()
    .describe(
      "Labels, as key or key=value: endpoints go first that share the most with the caller, counted from the first label on",
    ),
};

export const localityLbSetting = z.strictObject({
  ...failover,
  distribute: z
    .array(
      z.strictObject({
        from: filled.describe("Place of the callers: region/zone/subzone, of which the end may be left out or be *"),
        to: z
          .record(z.string(), z.int().min(1).max(100))
          .describe("Places of endpoints, written likewise, and their shares in percent, together 100"),
      }),
    )
    .optional()
    .describe("Shares of the endpoints' places, for callers of one place; excludes failover"),
});
export const zoneAwareLbSetting = z.strictObject({
  ...failover,
  minClusterSize: z.int().min(1).optional().describe("Without effect: waypoints fail over by place instead"),
});

const topology = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
const place = /^([^/*]+\/){0,2}([^/*]+|\*)$/;

/** `balancer` is the load balancer, `policy` what it stands in. */
export function checkLocality(balancer: Field, policy: Field): void {
  const [setting, zones] = [balancer.at("localityLbSetting"), balancer.at("zoneAwareLbSetting")];
  checkDistribution(setting.at("distribute"));
  if (setting.has("distribute") && setting.has("failover")) {
    setting.at("failover").error('excludes "distribute", which is written too', "keep one of them");
  }
  for (const each of [setting, zones]) checkFailover(each, each === zones);
  const inert = setting.written(["failover", "failoverPriority"]);
  if (inert.length > 0 && !policy.has("outlierDetection")) {
    setting.warn(
      `${inert.join(" and ")} without outlierDetection: nothing will fail over`,
      "write outlierDetection too",
    );
  }
}

function checkDistribution(distribute: Field): void {
  const entries = distribute.items();
  entries.forEach((entry) => {
    checkPlace(entry.at("from"), entry.at("from").text);
    const shares = entry.at("to").entries();
    for (const [name, value] of shares) checkPlace(value, name);
    checkOverlap(shares.map(([name, at]) => ({ name, at })));
    const total = shares.reduce((sum, [, value]) => sum + (value.number ?? 0), 0);
    if (entry.has("to") && total !== 100) {
      entry.at("to").error(`sums to ${total}`, "must be 100: write shares in percent");
    }
  });
  checkOverlap(entries.map((entry) => ({ name: entry.at("from").text ?? "", at: entry.at("from") })));
}

function checkPlace(at: Field, name: string | undefined): void {
  if (name !== undefined && !place.test(name)) {
    at.error(
      `"${name}" is no place`,
      'write "region", "region/zone" or "region/zone/subzone"; the last part may be "*"',
    );
  }
}

/** `a/*` holds `a` and all that is in it. */
const partsOf = (name: string): readonly string[] => name.split("/").filter((part) => part !== "*");

function checkOverlap(places: readonly { readonly name: string; readonly at: Field }[]): void {
  places.forEach(({ name, at }, index) => {
    const own = partsOf(name);
    const other = places.slice(0, index).find((before) => {
      const parts = partsOf(before.name);
      return parts.every((part, i) => i >= own.length || part === own[i]);
    });
    if (other !== undefined) at.error(`"${name}" and "${other.name}" cover the same places`, "keep one of them");
  });
}

function checkFailover(setting: Field, isZoneAware: boolean): void {
  for (const entry of setting.at("failover").items()) {
    const [from, to] = [entry.at("from"), entry.at("to")];
    for (const each of [from, to]) {
      if (/[/*]/.test(each.text ?? "")) each.error(`${each.quoted} is no region`, "write the region alone");
    }
    if (from.text !== undefined && from.text === to.text) to.error("is where it comes from", "write another region");
  }
  if (!isZoneAware && !setting.has("failover")) return;
  for (const label of setting.at("failoverPriority").items()) {
    const key = label.text?.split("=")[0] ?? "";
    if (topology.includes(key)) label.error(`${label.quoted} is what failover goes by already`, "leave it out");
  }
}
