/** What Gateway API's routes must be beyond their form. */
import { parseDurationMs } from "#shared/config/env-reader.ts";
import type { Field } from "./field.ts";
import { checkChangedName, checkHostValue, checkMatchedName, checkWrittenName } from "./header-checks.ts";
import { checkRegex } from "./regex.ts";
import { httpFilterFields } from "./route-filter-forms.ts";
import { checkUnique, hostProblem } from "./scalars.ts";

function checkParents(spec: Field): void {
  const seen = new Map<string, { ref: Field; where: string }>();
  for (const ref of spec.at("parentRefs").items()) {
    const text = (key: string): string => ref.at(key).text ?? "";
    const parent = `${ref.has("group") ? text("group") : "gateway.networking.k8s.io"}/${text("kind")}/${text("namespace")}/${text("name")}`;
    const where = `${text("sectionName")}/${String(ref.at("port").number ?? "")}`;
    const before = seen.get(parent);
    if (before !== undefined && (before.where === where || where === "/" || before.where === "/")) {
      ref.error(`refers to "${text("name")}" again`, "tell such references apart by sectionName or port, in both");
    }
    seen.set(parent, { ref, where });
  }
}

function checkHostnames(spec: Field): void {
  for (const host of spec.at("hostnames").items()) {
    if (host.text === undefined || host.text === "") continue;
    const problem = hostProblem(host.text) ?? (/^[\d.]+$|:/.test(host.text) ? "is an address" : undefined);
    const star =
      host.text.startsWith("*") && !host.text.startsWith("*.") ? "has a star that is no whole label" : undefined;
    const text = problem ?? star;
    if (text !== undefined)
      host.error(`${host.quoted} is not a host name: it ${text}`, "write a DNS name, without port");
  }
}

const badInPath = ["//", "/./", "/../", "%2f", "%2F", "#"];

function checkPath(path: Field): void {
  const value = path.at("value");
  if (value.text === undefined) return;
  if (path.at("type").text === "RegularExpression") {
    checkRegex(value);
    return;
  }
  const { text } = value;
  if (!text.startsWith("/")) value.error(`path ${value.quoted} does not begin with a slash`, `write "/${text}"`);
  const bad = badInPath.find((part) => text.includes(part)) ?? ["/..", "/."].find((part) => text.endsWith(part));
  if (bad !== undefined)
    value.error(`path ${value.quoted} contains "${bad}"`, "write the path as requests will carry it");
  else if (!/^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*$/.test(text)) {
    value.error(`path ${value.quoted} has letters that no path has`, "escape them, such as %20 for a space");
  }
}

const filterFields: ReadonlyMap<string, string> = new Map(Object.entries(httpFilterFields));

function checkFilters(filters: Field, rule: Field | undefined): void {
  const items = filters.items();
  const types = items.map((filter) => filter.at("type").text ?? "");
  for (const [index, filter] of items.entries()) {
    const type = types[index] ?? "";
    const field = filterFields.get(type);
    if (field !== undefined && !filter.has(field)) filter.error(`type ${type} needs "${field}"`, "write it");
    for (const other of filter.written([...filterFields.values()])) {
      if (other !== field)
        filter.at(other).error(`does not belong to type ${type}`, "leave it out, or change the type");
    }
    if (types.indexOf(type) < index && type !== "RequestMirror" && type !== "ExtensionRef") {
      filter.error(`type ${type} is used twice`, "put both into one filter");
    }
    checkMirror(filter.at("requestMirror"));
    checkCors(filter.at("cors"));
    for (const modifier of ["requestHeaderModifier", "responseHeaderModifier"]) checkModifier(filter.at(modifier));
    for (const change of ["requestRedirect", "urlRewrite"]) checkPathChange(filter.at(change).at("path"), rule);
    const code = filter.at("requestRedirect").at("statusCode");
    if (code.number !== undefined && ![301, 302, 303, 307, 308].includes(code.number)) {
      code.error(`${code.quoted} is no redirect`, "write 301, 302, 303, 307 or 308");
    }
  }
  if (types.includes("RequestRedirect") && types.includes("URLRewrite")) {
    filters.error("RequestRedirect and URLRewrite cannot be combined", "keep one of them");
  }
}

function checkMirror(mirror: Field): void {
  mirror.atMostOne(["percent", "fraction"]);
  const fraction = mirror.at("fraction");
  const [numerator, denominator] = [fraction.at("numerator").number ?? 0, fraction.at("denominator").number ?? 100];
  if (numerator > denominator) {
    fraction.error(`${numerator} of ${denominator} is more than everything`, "write a numerator up to the denominator");
  }
}

function checkModifier(modifier: Field): void {
  for (const kind of ["set", "add"]) {
    const items = modifier.at(kind).items();
    checkUnique(items, (item) => item.at("name"));
    for (const item of items) {
      const name = item.at("name");
      if (name.text?.toLowerCase() === "host") checkHostValue(item.at("value"));
      else if (name.text !== undefined && name.text !== "") checkWrittenName(name, name.text);
    }
  }
  for (const item of modifier.at("remove").items()) if (item.text !== undefined) checkChangedName(item, item.text);
}

