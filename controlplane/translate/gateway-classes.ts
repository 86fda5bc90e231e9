/** The GatewayClasses of the mesh. They exist as soon as a control plane has started, written by a user or not. */
import type { Gateway, GatewayClass } from "#controlplane/mesh/objects.ts";
import type { StatusUpdate } from "./status.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";

export const meshController = "istio.io/mesh-controller";
export const eastWestController = "istio.io/eastwest-controller";
export const unmanagedController = "istio.io/unmanaged-gateway";

const builtIn: ReadonlyMap<string, string> = new Map([
  ["istio", "istio.io/gateway-controller"],
  ["istio-waypoint", meshController],
  ["ambit-waypoint", meshController],
  ["istio-remote", unmanagedController],
  ["istio-east-west", eastWestController],
]);

/** The classes that a control plane makes because nobody has: those whose Gateways it takes care of. */
export function missingClasses(
  world: WorldView,
): readonly { readonly name: string; readonly controllerName: string }[] {
  return [...builtIn]
    .filter(([name, controller]) => isHandled(controller) && gatewayClass(world, name) === undefined)
    .map(([name, controllerName]) => ({ name, controllerName }));
}

/** It runs no ingress and no east-west gateways. */
const isHandled = (controller: string): boolean => controller === meshController || controller === unmanagedController;

/** Value of the label `gateway.istio.io/managed` on what is made for waypoints and east-west gateways. */
export const waypointManagedValues: readonly string[] = [meshController, eastWestController].map((controller) =>
  controller.replace("/", "-"),
);

/** The one on what this control plane makes. */
export const waypointManagedValue = meshController.replace("/", "-");

export function gatewayClass(world: WorldView, name: string): GatewayClass | undefined {
  return world.get("GatewayClass", "", name);
}

/** What is said of classes whose Gateways this control plane takes care of. */
export function classUpdates(world: WorldView): readonly StatusUpdate[] {
  return world
    .all("GatewayClass")
    .filter(({ controllerName }) => isHandled(controllerName))
    .map(({ meta: { name, generation: observedGeneration } }) => ({
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "GatewayClass",
      namespace: "",
      name,
      fieldManager: "istio.io/gateway-controller",
      ownedConditions: ["Accepted"],
      status: {
        conditions: [
          {
            type: "Accepted",
            status: "True",
            reason: "Accepted",
            message: "Gateways of this class are taken care of by the mesh",
            observedGeneration,
          },
        ],
      },
    }));
}

/** Controller of a class; undefined where there is no such class. */
export function controllerOfClass(world: WorldView, className: string): string | undefined {
  return gatewayClass(world, className)?.controllerName ?? builtIn.get(className);
}

/** Whether this control plane, or Istio's, takes care of Gateways with such a controller. */
export const isOurController = (controller: string | undefined): boolean =>
  controller !== undefined && [...builtIn.values()].includes(controller);

export function controllerOf(world: WorldView, gateway: Gateway): string | undefined {
  return controllerOfClass(world, gateway.className);
}
