import { z } from "zod";
import type { Field } from "./field.ts";
import { age, gatewayKind, type KindDefinition } from "./kind.ts";
import { anything, checkUnique, filled, port } from "./scalars.ts";

/** Names of listeners and ports, and host names of routes. */
const sectionName = z.string().min(1).max(253);

const selector = z.strictObject({
  matchLabels: z.record(z.string(), z.string()).optional().describe("Labels that they must have, all of them"),
  matchExpressions: z
    .array(
      z.strictObject({
        key: filled.describe("Name of the label"),
        operator: z
          .enum(["In", "NotIn", "Exists", "DoesNotExist"])
          .describe("In and NotIn compare with values, the others ask whether there is such a label"),
        values: z.array(z.string()).optional().describe("Values for In and NotIn"),
      }),
    )
    .optional()
    .describe("What labels must be, all of it"),
});

const listener = z.strictObject({
  name: sectionName.describe("Name of the listener, unique in the gateway"),
  hostname: z
    .string()
    .min(1)
    .max(253)
    .optional()
    .describe("Host whose requests it takes, for a gateway; without effect at a waypoint"),
  port: port.describe("Port that it listens on; 15008 for a waypoint"),
  protocol: z.string().min(1).max(255).describe("HBONE for a waypoint; HTTP, HTTPS, TLS, TCP or UDP for a gateway"),
  tls: anything.optional().describe("TLS of a gateway's listener; without effect at a waypoint"),
  allowedRoutes: z
    .strictObject({
      namespaces: z
        .strictObject({
          from: z
            .enum(["All", "Selector", "Same", "None"])
            .optional()
            .default("Same")
            .describe("All namespaces, those that selector says, the Same as the gateway (if not written), or None"),
          selector: selector.optional().describe("Namespaces for from: Selector, by labels"),
        })
        .optional()
        .describe("Whose objects may use it: the namespaces that may bind to a waypoint"),
      kinds: z
        .array(
          z.strictObject({
            group: z.string().optional().describe("API group of the kind; that of Gateway API if not written"),
            kind: filled.describe("Kind of route"),
          }),
        )
        .max(8)
        .optional()
        .describe("Kinds of routes, for a gateway; without effect at a waypoint"),
    })
    .optional()
    .describe("Who may use the listener"),
});

const gatewaySpec = z
  .strictObject({
    gatewayClassName: z
      .string()
      .min(1)
      .max(253)
      .describe("istio-waypoint (or ambit-waypoint) for a waypoint; gateways of other classes are run by others"),
    listeners: z
      .array(listener)
      .min(1)
      .max(64)
      .describe("What it listens on: one listener with port 15008 and protocol HBONE for a waypoint"),
    addresses: z
      .array(
        z.strictObject({
          type: z
            .string()
            .max(253)
            .optional()
            .default("IPAddress")
            .describe("IPAddress (if not written), or Hostname for a Service that is there already"),
          value: z.string().max(253).optional().describe("The address, or the name of the Service"),
        }),
      )
      .max(16)
      .optional()
      .describe("Where it is reached; with a Hostname the mesh starts no waypoint, for somebody else runs it"),
    infrastructure: z
      .strictObject({
        labels: z
          .record(z.string(), z.string())
          .optional()
          .describe("Labels of what is made; those of the Gateway if not written"),
        annotations: z
          .record(z.string(), z.string())
          .optional()
          .describe("Annotations of what is made; those of the Gateway if not written"),
        parametersRef: z
          .strictObject({
            group: z.string().describe("Empty, for a ConfigMap"),
            kind: filled.describe("ConfigMap"),
            name: filled.describe("Name of the ConfigMap, in the namespace of the Gateway"),
          })
          .optional()
          .describe("A ConfigMap with changes to what is made, such as its Deployment"),
      })
      .optional()
      .describe("Labels, annotations and parameters of what is made for the gateway"),
    allowedListeners: anything.optional().describe("Whose listeners may join a gateway; without effect at a waypoint"),
    backendTLS: anything
      .optional()
      .describe("Certificate that a gateway shows to backends; without effect at a waypoint"),
    tls: anything.optional().describe("TLS of a gateway as a whole; without effect at a waypoint"),
    defaultScope: z
      .string()
      .optional()
      .describe("Which routes without parents a gateway takes; without effect at a waypoint"),
  })
  .describe("Its class, and what it listens on");

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
  spec: z
    .strictObject({
      controllerName: z
        .string()
        .min(1)
        .max(253)
        .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$/, {
          error: "a controller name: write it as example.com/controller",
        })
        .describe("Who makes gateways of the class; istio.io/mesh-controller for waypoints"),
      parametersRef: z
        .strictObject({
          group: z.string().describe("API group of the object; empty for kinds of Kubernetes itself"),
          kind: filled.describe("Its kind"),
          name: filled.describe("Its name"),
          namespace: z.string().optional().describe("Its namespace, if it is in one"),
        })
        .optional()
        .describe(
          "Settings of all gateways of the class; without effect for waypoints, write infrastructure in the Gateway",
        ),
      description: z.string().max(64).optional().describe("What the class is for, in words"),
    })
    .describe("The class, and who makes its gateways"),
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
  spec: z
    .strictObject({
      from: z
        .array(
          z.strictObject({
            group: z.string().max(253).describe("API group of the objects; gateway.networking.k8s.io for routes"),
            kind: z.string().min(1).max(63).describe("Their kind, such as HTTPRoute"),
            namespace: z.string().min(1).max(63).describe("Their namespace"),
          }),
        )
        .min(1)
        .max(16)
        .describe("Whose references are allowed: any of them"),
      to: z
        .array(
          z.strictObject({
            group: z.string().max(253).describe("API group of the objects; empty for a Service"),
            kind: z.string().min(1).max(63).describe("Their kind, such as Service"),
            name: z.string().min(1).max(253).optional().describe("The name of one of them; all if not written"),
          }),
        )
        .min(1)
        .max(16)
        .describe("What of this namespace they may name: any of them"),
    })
    .describe("Which references into this namespace are allowed"),
  check: () => undefined,
};
