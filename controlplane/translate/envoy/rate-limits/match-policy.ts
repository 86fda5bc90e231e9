/** Which requests a limit is for: one policy of Envoy's RBAC, and expressions. */
import type { RequestMatch, TextTest } from "#controlplane/mesh/rate-limit-policy.ts";
import type { PermissionInit, PolicyScope } from "../security/attributes.ts";
import { convertRule, type PolicyInit } from "../security/rbac-rules.ts";
import { quoteRegex, type StringMatcherInit } from "../security/string-match.ts";

const operations = new Set(["paths", "methods", "hosts", "ports"]);
const isOperation = (name: string): boolean =>
  operations.has(name.startsWith("not") ? `${name.charAt(3).toLowerCase()}${name.slice(4)}` : name);

export function matchPolicy(
  { attributes, headers, queryParams, claims, when }: RequestMatch,
  scope: PolicyScope,
): { readonly policy?: PolicyInit; readonly when: string[] } {
  const isOnlyWhen = attributes.size + headers.length + queryParams.length + claims.length === 0;
  if (isOnlyWhen && when.length > 0) return { when: [...when] };
  const written = [...attributes];
  const rule = {
    from: [new Map(written.filter(([name]) => !isOperation(name)))],
    to: [new Map(written.filter(([name]) => isOperation(name)))],
    when: claims.map(({ path, values }) => ({
      key: `request.auth.claims[${path.join("][")}]`,
      values,
      notValues: [],
    })),
  };
  // Nothing is left out where it cannot be asked: this is always an HTTP chain.
  const { policy } = convertRule(rule, { action: "DENY" }, "http", scope);
  const { permissions = [], principals = [] } = policy ?? {};
  const tests = [...headers.map(headerTest), ...queryParams.map(queryTest)];
  return {
    policy: {
      permissions: permissions.map((each): PermissionInit => ({
        rule: { case: "andRules", value: { rules: [each, ...tests] } },
      })),
      principals,
    },
    when: [...when],
  };
}

function headerTest({ name, kind, value }: TextTest): PermissionInit {
  return {
    rule: {
      case: "header",
      value: {
        name,
        headerMatchSpecifier:
          kind === "present"
            ? { case: "presentMatch", value: value === "true" }
            : { case: "stringMatch", value: stringTest(kind, value) },
      },
    },
  };
}

const stringTest = (kind: Exclude<TextTest["kind"], "present">, value: string): StringMatcherInit => ({
  matchPattern: kind === "regex" ? { case: "safeRegex", value: { regex: value } } : { case: kind, value },
});

/** RBAC has no condition on parameters, so the path is asked, which carries them. */
function queryTest({ name, kind, value }: TextTest): PermissionInit {
  const found: PermissionInit = {
    rule: {
      case: "header",
      value: {
        name: ":path",
        headerMatchSpecifier: {
          case: "stringMatch",
          value: {
            matchPattern: {
              case: "safeRegex",
              value: { regex: `[^?]*\\?(?:.*&)?${quoteRegex(name)}${valuePattern(kind, value)}(?:&.*)?` },
            },
          },
        },
      },
    },
  };
  return kind === "present" && value === "false" ? { rule: { case: "notRule", value: found } } : found;
}

function valuePattern(kind: TextTest["kind"], value: string): string {
  switch (kind) {
    case "present":
      return "(?:=[^&]*)?";
    case "exact":
      return `=${quoteRegex(value)}`;
    case "prefix":
      return `=${quoteRegex(value)}[^&]*`;
    case "suffix":
      return `=[^&]*${quoteRegex(value)}`;
    case "regex":
      return `=(?:${value})`;
  }
}
