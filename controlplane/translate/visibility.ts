/** Who may see a ServiceEntry, by the mesh configuration and the labels of its namespace. */
import { matchesSelector } from "#controlplane/mesh/label-selector.ts";
import type { MeshConfig, Visibility } from "#controlplane/mesh/mesh-config.ts";
import type { Labels } from "#controlplane/mesh/objects.ts";

export function entryVisibility(mesh: MeshConfig, namespaceLabels: Labels): Visibility {
  const rules = mesh.serviceEntryVisibility;
  if (rules === undefined) return "PUBLIC";
  const policy = rules.policies.find(({ namespaces }) =>
    namespaces.every((selector) => matchesSelector(selector, namespaceLabels)),
  );
  return policy?.visibility ?? rules.defaultVisibility;
}
