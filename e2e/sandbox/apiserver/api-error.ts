/** One entry of `details.causes`: which field is wrong, and why. */
export interface StatusCause {
  readonly reason?: string;
  readonly message?: string;
  readonly field?: string;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly StatusCause[];
  readonly retryAfterSeconds?: number;
}

/** A Kubernetes `Status` object, the body of every refusal. */
export interface StatusObject {
  readonly kind: "Status";
  readonly apiVersion: "v1";
  readonly metadata: Record<string, never>;
  readonly status: "Success" | "Failure";
  readonly message?: string;
  readonly reason?: string;
  readonly details?: StatusDetails;
  readonly code: number;
}

const codes = {
  BadRequest: 400,
  Unauthorized: 401,
  Forbidden: 403,
  NotFound: 404,
  MethodNotAllowed: 405,
  NotAcceptable: 406,
  Conflict: 409,
  AlreadyExists: 409,
  Gone: 410,
  Expired: 410,
  RequestEntityTooLarge: 413,
  UnsupportedMediaType: 415,
  Invalid: 422,
  TooManyRequests: 429,
  InternalError: 500,
  ServiceUnavailable: 503,
} as const;

export type StatusReason = keyof typeof codes;

/** A refusal that travels to the client as a `Status` with the matching HTTP code. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  /** Of {@link StatusReason}, or what a webhook made up; may be empty. */
  readonly reason: string;
  readonly code: number;
  readonly details: StatusDetails | undefined;
  /** What the client is told besides. */
  readonly warnings: readonly string[] = [];

  /** A refusal in somebody else's words. */
  static of(reason: string, code: number, message: string): ApiError {
    return Object.assign(new ApiError("BadRequest", message), { reason, code });
  }

  constructor(reason: StatusReason, message: string, details?: StatusDetails) {
    super(message);
    this.reason = reason;
    this.code = codes[reason];
    this.details = details;
  }

  withWarnings(warnings: readonly string[]): this {
    return Object.assign(this, { warnings });
  }

  toStatus(): StatusObject {
    return {
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Failure",
      message: this.message,
      ...(this.reason === "" ? {} : { reason: this.reason }),
      ...(this.details === undefined ? {} : { details: this.details }),
      code: this.code,
    };
  }
}

/** What a refusal is about; `resource` is the plural name. */
export interface Subject {
  readonly group: string;
  readonly resource: string;
}

/** `deployments.apps`, or just `pods` for the core group. */
export function qualified({ group, resource }: Subject): string {
  return group === "" ? resource : `${resource}.${group}`;
}

export function notFound(subject: Subject, name: string): ApiError {
  return new ApiError("NotFound", `${qualified(subject)} "${name}" not found`, {
    name,
    ...(subject.group === "" ? {} : { group: subject.group }),
    kind: subject.resource,
  });
}

export function alreadyExists(subject: Subject, name: string): ApiError {
  return new ApiError("AlreadyExists", `${qualified(subject)} "${name}" already exists`, {
    name,
    ...(subject.group === "" ? {} : { group: subject.group }),
    kind: subject.resource,
  });
}

export function conflict(subject: Subject, name: string, why: string, causes?: readonly StatusCause[]): ApiError {
  return new ApiError("Conflict", `Operation cannot be fulfilled on ${qualified(subject)} "${name}": ${why}`, {
    name,
    ...(subject.group === "" ? {} : { group: subject.group }),
    kind: subject.resource,
    ...(causes === undefined ? {} : { causes }),
  });
}

export function forbidden(subject: Subject, name: string, why: string, causes?: readonly StatusCause[]): ApiError {
  const about = name === "" ? qualified(subject) : `${qualified(subject)} "${name}"`;
  return new ApiError("Forbidden", `${about} is forbidden: ${why}`, {
    ...(name === "" ? {} : { name }),
    ...(subject.group === "" ? {} : { group: subject.group }),
    kind: subject.resource,
    ...(causes === undefined ? {} : { causes }),
  });
}

/** A field that breaks a rule, worded as `kubectl` users know it. */
export interface FieldError {
  readonly reason:
    | "FieldValueRequired"
    | "FieldValueInvalid"
    | "FieldValueNotSupported"
    | "FieldValueForbidden"
    | "FieldValueDuplicate"
    | "FieldValueTypeInvalid"
    | "FieldValueTooLong"
    | "FieldValueTooMany";
  readonly field: string;
  /** The whole text after the field path, for example `Required value: name is required`. */
  readonly message: string;
}

export const required = (field: string, why = ""): FieldError => ({
  reason: "FieldValueRequired",
  field,
  message: why === "" ? "Required value" : `Required value: ${why}`,
});

export const invalidValue = (field: string, value: unknown, why: string): FieldError => ({
  reason: "FieldValueInvalid",
  field,
  message: `Invalid value: ${show(value)}: ${why}`,
});

export const unsupported = (field: string, value: unknown, supported: readonly unknown[]): FieldError => ({
  reason: "FieldValueNotSupported",
  field,
  message: `Unsupported value: ${show(value)}: supported values: ${supported.map(show).join(", ")}`,
});

export const forbiddenField = (field: string, why: string): FieldError => ({
  reason: "FieldValueForbidden",
  field,
  message: `Forbidden: ${why}`,
});

export const duplicate = (field: string, value: unknown): FieldError => ({
  reason: "FieldValueDuplicate",
  field,
  message: `Duplicate value: ${show(value)}`,
});

function show(value: unknown): string {
  return JSON.stringify(value) ?? "null";
}

/** All that is wrong with one object, in one refusal, so that it can be mended in one go. */
export function invalid(group: string, kind: string, name: string, errors: readonly FieldError[]): ApiError {
  const lines = errors.map(({ field, message }) => `${field}: ${message}`);
  const text = lines.length === 1 ? lines[0] : `[${lines.join(", ")}]`;
  const kindName = group === "" ? kind : `${kind}.${group}`;
  return new ApiError("Invalid", `${kindName} "${name}" is invalid: ${text}`, {
    name,
    ...(group === "" ? {} : { group }),
    kind,
    causes: errors,
  });
}
