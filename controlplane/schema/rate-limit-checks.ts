/** What a RateLimitPolicy must be beyond its form. */
import { parseDurationMs } from "#shared/config/env-reader.ts";
import { expressionProblem, type Wanted } from "#shared/expressions/check-expression.ts";
import {
  connectionAttributes,
  exchangeAttributes,
  requestAttributes,
  type Vocabulary,
} from "#shared/expressions/vocabularies.ts";
import { checkOperation, checkSource } from "./authorization-policy.ts";
import type { Field } from "./field.ts";
import { checkWrittenName } from "./header-checks.ts";
import { keyNames, nameMatch, rateLimitBody } from "./rate-limit-forms.ts";
import { checkRegex } from "./regex.ts";
import { checkUnique } from "./scalars.ts";

const targets: ReadonlyMap<string, "service" | "gateway" | "route"> = new Map([
  ["/Service", "service"],
  ["networking.istio.io/ServiceEntry", "service"],
  ["gateway.networking.k8s.io/Gateway", "gateway"],
  ["gateway.networking.k8s.io/GatewayClass", "gateway"],
  ["gateway.networking.k8s.io/HTTPRoute", "route"],
  ["gateway.networking.k8s.io/GRPCRoute", "route"],
] as const);

/** Units that the protocol of rate limit services has. */
const wholeUnitsMs = new Set([1_000, 60_000, 3_600_000, 86_400_000, 604_800_000, 2_592_000_000, 31_536_000_000]);
const longestPerMs = 365 * 86_400_000;

export function checkRateLimitPolicy(specField: Field): void {
  const kinds = specField.at("targetRefs").items().map(checkTarget);
  const bodies = specField.written(["defaults", "overrides"]);
  specField.atMostOne(["defaults", "overrides"]);
  for (const name of bodies) {
    if (!kinds.every((kind) => kind === "gateway")) {
      specField.at(name).error("is for Gateways and GatewayClasses only", "write the limits in the spec itself");
    }
    for (const field of specField.written(Object.keys(rateLimitBody))) {
      specField.at(field).error(`excludes "${name}", which is written too`, `write it in ${name}`);
    }
    checkBody(specField.at(name));
  }
  if (bodies.length === 0) checkBody(specField);
}

function checkTarget(ref: Field): "service" | "gateway" | "route" | undefined {
  const kind = targets.get(`${ref.at("group").text ?? ""}/${ref.at("kind").text ?? ""}`);
  if (kind === undefined && ref.at("kind").isSet) {
    ref.error(
      `kind ${ref.at("kind").quoted} of group ${ref.at("group").isSet ? ref.at("group").quoted : '""'} is no target`,
      'write Service (group ""), ServiceEntry (networking.istio.io), or Gateway, GatewayClass, HTTPRoute or GRPCRoute (gateway.networking.k8s.io)',
    );
  }
  if ((ref.at("namespace").text ?? "") !== "") {
    ref.at("namespace").error("references into other namespaces are not supported", "leave the namespace out");
  }
  if (ref.has("sectionName") && kind !== "route") {
    ref.at("sectionName").error("names a rule of a route", "leave it out, or name an HTTPRoute or GRPCRoute");
  }
  return kind;
}

function checkBody(part: Field): void {
  const limits = part.at("limits");
  if (!limits.isSet) limits.error("is missing", "write at least one limit");
  checkUnique(limits.items(), (each) => each.at("name"));
  const hasGlobal = part.has("global");
  const isEarly = part.at("phase").text === "PreAuth";
  let usesGlobal = false;
  for (const each of limits.items()) {
    const isGlobal = each.at("scope").text === "Global";
    usesGlobal ||= isGlobal;
    if (isGlobal && !hasGlobal) {
      each.at("scope").error("Global needs a rate limit service", "name one in global.service, or write scope: Local");
    }
    checkLimit(each, isGlobal, isEarly);
  }
  if (hasGlobal && !usesGlobal && limits.isSet) {
    part.at("global").warn("is not used", 'write "scope: Global" in a limit, or leave it out');
  }
  if (part.at("errorStatus").isSet && part.at("onError").text !== "Deny") {
    part.at("errorStatus").warn("is not used", "write onError: Deny");
  }
  for (const [name, value] of part.at("response").at("headers").at("set").entries()) {
    checkWrittenName(value, name);
    if (/[\r\n\0]/.test(value.text ?? "")) value.error("holds a line break", "write it on one line");
  }
}

