import { forbiddenField, invalidValue, required, type FieldError } from "./api-error.ts";
import type { KubeObject } from "./object-store.ts";

const label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const subdomain = `${label}(\\.${label})*`;
const label1035 = "[a-z]([-a-z0-9]*[a-z0-9])?";
const qualifiedName = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const value = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

interface NameRule {
  readonly form: RegExp;
  readonly maxLength: number;
  readonly why: string;
}

const whole = (pattern: string) => new RegExp(`^(?:${pattern})$`, "u");

export const nameRules = {
  subdomain: {
    form: whole(subdomain),
    maxLength: 253,
    why: `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '${subdomain}')`,
  },
  label: {
    form: whole(label),
    maxLength: 63,
    why: `a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '${label}')`,
  },
  label1035: {
    form: whole(label1035),
    maxLength: 63,
    why: `a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '${label1035}')`,
  },
  portName: {
    form: /^(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?$/u,
    maxLength: 15,
    why: "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), at least one letter, and no two hyphens in a row",
  },
  pathSegment: { form: /^(?!\.{1,2}$)[^/%]+$/u, maxLength: 253, why: "may not be '.' or '..' nor contain '/' or '%'" },
} as const satisfies Record<string, NameRule>;

/** What is wrong with a name, if anything. */
export function checkName(name: string, rule: NameRule, field: string): FieldError[] {
  if (name === "") return [required(field)];
  if (name.length > rule.maxLength)
    return [invalidValue(field, name, `must be no more than ${rule.maxLength} characters`)];
  return rule.form.test(name) ? [] : [invalidValue(field, name, rule.why)];
}

function nameRuleOf(kind: string, group: string): NameRule {
  if (group === "rbac.authorization.k8s.io") return nameRules.pathSegment;
  if (kind === "Namespace") return nameRules.label;
  return kind === "Service" ? nameRules.label1035 : nameRules.subdomain;
}

/** Total size of all annotations: 256 KiB, as Kubernetes. */
const maxAnnotationBytes = 256 * 1024;

export function validateMetadata({ metadata, kind, apiVersion }: KubeObject, builtIn: boolean): FieldError[] {
  const group = apiVersion.includes("/") ? (apiVersion.split("/")[0] ?? "") : "";
  const errors = checkName(metadata.name, builtIn ? nameRuleOf(kind, group) : nameRules.subdomain, "metadata.name");
  errors.push(...validateLabels(metadata.labels ?? {}, "metadata.labels"));
  let bytes = 0;
  for (const [key, text] of Object.entries(metadata.annotations ?? {})) {
    errors.push(...checkKey(key.toLowerCase(), "metadata.annotations"));
    bytes += key.length + Buffer.byteLength(text);
  }
  if (bytes > maxAnnotationBytes) {
    errors.push({
      reason: "FieldValueTooLong",
      field: "metadata.annotations",
      message: `Too long: may not be more than ${maxAnnotationBytes} bytes`,
    });
  }
  for (const [at, owner] of (metadata.ownerReferences ?? []).entries()) {
    for (const field of ["apiVersion", "kind", "name", "uid"] as const) {
      if (!owner[field]) errors.push(required(`metadata.ownerReferences[${at}].${field}`, "must not be empty"));
    }
  }
  for (const [at, finalizer] of (metadata.finalizers ?? []).entries()) {
    const field = `metadata.finalizers[${at}]`;
    errors.push(...checkKey(finalizer, field));
    if (
      builtIn &&
      kind !== "CustomResourceDefinition" &&
      !finalizer.includes("/") &&
      !standardFinalizers.has(finalizer)
    )
      errors.push(
        invalidValue(field, finalizer, "name is neither a standard finalizer name nor is it fully qualified"),
      );
  }
  return errors;
}

const standardFinalizers: ReadonlySet<string> = new Set(["kubernetes", "orphan", "foregroundDeletion"]);

/** What is on its way out may only be let go. */
export function validateFinalizerChange({ metadata }: KubeObject, previous: KubeObject): FieldError[] {
  if (previous.metadata.deletionTimestamp === undefined) return [];
  const added = (metadata.finalizers ?? []).filter((one) => previous.metadata.finalizers?.includes(one) !== true);
  if (added.length === 0) return [];
  const shown = added.map((one) => JSON.stringify(one)).join(", ");
  return [
    forbiddenField(
      "metadata.finalizers",
      `no new finalizers can be added if the object is being deleted, found new finalizers []string{${shown}}`,
    ),
  ];
}

export function validateLabels(labels: Readonly<Record<string, string>>, field: string): FieldError[] {
  return Object.entries(labels).flatMap(([key, text]) => {
    const errors = checkKey(key, field);
    if (text.length > 63) errors.push(invalidValue(field, text, "must be no more than 63 characters"));
    if (!valueForm.test(text)) {
      errors.push(
        invalidValue(
          field,
          text,
          `a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '${value}')`,
        ),
      );
    }
    return errors;
  });
}

const valueForm = whole(value);
const qualifiedForm = whole(qualifiedName);
const subdomainForm = whole(subdomain);

function checkKey(key: string, field: string): FieldError[] {
  const slash = key.lastIndexOf("/");
  const [prefix, name] = slash < 0 ? [undefined, key] : [key.slice(0, slash), key.slice(slash + 1)];
  const isGood =
    name.length <= 63 &&
    qualifiedForm.test(name) &&
    (prefix === undefined || (prefix.length <= 253 && subdomainForm.test(prefix)));
  if (isGood) return [];
  const why = `name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '${qualifiedName}')`;
  return [invalidValue(field, key, why)];
}
