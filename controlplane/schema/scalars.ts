/**
 * The small forms that all kinds share. Messages of patterns read `what it should be: what to do`. Patterns stay within
 * RE2, because they go into the CRDs too.
 */
import { z } from "zod";
import { tryCidr } from "#shared/net/cidr.ts";
import { tryIp } from "#shared/net/ip.ts";
import { parseDurationMs } from "#shared/config/env-reader.ts";
import type { Field } from "./field.ts";

/** Text with something in it. */
export const filled = z.string().min(1);

export const port = z.int().min(1).max(65_535);

export const dnsLabel = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, {
    error: 'a DNS label: use lower-case letters, digits and "-", and begin and end with a letter or digit',
  });

export const isDnsLabel = (text: string): boolean => dnsLabel.safeParse(text).success;

/** As Go writes them: `1h30m`, `1.5s`, `250ms`. */
export const duration = z.string().regex(/^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$/, {
  error: 'a duration: write a number with a unit, such as "250ms", "10s" or "1h30m"',
});

/** As Gateway API writes them (GEP-2257): no fractions. */
export const gatewayDuration = z.string().regex(/^([0-9]{1,5}(h|m|s|ms)){1,4}$/, {
  error: 'a duration: write whole numbers with units, such as "250ms" or "1m30s"',
});

/** A number, or the name of a port. */
export const intOrString = z.union([z.int(), z.string()]).meta({ "x-kubernetes-int-or-string": true });

/** Of VirtualServices and DestinationRules, which a waypoint reads as somebody of its own namespace. */
export const exportTo = z
  .array(z.string())
  .optional()
  .describe(
    'Namespaces whose waypoints and clients go by it: ".", "*" or names; if not written as the mesh says, usually "*"',
  );

/** Free form: kept as written. */
export const anything = z.looseObject({});

const labelValueForm = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
const labelKeyForm = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

/** `most` of them, which Istio's kinds bound in different ways. */
export function checkLabels(labels: Field, most = 4096): void {
  const count = labels.keys().length;
  if (count > most) labels.error(`has ${count} entries`, `write at most ${most}`);
  for (const [key, value] of labels.entries()) {
    if (key.includes("*") || (value.text ?? "").includes("*")) {
      value.error(`"${key}: ${value.text ?? ""}" holds "*"`, "labels are compared as they are: write the whole value");
    } else if (!labelKeyForm.test(key)) {
      value.error(`"${key}" is not a label key`, 'write it as "app" or "example.com/app"');
    } else if (value.text !== undefined && !labelValueForm.test(value.text)) {
      value.error(`${value.quoted} is not a label value`, 'use at most 63 letters, digits, "-", "_" and "."');
    }
  }
}

/** At least a millisecond, and no finer. */
export function checkDuration(field: Field, { zeroAllowed = false } = {}): void {
  const ms = field.text === undefined ? undefined : parseDurationMs(field.text);
  if (ms === undefined || (zeroAllowed && ms === 0)) return;
  if (ms < 1 || Math.abs(ms - Math.round(ms)) > 1e-6) {
    field.error(`${field.quoted} is too fine`, "must be at least 1ms with millisecond precision");
  }
}

const octet = "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])";
/** An address or range, for API servers; an IPv6 address is looked at only from afar. */
export const ipBlockPattern = `^((${octet}\\.){3}${octet}(/(3[0-2]|[12]?[0-9]))?|[0-9a-fA-F.]*:[0-9a-fA-F:.]*(%[^/]+)?(/(12[0-8]|1[01][0-9]|[0-9]?[0-9]))?)$`;

/** 0 to 65535, for API servers. */
export const portTextPattern = "^(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})$";

export function checkIpBlock(field: Field): void {
  if (field.text !== undefined && field.text !== "" && tryCidr(field.text) === undefined) {
    field.error(`${field.quoted} is not an IP address or range`, "write it as 10.0.0.7, 10.0.0.0/8 or fd00::/8");
  }
}

export const isIp = (text: string): boolean => tryIp(text) !== undefined && !text.includes("%");

/** What is wrong with a host name, or undefined. A wildcard may only be the whole first label. */
export function hostProblem(host: string, { wildcardAllowed = true } = {}): string | undefined {
  if (host.length > 255) return `has ${host.length} characters, at most 255 are allowed`;
  if (host.endsWith("/")) return "ends with a slash";
  const labels = host.split(".");
  // One final dot is the root of DNS.
  if (labels.length > 1 && labels.at(-1) === "") labels.pop();
  const [first = "", ...others] = labels;
  const rest = wildcardAllowed && first.startsWith("*") ? others : labels;
  if (wildcardAllowed && first.startsWith("*") && !/^\*(-?[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)?$/.test(first)) {
    return `has the label "${first}", which is no wildcard`;
  }
  const bad = rest.find((label) => !/^[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?$/.test(label));
  if (bad !== undefined) return bad.includes("*") ? `has "*" in the label "${bad}"` : `has the label "${bad}"`;
  const last = rest.at(-1);
  return last !== undefined && /^\d+$/.test(last) ? `ends in the number "${last}"` : undefined;
}

/** A host name, possibly `*.suffix`, or an address. */
export function checkHostOrIp(field: Field, options?: { readonly wildcardAllowed?: boolean }): void {
  if (!isIp(field.text ?? "")) checkHost(field, options);
}

/** A host name, possibly `*.suffix`. */
export function checkHost(field: Field, options?: { readonly wildcardAllowed?: boolean }): void {
  if (field.text === undefined || field.text === "") return;
  const problem = hostProblem(field.text, options);
  if (problem === undefined) return;
  field.error(
    `${field.quoted} is not a host name: it ${problem}`,
    `write a DNS name such as api.example.com${options?.wildcardAllowed === false ? "" : ' or "*.example.com"'}`,
  );
}

/** Text of a port, as policies write it. */
export function checkPortText(field: Field): void {
  if (field.text === undefined || field.text === "") return;
  if (!/^\d{1,5}$/.test(field.text) || Number(field.text) > 65_535) {
    field.error(`${field.quoted} is not a port`, 'write a number from 0 to 65535 in quotes, such as "8080"');
  }
}

/** Where an object may be seen: VirtualService, DestinationRule, ServiceEntry. */
export function checkExportTo(exportTo: Field, namespace: string, { nobodyAllowed = false } = {}): void {
  const seen = new Set<string>();
  const items = exportTo.items();
  for (const item of items) {
    if (item.text === undefined) continue;
    const value = item.text === "." ? namespace : item.text;
    if (seen.has(value)) item.error(`${item.quoted} is named twice`, "keep one");
    seen.add(value);
    if (value === "*" || (nobodyAllowed && value === "~")) {
      if (items.length > 1) item.error(`${item.quoted} stands beside other namespaces`, "write it alone");
    } else if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(value)) {
      const choices = nobodyAllowed ? '".", "*", "~"' : '".", "*"';
      item.error(`${item.quoted} is not a namespace`, `write ${choices} or the name of a namespace`);
    }
  }
}

/** Reports values that stand twice in a list; `valueOf` picks what must differ. */
export function checkUnique(items: readonly Field[], valueOf: (item: Field) => Field): void {
  const first = new Map<unknown, number>();
  for (const [index, item] of items.entries()) {
    const field = valueOf(item);
    if (!field.isSet) continue;
    const before = first.get(field.value);
    if (before === undefined) first.set(field.value, index);
    else field.error(`${field.quoted} repeats that of entry ${before}`, "give each entry its own");
  }
}
