import { forbiddenField, invalidValue, required, unsupported, type FieldError } from "./api-error.ts";
import { compileCel } from "./cel-evaluator.ts";
import { CelError } from "./cel-parser.ts";
import type { KubeObject } from "./object-store.ts";
import { child, isObject, listOf, numberOf, objectsOf, textOf, type JsonObject } from "./schema.ts";

const segment = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const qualifiedName = new RegExp(String.raw`^${segment}(\.${segment}){2,}$`, "u");

/** What a webhook's configuration must be, for the API server to be able to follow it. */
export function validateWebhooks(object: KubeObject): FieldError[] {
  const names = new Set<string>();
  return objectsOf(object, "webhooks").flatMap((webhook, at) => {
    const path = `webhooks[${at}]`;
    const name = textOf(webhook, "name") ?? "";
    const errors = validateWebhook(webhook, path);
    if (names.has(name)) {
      errors.push({
        reason: "FieldValueDuplicate",
        field: `${path}.name`,
        message: `Duplicate value: ${JSON.stringify(name)}`,
      });
    }
    names.add(name);
    return errors;
  });
}

function validateWebhook(webhook: JsonObject, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const name = textOf(webhook, "name") ?? "";
  if (!qualifiedName.test(name)) {
    errors.push(
      invalidValue(`${path}.name`, name, "should be a domain with at least three segments separated by dots"),
    );
  }
  const versions = listOf(webhook, "admissionReviewVersions");
  if (versions.length === 0)
    errors.push(required(`${path}.admissionReviewVersions`, "must specify one of v1, v1beta1"));
  else if (!versions.includes("v1")) {
    errors.push(invalidValue(`${path}.admissionReviewVersions`, versions, "must include at least one of v1"));
  }
  const effects = textOf(webhook, "sideEffects");
  if (effects !== "None" && effects !== "NoneOnDryRun") {
    errors.push(unsupported(`${path}.sideEffects`, effects ?? "", ["None", "NoneOnDryRun"]));
  }
  const seconds = numberOf(webhook, "timeoutSeconds") ?? 10;
  if (seconds < 1 || seconds > 30) {
    errors.push(invalidValue(`${path}.timeoutSeconds`, seconds, "the timeout value must be between 1 and 30 seconds"));
  }
  return [...errors, ...validateClient(webhook, path), ...validateConditions(webhook, path)];
}

function validateClient(webhook: JsonObject, path: string): FieldError[] {
  const client = child(webhook, "clientConfig");
  const url = textOf(client, "url");
  const place = `${path}.clientConfig`;
  if ((url === undefined) === !isObject(client["service"])) {
    return [required(place, "exactly one of url or service is required")];
  }
  if (url === undefined) {
    const path = textOf(child(client, "service"), "path") ?? "/";
    return path.startsWith("/") ? [] : [invalidValue(`${place}.service.path`, path, "must start with a '/'")];
  }
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined) return [invalidValue(`${place}.url`, url, "url must be a valid URL")];
  if (parsed.protocol !== "https:") {
    return [
      invalidValue(`${place}.url`, url, `'https' is the only allowed URL scheme; desired format: https://host[/path]`),
    ];
  }
  return parsed.search === "" && parsed.hash === "" && parsed.username === ""
    ? []
    : [forbiddenField(`${place}.url`, "user info, query parameters and fragments are not permitted in the URL")];
}

function validateConditions(webhook: JsonObject, path: string): FieldError[] {
  return objectsOf(webhook, "matchConditions").flatMap((condition, at) => {
    const place = `${path}.matchConditions[${at}]`;
    const expression = textOf(condition, "expression") ?? "";
    if ((textOf(condition, "name") ?? "") === "") return [required(`${place}.name`)];
    try {
      compileCel(expression);
      return [];
    } catch (error) {
      if (!(error instanceof CelError)) throw error;
      return [invalidValue(`${place}.expression`, expression, `compilation failed: ${error.message}`)];
    }
  });
}
