import { z } from "zod";
import type { Field } from "./field.ts";
import { checkGateway, checkHttp, checkSource, checkWeights } from "./http-rule-checks.ts";
import { callerMatch, destination, http, weight } from "./http-rule-forms.ts";
import { age, networkingKind, type KindDefinition } from "./kind.ts";
import { checkExportTo, checkHostOrIp, checkIpBlock, exportTo, hostProblem, isIp } from "./scalars.ts";

const l4Match = {
  destinationSubnets: z
    .array(z.string())
    .optional()
    .describe("Addresses and ranges, one of which the service is called by; any if not written"),
  ...callerMatch,
};
const l4Route = z
  .array(z.strictObject({ destination: destination.describe("Where the connections go"), weight }))
  .min(1)
  .optional()
  .describe("Where connections go, shared out by weight");

const spec = z
  .strictObject({
    hosts: z.array(z.string().min(1)).optional().describe("The services whose requests it routes; none for a delegate"),
    gateways: z
      .array(z.string())
      .optional()
      .describe('Where it applies; "mesh" if not written, which waypoints and clients in the mesh go by'),
    http: z.array(http).optional().describe("Routes for HTTP; the first that matches"),
    tls: z
      .array(
        z.strictObject({
          match: z
            .array(
              z.strictObject({
                sniHosts: z
                  .array(z.string())
                  .min(1)
                  .describe("Names in the handshake, such as api.example.com or *.example.com, within spec.hosts"),
                ...l4Match,
              }),
            )
            .min(1)
            .describe("Connections that the route takes: any of these"),
          route: l4Route,
        }),
      )
      .optional()
      .describe("Routes for ports of TLS, by the name in the handshake; before those of tcp"),
    tcp: z
      .array(
        z.strictObject({
          match: z
            .array(z.strictObject(l4Match))
            .optional()
            .describe("Connections that the route takes: any of these; all if not written"),
          route: l4Route,
        }),
      )
      .optional()
      .describe("Routes for connections whose bytes are not looked at; the first that matches"),
    exportTo,
  })
  .describe("For which hosts, and where their requests go; at least one of http, tls and tcp");

function checkVirtualHosts(hosts: readonly Field[], isInMesh: boolean): void {
  for (const [index, host] of hosts.entries()) {
    if (host.text === "*") {
      if (isInMesh) host.error('"*" cannot be used for traffic in the mesh', "name the service or bind to a gateway");
    } else checkHostOrIp(host);
    for (const [before, other] of hosts.slice(0, index).entries()) {
      if (overlap(host.text ?? "", other.text ?? "")) {
        host.error(`${host.quoted} and hosts[${before}], ${other.quoted}, cover the same names`, "keep one");
      }
    }
  }
}

const covers = (wide: string, narrow: string): boolean => wide.startsWith("*") && narrow.endsWith(wide.slice(1));

function overlap(a: string, b: string): boolean {
  if (a === "" || b === "") return false;
  return a === b || covers(a, b) || covers(b, a);
}

const sameMatch = (match: Field): string => {
  const { name: _name, ...conditions } = match.value as Readonly<Record<string, unknown>>;
  return JSON.stringify(Object.entries(conditions).sort(([a], [b]) => (a < b ? -1 : 1)));
};

/** Rules that earlier ones leave nothing for. */
function checkReach(routes: readonly Field[]): void {
  const all = routes.findIndex((route) => route.at("match").items().length === 0);
  if (all >= 0 && all < routes.length - 1) {
    routes[all + 1]?.warn(`is never reached: http[${all}] has no match`, "put the route without match last");
  }
  const seen = new Map<string, string>();
  for (const [index, route] of routes.entries()) {
    for (const [of, match] of route.at("match").items().entries()) {
      if (typeof match.value !== "object" || match.value === null) continue;
      const key = sameMatch(match);
      const before = seen.get(key);
      if (before !== undefined) match.warn(`takes what ${before} takes already`, "remove one of them");
      else seen.set(key, `http[${index}].match[${of}]`);
      checkCovered(match, routes.slice(0, index));
    }
  }
}

/** A prefix that nothing is said beside takes every longer one. */
function checkCovered(match: Field, earlier: readonly Field[]): void {
  const uri = match.at("uri");
  const path = uri.at("prefix").text ?? uri.at("exact").text;
  if (path === undefined) return;
  for (const [index, route] of earlier.entries()) {
    const cover = route
      .at("match")
      .items()
      .find((each) => each.keys().every((key) => key === "uri" || key === "name") && each.at("uri").has("prefix"));
    const prefix = cover?.at("uri").at("prefix").text;
    if (prefix === undefined || prefix === path || !path.startsWith(prefix)) continue;
    match.warn(
      `is never reached: http[${index}] takes every path that begins with "${prefix}"`,
      "put the longer one first",
    );
    return;
  }
}

function checkL4(route: Field, hosts: readonly Field[]): void {
  if (!route.has("route")) route.error("has no route", "write a destination");
  checkWeights(route.at("route"));
  for (const match of route.at("match").items()) {
    checkSource(match);
    for (const subnet of match.at("destinationSubnets").items()) checkIpBlock(subnet);
    for (const sni of match.at("sniHosts").items()) checkSni(sni, hosts);
  }
}

function checkSni(sni: Field, hosts: readonly Field[]): void {
  const { text } = sni;
  if (text === undefined) return;
  if (isIp(text)) {
    sni.warn("is an address, and handshakes name hosts", "write the name of the host");
    return;
  }
  const problem = text === "*" ? undefined : hostProblem(text);
  if (problem !== undefined) {
    sni.error(`${sni.quoted} is not a host name: it ${problem}`, "write a DNS name");
    return;
  }
  const isWithin = hosts.some(({ text: host = "" }) => host === text || host === "*" || covers(host, text));
  if (!isWithin) sni.error(`${sni.quoted} is none of the hosts of this object`, "add it to spec.hosts");
}

function check(spec: Field, object: Field): void {
  const hosts = spec.at("hosts").items();
  const isDelegate = hosts.length === 0;
  const gateways = spec
    .at("gateways")
    .items()
    .map((gateway) => gateway.text);
  const isInMesh = gateways.length === 0 || gateways.includes("mesh");
  if (spec.written(["http", "tls", "tcp"]).every((name) => spec.at(name).isEmpty)) {
    spec.error("has no routes", "define at least one of http, tcp or tls");
  }
  if (isDelegate) {
    for (const name of spec.written(["gateways", "tls", "tcp"])) {
      spec.at(name).error("a delegate (an object without hosts) cannot have it", "write hosts, or leave it out");
    }
  }
  checkVirtualHosts(hosts, isInMesh);
  const routes = spec.at("http").items();
  for (const route of routes) checkHttp(route, { isDelegate });
  checkReach(routes);
  for (const kind of ["tls", "tcp"]) {
    for (const route of spec.at(kind).items()) checkL4(route, hosts);
  }
  for (const gateway of spec.at("gateways").items()) checkGateway(gateway);
  checkExportTo(spec.at("exportTo"), object.at("metadata").at("namespace").text ?? "");
}

export const virtualService: KindDefinition = {
  ...networkingKind,
  kind: "VirtualService",
  plural: "virtualservices",
  shortNames: ["vs"],
  description: "How a waypoint routes requests for a service.",
  columns: [
    { name: "Gateways", type: "string", jsonPath: ".spec.gateways", description: "Where it applies" },
    { name: "Hosts", type: "string", jsonPath: ".spec.hosts", description: "The services whose requests it routes" },
    age,
  ],
  spec,
  check,
};
