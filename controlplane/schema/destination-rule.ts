import { z } from "zod";
import { largestRing } from "#controlplane/mesh/destination-rule.ts";
import { checkSelector, workloadSelector } from "./attachment.ts";
import type { Field } from "./field.ts";
import { checkMatchedName } from "./header-checks.ts";
import { age, networkingKind, type KindDefinition } from "./kind.ts";
import { checkLocality } from "./locality-checks.ts";
import {
  checkDuration,
  checkExportTo,
  checkHostOrIp,
  checkLabels,
  checkUnique,
  dnsLabel,
  exportTo,
} from "./scalars.ts";
import { portSettings, trafficPolicy } from "./traffic-policy-forms.ts";

const spec = z
  .strictObject({
    host: z
      .string()
      .min(1)
      .describe("The service; a short name means this namespace, *.example.com every service with such a name"),
    trafficPolicy: trafficPolicy
      .optional()
      .describe("How the service is called, where a subset does not say otherwise"),
    subsets: z
      .array(
        z.strictObject({
          name: dnsLabel.describe("What routes call it"),
          labels: z
            .record(z.string(), z.string())
            .optional()
            .describe("Labels of its endpoints, all of them; every endpoint if not written"),
          trafficPolicy: trafficPolicy
            .optional()
            .describe("How the subset is called; each setting here replaces the whole one of the rule"),
        }),
      )
      .optional()
      .describe("Parts of the service's endpoints that routes can name"),
    exportTo,
    workloadSelector: workloadSelector
      .optional()
      .describe(
        "Callers that go by the rule, by labels of waypoints and of clients without a proxy; all if not written. Such a rule stays in its namespace",
      ),
  })
  .describe("Which service, and how waypoints and clients without a proxy call it");

function checkLoadBalancer(balancer: Field): void {
  balancer.atMostOne(["simple", "consistentHash"]);
  balancer.atMostOne(["localityLbSetting", "zoneAwareLbSetting"]);
  checkDuration(balancer.at("warmupDurationSecs"));
  checkWarmup(balancer);
  const hash = balancer.at("consistentHash");
  if (hash.isSet) checkHash(hash);
}

function checkWarmup(balancer: Field): void {
  const warmup = balancer.at("warmup");
  checkDuration(warmup.at("duration"));
  if (warmup.at("aggression").number === 0) {
    warmup.at("aggression").error("0 would never let a host warm up", "write a number above 0; 1 warms up evenly");
  }
  const { text = balancer.has("consistentHash") ? "consistentHash" : "LEAST_REQUEST" } = balancer.at("simple");
  if (["RANDOM", "PASSTHROUGH", "consistentHash"].includes(text)) {
    for (const name of balancer.written(["warmup", "warmupDurationSecs"])) {
      balancer
        .at(name)
        .warn(`has no effect with ${text}`, "write simple: ROUND_ROBIN or LEAST_REQUEST, or leave it out");
    }
  }
}

function checkHash(hash: Field): void {
  const keys = ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
  hash.atMostOne(keys);
  hash.atMostOne(["ringHash", "maglev"]);
  checkHashKey(hash);
  checkRing(hash);
  if (hash.written(keys).length === 0) hash.error("has no key", `write one of ${keys.join(", ")}`);
  const size = hash.at("maglev").at("tableSize");
  if (hash.has("maglev") && (size.number === undefined || size.number >= 5_000_011 || !isPrime(size.number))) {
    size.error(`${size.isSet ? size.quoted : "no number"} is not a prime below 5000011`, "write one, such as 65537");
  }
}

function checkHashKey(hash: Field): void {
  const header = hash.at("httpHeaderName");
  if (header.text !== undefined) checkMatchedName(header, header.text);
  const parameter = hash.at("httpQueryParameterName");
  if (parameter.text === "") parameter.error("has no name", "write the name of a parameter");
  const cookie = hash.at("httpCookie");
  const name = cookie.at("name");
  if (name.text !== undefined && name.text !== "" && !cookieName.test(name.text))
    name.error(`${name.quoted} is no name of a cookie`, "use letters, digits and dashes");
  checkDuration(cookie.at("ttl"), { zeroAllowed: true });
  checkUnique(cookie.at("attributes").items(), (attribute) => attribute.at("name"));
}

const cookieName = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

function checkRing(hash: Field): void {
  const former = hash.at("minimumRingSize");
  const size = hash.at("ringHash").at("minimumRingSize");
  if (former.isSet) {
    if (hash.has("ringHash") || hash.has("maglev"))
      former.error("excludes ringHash and maglev", "write ringHash: {minimumRingSize: ...} alone");
    else former.warn("is a former spelling", "write ringHash: {minimumRingSize: ...}");
  }
  for (const each of [former, size]) {
    if ((each.number ?? 0) > largestRing)
      each.error(`${each.quoted} is more than a ring can have`, `write up to ${largestRing}`);
  }
}

function isPrime(value: number): boolean {
  if (value < 2) return false;
  for (let divisor = 2; divisor * divisor <= value; divisor++) if (value % divisor === 0) return false;
  return true;
}

