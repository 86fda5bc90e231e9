import { isDeepStrictEqual } from "node:util";
import { ShapeError } from "#controlplane/mesh/field.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { formatProblem, hasErrors, type Problem } from "#controlplane/schema/problem.ts";
import { checkObject } from "#controlplane/schema/validate.ts";
import { revisionLabel } from "#controlplane/translate/annotations.ts";
import {
  controllerOfClass,
  meshController,
  unmanagedController,
  eastWestController,
} from "#controlplane/translate/gateway-classes.ts";
import { isOfRevision } from "#controlplane/translate/revision.ts";
import { readCandidate } from "./candidate-world.ts";
import type { Decision, ReviewRequest } from "./review.ts";
import type { Scene } from "./scene.ts";
import { worldWarnings } from "./world-warnings.ts";

const pass = (warnings: readonly string[] = []): Decision => ({ mistakes: [], warnings });

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
  const { problems, beyond } = examine(withName(object, metadata), scene);
  const errors = problems.filter(({ severity }) => severity === "error").map(formatProblem);
  const warnings = problems.filter(({ severity }) => severity === "warning").map(formatProblem);
  const isUntouched = operation === "UPDATE" && oldObject !== undefined && isSameContent(oldObject, object);
  const known = isUntouched ? new Set(errorsOf(oldObject, scene)) : new Set<string>();
  const mistakes = errors.filter((line) => !known.has(line));
  if (mistakes.length > 0) return { mistakes, warnings };
  return pass([...errors.map((line) => `not in force: ${line}`), ...warnings, ...beyond]);
}

export interface Findings {
  /** What the object's own text shows. With an error among them it does not take force. */
  readonly problems: readonly Problem[];
  /** What only its surroundings show: never a reason to refuse it. */
  readonly beyond: readonly string[];
}

/** Everything that is to be said of an object; nothing of one that is not for this control plane. */
export function examine(object: unknown, scene: Scene): Findings {
  if (!isOurs(recordOf(object), scene)) return { problems: [], beyond: [] };
  const { problems } = checkObject(object);
  if (hasErrors(problems)) return { problems, beyond: [] };
  try {
    const candidate = readCandidate(object as KubeObject);
    return { problems, beyond: candidate === undefined ? [] : worldWarnings(candidate, scene, problems) };
  } catch (thrown) {
    if (!(thrown instanceof ShapeError)) throw thrown;
    // Its message begins with the place.
    const shape: Problem = { severity: "error", path: [], message: thrown.message, remedy: "" };
    return { problems: [...problems, shape], beyond: [] };
  }
}

type Plain = Readonly<Record<string, unknown>>;

const recordOf = (value: unknown): Plain =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Plain) : {};

/** Its name may be chosen later, when the object is stored. */
function withName(object: Plain, metadata: Plain): Plain {
  if (metadata["name"] !== undefined || typeof metadata["generateName"] !== "string") return object;
  const { generateName } = metadata;
  return { ...object, metadata: { ...metadata, name: `${generateName.slice(0, 58)}x` } };
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

const errorsOf = (object: Plain, scene: Scene): readonly string[] =>
  examine(object, scene)
    .problems.filter(({ severity }) => severity === "error")
    .map(formatProblem);
