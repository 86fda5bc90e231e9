import { z } from "zod";
import type { Field } from "./field.ts";
import { age, gatewayKind, type KindDefinition } from "./kind.ts";
import { anything, checkUnique, filled, port } from "./scalars.ts";

/** Names of listeners and ports, and host names of routes. */
const sectionName = z.string().min(1).max(253);

const selector = z.strictObject({
  matchLabels: z.record(z.string(), z.string()).optional(),
  matchExpressions: z
    .array(
      z.strictObject({
        key: filled,
        operator: z.enum(["In", "NotIn", "Exists", "DoesNotExist"]),
        values: z.array(z.string()).optional(),
      }),
    )
    .optional(),
});

const listener = z.strictObject({
  name: sectionName,
  hostname: z.string().min(1).max(253).optional(),
  port,
  protocol: z.string().min(1).max(255).describe("HBONE for a waypoint; HTTP, HTTPS, TLS, TCP or UDP for a gateway"),
  tls: anything.optional(),
  allowedRoutes: z
    .strictObject({
      namespaces: z
        .strictObject({
          from: z.enum(["All", "Selector", "Same", "None"]).optional().default("Same"),
          selector: selector.optional(),
        })
        .optional()
        .describe("Whose objects may use it: the namespaces that may bind to a waypoint"),
      kinds: z
        .array(z.strictObject({ group: z.string().optional(), kind: filled }))
        .max(8)
        .optional(),
    })
    .optional(),
});

const gatewaySpec = z.strictObject({
  gatewayClassName: z.string().min(1).max(253).describe("istio-waypoint for a waypoint"),
  listeners: z.array(listener).min(1).max(64),
  addresses: z
    .array(
      z.strictObject({
        type: z.string().max(253).optional().default("IPAddress"),
        value: z.string().max(253).optional(),
      }),
    )
    .max(16)
    .optional(),
  infrastructure: z
    .strictObject({
      labels: z.record(z.string(), z.string()).optional(),
      annotations: z.record(z.string(), z.string()).optional(),
      parametersRef: z.strictObject({ group: z.string(), kind: filled, name: filled }).optional(),
    })
    .optional()
    .describe("Labels, annotations and parameters of what is made for the gateway"),
  allowedListeners: anything.optional(),
  backendTLS: anything.optional(),
  tls: anything.optional(),
  defaultScope: z.string().optional(),
});

function checkGateway(spec: Field): void {
  const listeners = spec.at("listeners").items();
  checkUnique(listeners, (each) => each.at("name"));
  for (const each of listeners) {
    const namespaces = each.at("allowedRoutes").at("namespaces");
    if (namespaces.at("from").text === "Selector" && !namespaces.has("selector")) {
      namespaces.error('"from: Selector" needs a selector', "write which namespaces");
    }
    for (const expression of namespaces.at("selector").at("matchExpressions").items()) checkExpression(expression);
    const isWaypoint = ["istio-waypoint", "ambit-waypoint"].includes(spec.at("gatewayClassName").text ?? "");
    const protocol = each.at("protocol");
    if (isWaypoint && protocol.text !== undefined && (protocol.text !== "HBONE" || each.at("port").number !== 15_008)) {
      each.warn("is not used by a waypoint", "write port: 15008 and protocol: HBONE");
    }
  }
}

function checkExpression(expression: Field): void {
  const operator = expression.at("operator").text;
  const count = expression.at("values").items().length;
  if ((operator === "In" || operator === "NotIn") && count === 0) {
    expression.error(`operator ${operator} needs values`, "write at least one");
  }
  if ((operator === "Exists" || operator === "DoesNotExist") && count > 0) {
    expression.at("values").error(`operator ${operator} takes no values`, "leave them out");
  }
}

export const gateway: KindDefinition = {
  ...gatewayKind,
  kind: "Gateway",
  plural: "gateways",
  shortNames: ["gtw"],
  versions: ["v1", "v1beta1"],
  description: "A waypoint (class istio-waypoint), or a gateway at the edge of the mesh.",
  columns: [
    { name: "Class", type: "string", jsonPath: ".spec.gatewayClassName" },
    { name: "Address", type: "string", jsonPath: ".status.addresses[*].value" },
    { name: "Programmed", type: "string", jsonPath: '.status.conditions[?(@.type=="Programmed")].status' },
    age,
  ],
  spec: gatewaySpec,
  check: checkGateway,
};

export const gatewayClass: KindDefinition = {
  ...gatewayKind,
  kind: "GatewayClass",
  plural: "gatewayclasses",
  shortNames: ["gc"],
  versions: ["v1", "v1beta1"],
  isNamespaced: false,
  description: "A kind of gateway and the controller that makes it.",
  columns: [
    { name: "Controller", type: "string", jsonPath: ".spec.controllerName" },
    { name: "Accepted", type: "string", jsonPath: '.status.conditions[?(@.type=="Accepted")].status' },
    age,
    { name: "Description", type: "string", jsonPath: ".spec.description", priority: 1 },
  ],
  spec: z.strictObject({
    controllerName: z
      .string()
      .min(1)
      .max(253)
      .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$/, {
        error: "a controller name: write it as example.com/controller",
      }),
    parametersRef: z
      .strictObject({ group: z.string(), kind: filled, name: filled, namespace: z.string().optional() })
      .optional(),
    description: z.string().max(64).optional(),
  }),
  check: () => undefined,
};

export const referenceGrant: KindDefinition = {
  ...gatewayKind,
  kind: "ReferenceGrant",
  plural: "referencegrants",
  shortNames: ["refgrant"],
  versions: ["v1", "v1beta1"],
  hasStatus: false,
  description: "Lets objects of other namespaces refer to objects of this one.",
  columns: [age],
  spec: z.strictObject({
    from: z
      .array(
        z.strictObject({
          group: z.string().max(253),
          kind: z.string().min(1).max(63),
          namespace: z.string().min(1).max(63),
        }),
      )
      .min(1)
      .max(16),
    to: z
      .array(
        z.strictObject({
          group: z.string().max(253),
          kind: z.string().min(1).max(63),
          name: z.string().min(1).max(253).optional(),
        }),
      )
      .min(1)
      .max(16),
  }),
  check: () => undefined,
};
