import { resources } from "../kinds.ts";
import { startController, type Controller, type ControllerContext } from "./controller.ts";

/** Gives every namespace its `default` service account and the API server's root certificate. */
export function startNamespaceDefaults(context: ControllerContext, rootCertificate: string): Controller {
  const { store } = context;
  const data = { "ca.crt": rootCertificate };

  const reconcile = (_: string, namespace: string): void => {
    const home = store.get(resources.namespaces, undefined, namespace);
    if (home === undefined || home.metadata.deletionTimestamp !== undefined) return;
    if (store.get(resources.serviceAccounts, namespace, "default") === undefined) {
      store.create(resources.serviceAccounts, {
        apiVersion: "v1",
        kind: "ServiceAccount",
        metadata: { namespace, name: "default" },
      });
    }
    const certificate = store.get(resources.configMaps, namespace, "kube-root-ca.crt");
    if (certificate === undefined) {
      store.create(resources.configMaps, {
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { namespace, name: "kube-root-ca.crt" },
        data,
      });
    } else store.update(resources.configMaps, { ...certificate, data });
  };

  const home = ({ metadata }: { metadata: { namespace?: string } }) => [["", metadata.namespace ?? ""]] as const;
  return startController(context, {
    name: "namespace-defaults",
    reconcile,
    watches: [
      { id: resources.namespaces, concerns: ({ metadata }) => [["", metadata.name]] },
      { id: resources.serviceAccounts, concerns: (object) => (object.metadata.name === "default" ? home(object) : []) },
      {
        id: resources.configMaps,
        concerns: (object) => (object.metadata.name === "kube-root-ca.crt" ? home(object) : []),
      },
    ],
  });
}
