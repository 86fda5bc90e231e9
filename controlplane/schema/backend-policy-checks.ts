/** What Gateway API's policies for backends must be beyond their form. */
import { parseDurationMs } from "#shared/config/env-reader.ts";
import type { Field } from "./field.ts";
import { isIp } from "./scalars.ts";

function checkTargets(spec: Field): void {
  const seen = new Map<string, Set<string>>();
  for (const ref of spec.at("targetRefs").items()) {
    const [group = "", kind = "", name = "", section = ""] = ["group", "kind", "name", "sectionName"].map(
      (key) => ref.at(key).text,
    );
    const key = `${group}/${kind}/${name}`;
    const sections = seen.get(key) ?? new Set();
    if (sections.has(section) || (sections.size > 0 && (section === "" || sections.has("")))) {
      ref.error(`refers to "${name}" again`, "tell such references apart by sectionName, in both, or keep one");
    }
    seen.set(key, sections.add(section));
    const isMeant =
      (group === "" && kind === "Service") || (group === "networking.istio.io" && kind === "ServiceEntry");
    if (kind !== "" && !isMeant) {
      ref.warn(
        `kind "${kind}" of ${group === "" ? "the core group" : `group "${group}"`} is no target in this mesh`,
        'write Service (group "") or ServiceEntry (networking.istio.io)',
      );
    }
  }
}

export function checkBackendTls(spec: Field): void {
  checkTargets(spec);
  const validation = spec.at("validation");
  if (validation.isSet) checkAuthorities(validation);
  const hostname = validation.at("hostname");
  if (isIp(hostname.text ?? "")) {
    hostname.error(
      `${hostname.quoted} is an address, which no client asks for by SNI`,
      "write the host name that the server's certificate is for",
    );
  }
  for (const item of validation.at("subjectAltNames").items()) checkAltName(item);
  for (const [, option] of spec.at("options").entries()) {
    option.warn("is no option of this mesh: it has no effect", "leave it out");
  }
}

function checkAuthorities(validation: Field): void {
  const refs = validation.at("caCertificateRefs");
  const isWellKnown = validation.has("wellKnownCACertificates");
  if (refs.items().length > 0 && isWellKnown) {
    validation
      .at("wellKnownCACertificates")
      .error('excludes "caCertificateRefs", which is written too', "keep one of them");
  }
  if (refs.items().length === 0 && !isWellKnown) {
    validation.error(
      "says of no authority that it is trusted",
      "write caCertificateRefs, or wellKnownCACertificates: System",
    );
  }
  for (const ref of refs.items()) {
    const [group = "", kind = ""] = [ref.at("group").text, ref.at("kind").text];
    if (kind === "" || (group === "" && kind === "ConfigMap")) continue;
    ref.warn(
      `kind "${kind}" is not read for certificates: without another reference, nothing will be sent`,
      'write a ConfigMap (group "") that has them under ca.crt',
    );
  }
  const known = validation.at("wellKnownCACertificates");
  if (known.text !== undefined && known.text !== "System") {
    known.warn(`${known.quoted} is not known here: nothing will be sent`, "write System");
  }
}

const fieldOfType = { Hostname: "hostname", URI: "uri" } as const;

function checkAltName(item: Field): void {
  const type = item.at("type").text;
  if (type !== "Hostname" && type !== "URI") return;
  const field = fieldOfType[type];
  if (!item.has(field)) item.error(`type ${type} needs "${field}"`, "write it");
  for (const other of item.written(Object.values(fieldOfType))) {
    if (other !== field) item.at(other).error(`does not belong to type ${type}`, "leave it out, or change the type");
  }
}

const hourMs = 3_600_000;

export function checkBackendTraffic(spec: Field): void {
  checkTargets(spec);
  const constraint = spec.at("retryConstraint");
  checkInterval(constraint.at("budget").at("interval"), 1_000, "write from 1s to 1h");
  checkInterval(constraint.at("minRetryRate").at("interval"), 1, "write more than 0s, and 1h at most");
  const sessions = spec.at("sessionPersistence");
  if (sessions.isSet) {
    sessions.warn(
      "is not supported: requests of a session go to any endpoint",
      "write consistentHash of a DestinationRule",
    );
    if (sessions.at("cookieConfig").at("lifetimeType").text === "Permanent" && !sessions.has("absoluteTimeout")) {
      sessions.error("a permanent cookie has no end", "write absoluteTimeout");
    }
  } else if (spec.isSet && !constraint.isSet) {
    spec.warn("says nothing of its targets", "write retryConstraint");
  }
}

function checkInterval(interval: Field, shortestMs: number, remedy: string): void {
  const ms = interval.text === undefined ? undefined : parseDurationMs(interval.text);
  if (ms !== undefined && (ms < shortestMs || ms > hourMs))
    interval.error(`${interval.quoted} is out of range`, remedy);
}