function checkCors(cors: Field): void {
  for (const name of ["allowOrigins", "allowMethods", "allowHeaders"]) {
    const items = cors.at(name).items();
    const star = items.find(({ text }) => text === "*");
    if (star !== undefined && items.length > 1) star.error('"*" stands beside others', "write it alone");
  }
  for (const origin of cors.at("allowOrigins").items()) {
    if (origin.text === undefined || origin.text === "" || origin.text === "*") continue;
    if (/^[a-z][-+.a-z0-9]*:\/\/(\*\.)*[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:\d{1,5})?$/.test(origin.text)) continue;
    origin.error(`${origin.quoted} is no origin`, 'write "https://a.example", "https://*.a.example:8443" or "*"');
  }
}

/** Of an HTTPRoute it is a word, which the schema knows. */
function checkGrpcMethod(method: Field): void {
  if (!method.isSet || typeof method.value !== "object") return;
  if (!method.has("service") && !method.has("method")) {
    method.error("has neither service nor method", "write at least one of them");
  }
  const isRegex = method.at("type").text === "RegularExpression";
  const forms = {
    service: /^\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$/i,
    method: /^[A-Za-z_][A-Za-z_0-9]*$/,
  } as const;
  for (const part of ["service", "method"] as const) {
    const field = method.at(part);
    if (field.text === undefined) continue;
    if (isRegex) checkRegex(field);
    else if (!forms[part].test(field.text)) {
      const example = part === "service" ? "shop.Cart" : "AddItem";
      field.error(`${field.quoted} is no ${part} of gRPC`, `write it as "${example}", or type: RegularExpression`);
    }
  }
}

function checkNamed(items: readonly Field[], isHeader: boolean): void {
  for (const item of items) {
    const name = item.at("name");
    if (isHeader && name.text !== undefined && name.text !== "") checkMatchedName(name, name.text);
    if (item.at("type").text === "RegularExpression") checkRegex(item.at("value"));
  }
}

function checkSession(session: Field): void {
  if (!session.isSet) return;
  const isPermanent = session.at("cookie").at("lifetimeType").text === "Permanent";
  if (isPermanent && !session.has("absoluteTimeout")) {
    session.error("a permanent cookie has no end", "write absoluteTimeout");
  }
  session.warn("is not supported by waypoints yet", "use consistentHash of a DestinationRule");
}

function checkPathChange(path: Field, rule: Field | undefined): void {
  if (!path.isSet) return;
  const wanted = path.at("type").text === "ReplacePrefixMatch" ? "replacePrefixMatch" : "replaceFullPath";
  if (path.has("type") && !path.has(wanted))
    path.error(`type ${String(path.at("type").text)} needs "${wanted}"`, "write it");
  if (wanted !== "replacePrefixMatch" || rule === undefined) return;
  const matches = rule.at("matches").items();
  const isPrefix = (match: Field): boolean => (match.at("path").at("type").text ?? "PathPrefix") === "PathPrefix";
  // Without a match a rule takes every path: it has the prefix "/".
  if (matches.length > 1 || !matches.every(isPrefix)) {
    path.error(
      "ReplacePrefixMatch requires exactly one PathPrefix match in the rule",
      "write one, or use ReplaceFullPath",
    );
  }
}

function checkTimeouts(timeouts: Field): void {
  const ms = (key: string): number => parseDurationMs(timeouts.at(key).text ?? "") ?? 0;
  const [request, backendRequest] = [ms("request"), ms("backendRequest")];
  if (request > 0 && backendRequest > request) {
    const text = `${String(timeouts.at("backendRequest").text)} exceeds request ${String(timeouts.at("request").text)}`;
    timeouts.at("backendRequest").error(text, "must not exceed the time of the whole request");
  }
}

function checkBackends(rule: Field): void {
  for (const ref of rule.at("backendRefs").items()) {
    const isService = (ref.at("kind").text ?? "Service") === "Service" && (ref.at("group").text ?? "") === "";
    if (isService && !ref.has("port")) ref.error("has no port", "a Service is called on a port: write it");
    checkFilters(ref.at("filters"), undefined);
  }
}

export function checkRoute(spec: Field): void {
  checkParents(spec);
  checkHostnames(spec);
  const rules = spec.at("rules").items();
  checkUnique(rules, (rule) => rule.at("name"));
  const matchCount = rules.reduce((sum, rule) => sum + rule.at("matches").items().length, 0);
  if (matchCount > 128) spec.at("rules").error(`have ${matchCount} matches together`, "at most 128: split the route");
  for (const rule of rules) {
    checkFilters(rule.at("filters"), rule);
    checkTimeouts(rule.at("timeouts"));
    checkSession(rule.at("sessionPersistence"));
    checkBackends(rule);
    const redirects = rule
      .at("filters")
      .items()
      .some((filter) => filter.at("type").text === "RequestRedirect");
    if (redirects && rule.at("backendRefs").items().length > 0) {
      rule.at("backendRefs").error("a rule that redirects has no backends", "remove one of them");
    }
    for (const match of rule.at("matches").items()) {
      checkPath(match.at("path"));
      checkGrpcMethod(match.at("method"));
      checkNamed(match.at("headers").items(), true);
      checkNamed(match.at("queryParams").items(), false);
    }
  }
}
