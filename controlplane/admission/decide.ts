import { isDeepStrictEqual } from "node:util";
import { ShapeError } from "#controlplane/mesh/field.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { formatProblem, type Problem } from "#controlplane/schema/problem.ts";
import { checkObject } from "#controlplane/schema/validate.ts";
import { revisionLabel } from "#controlplane/translate/annotations.ts";
import {
  controllerOfClass,
  meshController,
  unmanagedController,
  eastWestController,
} from "#controlplane/translate/gateway-classes.ts";
import { isOfRevision } from "#controlplane/translate/revision.ts";
import { readCandidate, type Candidate } from "./candidate-world.ts";
import type { ReviewRequest } from "./review.ts";
import type { Scene } from "./scene.ts";
import { worldWarnings } from "./world-warnings.ts";

export interface Decision {
  readonly isAllowed: boolean;
  /** Why not: every mistake, one per line where there are several. */
  readonly message: string;
  /** What its author should know all the same. */
  readonly warnings: readonly string[];
}

const pass = (warnings: readonly string[] = []): Decision => ({ isAllowed: true, message: "", warnings });

/**
 * Whether an object may be written. Refused is only what would not take force: the sources of the control plane ask the
 * same question, and pass over what is refused here. What is there already may be wrong, from before the mesh or from a
 * time without it: labels, finalizers and statuses of such an object can be changed, and it can be deleted.
 *
 * Depends on nothing but what is passed in.
 */
export function decide({ operation, subresource, object, oldObject }: ReviewRequest, scene: Scene): Decision {
  if ((operation !== "CREATE" && operation !== "UPDATE") || subresource !== "" || object === undefined) return pass();
  const metadata = recordOf(object["metadata"]);
  if (metadata["deletionTimestamp"] !== undefined && metadata["deletionTimestamp"] !== null) return pass();
  const named = withName(object, metadata);
  if (!isOurs(named, scene)) return pass();
  const { problems } = checkObject(named);
  const errors = problems.filter(({ severity }) => severity === "error");
  const warnings = problems.filter(({ severity }) => severity === "warning").map(formatProblem);
  const before = operation === "UPDATE" && oldObject !== undefined && isSameContent(oldObject, object);
  const known = before ? new Set(errorsOf(oldObject)) : new Set<string>();
  const news = errors.map(formatProblem).filter((line) => !known.has(line));
  if (news.length > 0) return { isAllowed: false, message: listed(news), warnings };
  if (errors.length > 0) return pass(errors.map((each) => `not in force: ${formatProblem(each)}`));
  let candidate: Candidate | undefined;
  try {
    candidate = readCandidate(named as unknown as KubeObject);
  } catch (thrown) {
    if (!(thrown instanceof ShapeError)) throw thrown;
    const line = `${thrown.path}: ${thrown.message}`;
    return before ? pass([`not in force: ${line}`]) : { isAllowed: false, message: line, warnings };
  }
  return pass([...warnings, ...(candidate === undefined ? [] : worldWarnings(candidate, scene, problems))]);
}

type Plain = Readonly<Record<string, unknown>>;

const recordOf = (value: unknown): Plain =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Plain) : {};

/** Its name may be chosen later, when the object is stored. */
function withName(object: Plain, metadata: Plain): Plain {
  if (metadata["name"] !== undefined || typeof metadata["generateName"] !== "string") return object;
  const { generateName } = metadata;
  return { ...object, metadata: { ...metadata, name: `${generateName.replace(/[^a-z0-9]+$/, "").slice(0, 58)}-x` } };
}

const routeKinds = new Set(["HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute"]);
const handledControllers = [meshController, unmanagedController, eastWestController];

/**
 * Objects of another revision have their own control plane; Gateways and routes of other controllers may hold what only
 * those understand.
 */
function isOurs(object: Plain, { world, options }: Scene): boolean {
  const revision = recordOf(recordOf(object["metadata"])["labels"])[revisionLabel];
  const labels = new Map(typeof revision === "string" ? [[revisionLabel, revision]] : []);
  if (!isOfRevision({ labels }, options)) return false;
  const group = String(object["apiVersion"]).split("/")[0];
  if (group !== "gateway.networking.k8s.io") return true;
  const spec = recordOf(object["spec"]);
  const kind = String(object["kind"]);
  if (kind === "Gateway") {
    const controller = controllerOfClass(world, String(spec["gatewayClassName"]));
    return controller !== undefined && handledControllers.includes(controller);
  }
  if (!routeKinds.has(kind)) return true;
  const parents = Array.isArray(spec["parentRefs"]) ? spec["parentRefs"].map(recordOf) : [];
  return parents.some((parent) => parent["kind"] === "Service" || parent["kind"] === "ServiceEntry");
}

/** Whether nothing differs but metadata and status. */
function isSameContent(before: Plain, after: Plain): boolean {
  const content = ({ metadata: _metadata, status: _status, apiVersion: _version, ...rest }: Plain) => rest;
  return isDeepStrictEqual(content(before), content(after));
}

const errorsOf = (object: Plain | undefined): readonly string[] =>
  object === undefined
    ? []
    : checkObject(object)
        .problems.filter(({ severity }: Problem) => severity === "error")
        .map(formatProblem);

/** An API server shows a message as it is; a terminal is easier to read in lines. */
const listed = (lines: readonly string[]): string => {
  const [only = "", ...more] = lines;
  if (more.length === 0) return only;
  const shown = lines.slice(0, mostMistakes);
  const left = lines.length - shown.length;
  const rest = left > 0 ? [`and ${left} more`] : [];
  return `${lines.length} mistakes:\n${[...shown, ...rest].map((line) => `- ${line}`).join("\n")}`;
};

/** Nobody reads more at once. */
const mostMistakes = 50;
