/** The envelope of `admission.k8s.io/v1`: what an API server asks, and what it is answered. */
import { z } from "zod";

/** One write, before it is stored. */
export interface ReviewRequest {
  readonly uid: string;
  /** CREATE, UPDATE, DELETE or CONNECT. */
  readonly operation: string;
  /** `status`, `scale` …; empty for the object itself. */
  readonly subresource: string;
  readonly resource: { readonly group: string; readonly version: string; readonly resource: string };
  /** As it will be stored; undefined for a deletion. */
  readonly object: Readonly<Record<string, unknown>> | undefined;
  /** As it is stored; undefined for what is new. */
  readonly oldObject: Readonly<Record<string, unknown>> | undefined;
}

export interface Decision {
  /** Why it may not be written: every mistake. Empty where it may. */
  readonly mistakes: readonly string[];
  /** What its author should know all the same. */
  readonly warnings: readonly string[];
}

const object = z.record(z.string(), z.unknown()).nullish();

const reviewForm = z.object({
  apiVersion: z.literal("admission.k8s.io/v1"),
  kind: z.literal("AdmissionReview"),
  request: z.object({
    uid: z.string().min(1).max(128),
    operation: z.string(),
    subResource: z.string().optional(),
    resource: z.object({ group: z.string().default(""), version: z.string(), resource: z.string() }),
    object,
    oldObject: object,
  }),
});

/** The request, or what is wrong with the body. */
export function readReview(body: Buffer): ReviewRequest | { readonly wrong: string } {
  let value: unknown;
  try {
    value = JSON.parse(body.toString("utf8"));
  } catch (thrown) {
    return { wrong: `the body is not JSON: ${(thrown as Error).message}` };
  }
  const read = reviewForm.safeParse(value);
  if (!read.success) {
    const [issue] = read.error.issues;
    return { wrong: `the body is no AdmissionReview of admission.k8s.io/v1: ${issue?.path.join(".") ?? ""}` };
  }
  const { uid, operation, subResource = "", resource, object, oldObject } = read.data.request;
  return {
    uid,
    operation,
    subresource: subResource,
    resource,
    object: object ?? undefined,
    oldObject: oldObject ?? undefined,
  };
}

/** API servers cut warnings short once all of them exceed 4096 characters. */
const mostWarningCharacters = 4_000;

export function answerReview({ uid }: ReviewRequest, { mistakes, warnings }: Decision): object {
  const isAllowed = mistakes.length === 0;
  const message = listed(mistakes);
  const shown = shownWarnings(warnings);
  return {
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    response: {
      uid,
      allowed: isAllowed,
      ...(isAllowed ? {} : { status: { status: "Failure", code: 400, reason: "BadRequest", message } }),
      ...(shown.length === 0 ? {} : { warnings: shown }),
    },
  };
}

/** Nobody reads more at once. */
const mostMistakes = 50;

/** An API server passes a message on as it is, and a terminal is read in lines. */
function listed(mistakes: readonly string[]): string {
  const [only = "", ...more] = mistakes;
  if (more.length === 0) return only;
  const left = mistakes.length - mostMistakes;
  const lines = [...mistakes.slice(0, mostMistakes), ...(left > 0 ? [`and ${left} more`] : [])];
  return `${mistakes.length} mistakes:\n${lines.map((line) => `- ${line}`).join("\n")}`;
}

function shownWarnings(warnings: readonly string[]): readonly string[] {
  let characters = 0;
  const all = [...new Set(warnings)];
  const shown = all.filter((warning) => (characters += warning.length) <= mostWarningCharacters);
  const left = all.length - shown.length;
  return left === 0 ? shown : [...shown, `and ${left} more: see the object's status`];
}