function checkPool(pool: Field): void {
  if (!pool.isSet) return;
  if (!pool.has("tcp") && !pool.has("http"))
    pool.error("has neither tcp nor http", "write one of them, or leave it out");
  const tcp = pool.at("tcp");
  for (const name of ["connectTimeout", "maxConnectionDuration"]) checkDuration(tcp.at(name));
  checkDuration(tcp.at("idleTimeout"), { zeroAllowed: true });
  for (const name of ["time", "interval"]) checkDuration(tcp.at("tcpKeepalive").at(name));
  const http = pool.at("http");
  checkDuration(http.at("idleTimeout"));
  for (const name of ["interval", "timeout"]) checkDuration(http.at("http2KeepAlive").at(name));
  if (http.at("h2UpgradePolicy").text === "UPGRADE" && http.at("useClientProtocol").value === true) {
    http.at("useClientProtocol").error("excludes h2UpgradePolicy UPGRADE", "keep one of them");
  }
}

function checkOutliers(outliers: Field): void {
  for (const name of ["interval", "baseEjectionTime"]) checkDuration(outliers.at(name));
  if (outliers.has("consecutiveErrors")) {
    outliers.at("consecutiveErrors").warn("has no effect any more", "write consecutive5xxErrors");
  }
  const failures = outliers.at("consecutiveLocalOriginFailures");
  if ((failures.number ?? 0) > 0 && outliers.at("splitExternalLocalOriginErrors").value !== true) {
    failures.error("needs splitExternalLocalOriginErrors", "write splitExternalLocalOriginErrors: true");
  }
}

function checkTls(settings: Field, namespace: string): void {
  const mode = settings.at("mode").text ?? "DISABLE";
  const credential = settings.has("credentialName");
  if (mode === "MUTUAL" && !credential && settings.written(["clientCertificate", "privateKey"]).length < 2) {
    settings.error("mode MUTUAL has no certificate", "write clientCertificate and privateKey, or credentialName");
  }
  const files = settings.written(["clientCertificate", "privateKey", "caCertificates", "caCrl"]);
  if (credential) {
    for (const file of files)
      settings.at(file).error('excludes "credentialName", which is written too', "keep one of them");
  }
  const elsewhere = /^configmap:\/\/([^/]+)\/./.exec(settings.at("credentialName").text ?? "")?.[1];
  if (elsewhere !== undefined && elsewhere !== namespace) {
    settings
      .at("credentialName")
      .error(`names a ConfigMap of namespace "${elsewhere}"`, "write one of the rule's own namespace");
  }
  if (settings.at("insecureSkipVerify").value === true) {
    const excluded = ["caCertificates", "subjectAltNames", ...(mode === "SIMPLE" ? ["credentialName"] : [])];
    for (const name of settings.written(excluded)) {
      settings.at(name).error("has no meaning with insecureSkipVerify", "keep one of them");
    }
  }
  if (mode === "ISTIO_MUTUAL") {
    settings.warn("mode ISTIO_MUTUAL has no effect in an ambient mesh, which encrypts anyway", "leave it out");
  }
}

function checkSettings(settings: Field, namespace: string): void {
  checkLoadBalancer(settings.at("loadBalancer"));
  checkLocality(settings.at("loadBalancer"), settings);
  checkPool(settings.at("connectionPool"));
  checkOutliers(settings.at("outlierDetection"));
  checkTls(settings.at("tls"), namespace);
}

function checkPolicy(policy: Field, namespace: string): void {
  if (!policy.isSet) return;
  if (policy.isEmpty) policy.error("is empty", "write a setting, or leave it out");
  policy.atMostOne(["tunnel", "proxyProtocol"]);
  checkSettings(policy, namespace);
  checkDuration(policy.at("retryBudget").at("budgetInterval"), { zeroAllowed: true });
  const target = policy.at("tunnel").at("targetHost");
  checkHostOrIp(target, { wildcardAllowed: false });
  const ports = policy.at("portLevelSettings").items();
  checkUnique(ports, (entry) => entry.at("port").at("number"));
  for (const entry of ports) {
    if (entry.written(Object.keys(portSettings)).length === 0) {
      entry.error("has no setting", `write one of ${Object.keys(portSettings).join(", ")}`);
    }
    checkSettings(entry, namespace);
    const lost = ["connectionPool", "outlierDetection"].filter((name) => policy.has(name) && !entry.has(name));
    if (lost.length > 0) {
      entry.warn(
        `replaces ${lost.join(" and ")} of the whole policy for port ${entry.at("port").at("number").number ?? ""}`,
        "repeat them here if they are needed",
      );
    }
  }
}

function check(spec: Field, object: Field): void {
  const host = spec.at("host");
  checkHostOrIp(host);
  const namespace = object.at("metadata").at("namespace").text ?? "";
  checkPolicy(spec.at("trafficPolicy"), namespace);
  const subsets = spec.at("subsets").items();
  checkUnique(subsets, (subset) => subset.at("name"));
  for (const subset of subsets) {
    checkLabels(subset.at("labels"));
    checkPolicy(subset.at("trafficPolicy"), namespace);
  }
  checkExportTo(spec.at("exportTo"), namespace);
  if (!spec.has("workloadSelector")) return;
  checkSelector(spec.at("workloadSelector"));
  for (const item of spec.at("exportTo").items()) {
    if (item.text !== "." && item.text !== namespace) {
      item.error("a rule with a workloadSelector stays in its namespace", 'write "." or leave exportTo out');
    }
  }
}

export const destinationRule: KindDefinition = {
  ...networkingKind,
  kind: "DestinationRule",
  plural: "destinationrules",
  shortNames: ["dr"],
  description: "How a waypoint calls a service: load balancing, connection pools, outliers, subsets.",
  columns: [{ name: "Host", type: "string", jsonPath: ".spec.host", description: "The service it is about" }, age],
  spec,
  isSpecRequired: true,
  check,
};
