/** Who may call, and how callers prove who they are. */
import { ShapeError, type Field } from "./field.ts";
import type {
  Attributes,
  AuthorizationPolicy,
  AuthorizationRule,
  MtlsMode,
  PeerAuthentication,
  RequestAuthentication,
} from "./objects.ts";
import { readConditions, readMeta, readSelector, readTargetRefs } from "./read-meta.ts";
import { readJwtRule } from "./request-authentication.ts";

function readAttributes(object: Field): Attributes {
  return new Map(
    object
      .entries()
      .map(([name, values]) => [name, values.texts()] as const)
      .filter(([, values]) => values.length > 0),
  );
}

function readRule(rule: Field): AuthorizationRule {
  return {
    from: rule
      .at("from")
      .list()
      .map((from) => readAttributes(from.at("source"))),
    to: rule
      .at("to")
      .list()
      .map((to) => readAttributes(to.at("operation"))),
    when: rule
      .at("when")
      .list()
      .map((when) => ({
        key: when.at("key").text(),
        values: when.at("values").texts(),
        notValues: when.at("notValues").texts(),
      })),
  };
}

export function readAuthorizationPolicy(object: Field): AuthorizationPolicy {
  const spec = object.at("spec");
  return {
    meta: readMeta(object),
    selector: readSelector(spec),
    targetRefs: readTargetRefs(spec),
    action: spec.at("action").text("ALLOW"),
    provider: spec.at("provider").at("name").text(),
    rules: spec.at("rules").list().map(readRule),
    conditions: readConditions(object),
  };
}

export function readRequestAuthentication(object: Field): RequestAuthentication {
  const spec = object.at("spec");
  return {
    meta: readMeta(object),
    selector: readSelector(spec),
    targetRefs: readTargetRefs(spec),
    rules: spec.at("jwtRules").list().map(readJwtRule),
    conditions: readConditions(object),
  };
}

const modes: readonly MtlsMode[] = ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"];

function readMode(mtls: Field): MtlsMode {
  const text = mtls.at("mode").text("UNSET");
  const mode = modes.find((each) => each === text);
  if (mode === undefined) throw new ShapeError(`${mtls.path}.mode`, `one of ${modes.join(", ")}`, text);
  return mode;
}

export function readPeerAuthentication(object: Field): PeerAuthentication {
  const spec = object.at("spec");
  return {
    meta: readMeta(object),
    selector: readSelector(spec),
    mode: readMode(spec.at("mtls")),
    ports: new Map(
      spec
        .at("portLevelMtls")
        .entries()
        .map(([port, mtls]) => {
          if (!/^\d{1,5}$/.test(port)) throw new ShapeError(mtls.path, "a port number as key", port);
          return [Number(port), readMode(mtls)];
        }),
    ),
  };
}
