/** Gateways and their classes. */
import type { Field } from "./field.ts";
import { readLabelSelector } from "./label-selector.ts";
import type { Gateway, GatewayAddress, GatewayClass, GatewayListener } from "./objects.ts";
import { readConditions, readMeta, readTargetRef, textMapAt } from "./read-meta.ts";

function readListener(listener: Field): GatewayListener {
  const namespaces = listener.at("allowedRoutes").at("namespaces");
  return {
    name: listener.at("name").text(),
    port: listener.at("port").port(),
    protocol: listener.at("protocol").text(),
    hostname: listener.at("hostname").text(),
    allowedFrom: namespaces.at("from").text(),
    allowedSelector: readLabelSelector(namespaces.at("selector")),
  };
}

function readAddress(address: Field): GatewayAddress {
  return { type: address.at("type").text("IPAddress"), value: address.at("value").text() };
}

export function readGateway(object: Field): Gateway {
  const spec = object.at("spec");
  const infrastructure = spec.at("infrastructure");
  const parameters = infrastructure.at("parametersRef");
  return {
    meta: readMeta(object),
    className: spec.at("gatewayClassName").text(),
    listeners: spec.at("listeners").list().map(readListener),
    requestedAddresses: spec.at("addresses").list().map(readAddress),
    parametersRef: parameters.isPresent ? readTargetRef(parameters) : undefined,
    infrastructure: infrastructure.isPresent
      ? { labels: textMapAt(infrastructure, "labels"), annotations: textMapAt(infrastructure, "annotations") }
      : undefined,
    addresses: object.at("status").at("addresses").list().map(readAddress),
    conditions: readConditions(object),
  };
}

export function readGatewayClass(object: Field): GatewayClass {
  return { meta: readMeta(object), controllerName: object.at("spec").at("controllerName").text() };
}
