import { ApiError } from "./api-error.ts";
import { authorize, grantsFor, type Attributes, type Rules } from "./authorizer.ts";
import { child, isObject, listOf, textOf, type JsonObject } from "./schema.ts";
import { defaultAudiences, type ServiceAccountTokens, type User } from "./service-account-tokens.ts";

interface ReviewDependencies {
  readonly store: Rules;
  readonly tokens: ServiceAccountTokens;
}

/** Answers the kinds that are questions rather than objects. Undefined for any other resource. */
export function answerReview(
  resource: string,
  body: JsonObject,
  user: User,
  namespace: string | undefined,
  { store, tokens }: ReviewDependencies,
): JsonObject | undefined {
  const spec = child(body, "spec");
  switch (resource) {
    case "tokenreviews":
      return { ...body, status: reviewToken(spec, tokens) };
    case "subjectaccessreviews":
    case "localsubjectaccessreviews": {
      const asked = readAttributes(spec);
      if (namespace !== undefined && (asked.kind !== "resource" || asked.namespace !== namespace)) {
        throw new ApiError("BadRequest", `spec.resourceAttributes.namespace must match namespace: ${namespace}`);
      }
      return { ...body, status: review(readUser(spec), asked, store) };
    }
    case "selfsubjectaccessreviews":
      return { ...body, status: review(user, readAttributes(spec), store) };
    case "selfsubjectrulesreviews":
      return { ...body, status: listRules(user, textOf(spec, "namespace"), store) };
    case "selfsubjectreviews":
      return { ...body, status: { userInfo: showUser(user) } };
    default:
      return undefined;
  }
}

function reviewToken(spec: JsonObject, tokens: ServiceAccountTokens): JsonObject {
  const asked = listOf(spec, "audiences").map(String);
  const checked = tokens.check(textOf(spec, "token") ?? "", asked.length === 0 ? defaultAudiences : asked);
  if ("error" in checked) return { user: {}, error: checked.error };
  return { authenticated: true, user: showUser(checked.user), audiences: checked.audiences };
}

function showUser({ name, uid, groups, extra }: User): JsonObject {
  return { username: name, ...(uid === undefined ? {} : { uid }), groups, ...(extra === undefined ? {} : { extra }) };
}

function readUser(spec: JsonObject): User {
  const name = textOf(spec, "user") ?? "";
  const groups = listOf(spec, "groups").map(String);
  if (name === "" && groups.length === 0)
    throw new ApiError("Invalid", 'spec.user: Invalid value: "": at least one of user or group must be specified');
  return { name, groups };
}

function readAttributes(spec: JsonObject): Attributes {
  const resource = spec["resourceAttributes"];
  if (isObject(resource)) {
    const optional = (field: string) => {
      const value = textOf(resource, field) ?? "";
      return value === "" ? {} : { [field]: value };
    };
    return {
      kind: "resource",
      verb: textOf(resource, "verb") ?? "",
      group: textOf(resource, "group") ?? "",
      resource: textOf(resource, "resource") ?? "",
      ...optional("subresource"),
      ...optional("namespace"),
      ...optional("name"),
    };
  }
  const other = child(spec, "nonResourceAttributes");
  return { kind: "other", verb: textOf(other, "verb") ?? "", path: textOf(other, "path") ?? "" };
}

function review(user: User, asked: Attributes, store: Rules): JsonObject {
  const { allowed, reason } = authorize(user, asked, store);
  return { allowed, ...(reason === "" ? {} : { reason }) };
}

function listRules(user: User, namespace: string | undefined, store: Rules): JsonObject {
  const everything = [
    { verbs: ["*"], apiGroups: ["*"], resources: ["*"] },
    { verbs: ["*"], nonResourceURLs: ["*"] },
  ];
  const rules: readonly JsonObject[] = user.groups.includes("system:masters")
    ? everything
    : [...grantsFor(user, namespace, store)].flatMap((grant) => grant.rules);
  const isOther = (rule: JsonObject) => listOf(rule, "nonResourceURLs").length > 0;
  return {
    resourceRules: rules.filter((rule) => !isOther(rule)),
    nonResourceRules: rules.filter(isOther).map(({ verbs, nonResourceURLs }) => ({ verbs, nonResourceURLs })),
    incomplete: false,
  };
}