function checkLimit(limitField: Field, isGlobal: boolean, isEarly: boolean): void {
  for (const each of limitField.at("match").items()) checkMatch(each, isEarly);
  for (const each of limitField.at("key").items()) checkKey(each, isEarly);
  if (limitField.at("key").items().length > 4) {
    limitField.at("key").warn("has more than 4 parts", "few callers share such a key: is the limit what you mean?");
  }
  checkRates(limitField.at("rates"), isGlobal);
  const costField = limitField.at("cost");
  costField.atMostOne(["value", "request", "response"]);
  checkCost(costField.at("request"), attributesOf(isEarly));
  checkCost(costField.at("response"), exchangeAttributes);
  if (isGlobal) {
    for (const name of ["maxKeys", "shareReplicas"] as const) {
      if (limitField.has(name)) limitField.at(name).error("is for scope: Local", "leave it out");
    }
  }
  for (const override of limitField.at("overrides").items()) {
    checkMatch(override.at("when"), isEarly);
    if (override.has("rates") === (override.at("unlimited").value === true)) {
      override.error("needs either rates or unlimited: true", "write one of them");
    }
    checkRates(override.at("rates"), isGlobal);
  }
}

const attributesOf = (isEarly: boolean): Vocabulary => (isEarly ? connectionAttributes : requestAttributes);

function checkCost(field: Field, vocabulary: Vocabulary): void {
  if (!field.isSet) return;
  const written = field.written(["header", "expression"]);
  if (written.length !== 1) field.error("needs either a header or an expression", "write one of them");
  checkExpression(field.at("expression"), vocabulary, "int");
}

const examples: Readonly<Record<NonNullable<Wanted>, string>> = {
  bool: 'write one that is true or false, such as request.headers["x-tier"] == "free"',
  string: 'write one that comes to a text, such as request.path.split("/")[1]',
  int: 'write one that comes to a number, such as int(request.headers["x-cost"])',
};

function checkExpression(field: Field, vocabulary: Vocabulary, wanted: NonNullable<Wanted>): void {
  const { text } = field;
  const problem = text === undefined || text === "" ? undefined : expressionProblem(text, vocabulary, wanted);
  if (problem !== undefined) field.error(`${field.quoted} cannot be used: ${problem}`, examples[wanted]);
}

const early = new Set([
  "when",
  "ports",
  "notPorts",
  "principals",
  "notPrincipals",
  "namespaces",
  "notNamespaces",
  "serviceAccounts",
  "notServiceAccounts",
  "ipBlocks",
  "notIpBlocks",
  "remoteIpBlocks",
  "notRemoteIpBlocks",
]);
const earlyKeys = new Set([
  "expression",
  "remoteAddress",
  "sourcePrincipal",
  "sourceNamespace",
  "sourceServiceAccount",
  "sourceWorkload",
  "literal",
]);

function checkMatch(matchField: Field, isEarly: boolean): void {
  if (matchField.isSet && matchField.isEmpty) matchField.error("is empty", "name what it matches, or leave it out");
  checkSource(matchField, "ALLOW");
  checkOperation(matchField);
  for (const list of ["headers", "queryParams"]) {
    for (const each of matchField.at(list).items()) {
      const written = each.written(Object.keys(nameMatch));
      if (written.length !== 1) {
        each.error(
          written.length === 0 ? "says nothing about the value" : `says several things: ${written.join(", ")}`,
          "write one of exact, prefix, suffix, regex and present",
        );
      }
      checkRegex(each.at("regex"));
    }
  }
  for (const each of matchField.at("when").items()) checkExpression(each, attributesOf(isEarly), "bool");
  if (!isEarly) return;
  for (const name of matchField.keys()) {
    if (!early.has(name)) {
      matchField.at(name).error("is not known in phase PreAuth", "leave it out, or write phase: PostAuth");
    }
  }
}

function checkKey(keyField: Field, isEarly: boolean): void {
  const written = keyField.written(keyNames);
  if (written.length !== 1) {
    keyField.error(
      written.length === 0 ? "names nothing" : `names several things: ${written.join(", ")}`,
      `set exactly one of ${keyNames.join(", ")}`,
    );
  }
  checkExpression(keyField.at("expression").at("cel"), attributesOf(isEarly), "string");
  for (const name of written) {
    if (isEarly && !earlyKeys.has(name)) {
      keyField.at(name).error("is not known in phase PreAuth", `use one of ${[...earlyKeys].join(", ")}`);
    }
  }
}

function checkRates(list: Field, isGlobal: boolean): void {
  checkUnique(list.items(), (rate) => rate.at("per"));
  for (const rate of list.items()) {
    const per = rate.at("per");
    const ms = per.text === undefined ? undefined : parseDurationMs(per.text);
    if (ms === undefined) continue;
    if (ms < 1_000 || ms > longestPerMs) {
      per.error(`${per.quoted} is out of range`, 'write a duration from "1s" to "8760h"');
    } else if (isGlobal && !wholeUnitsMs.has(ms)) {
      per.error(
        `${per.quoted} is not a whole unit and the limit is Global`,
        'write "1s", "1m", "1h" or "24h": rate limit services count in these',
      );
    }
    if (isGlobal && rate.has("burst")) rate.at("burst").error("is for scope: Local", "leave it out");
  }
}
