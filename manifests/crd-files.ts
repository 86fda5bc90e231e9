import { format } from "prettier";
import { stringify } from "yaml";
import { toCrd } from "#controlplane/schema/crd.ts";
import { configKinds } from "#controlplane/schema/kinds.ts";

const header = "# Generated from controlplane/schema by manifests/generate-crds.ts. Edit there.\n";

/** The files of manifests/crds by name, with their text. */
export async function crdFiles(): Promise<ReadonlyMap<string, string>> {
  const files = new Map<string, string>();
  for (const definition of configKinds) {
    const text = stringify(toCrd(definition), { lineWidth: 0, aliasDuplicateObjects: false });
    files.set(`${definition.group}_${definition.plural}.yaml`, await pretty(header + text));
  }
  const resources = [...files.keys()].toSorted().map((name) => `  - ${name}\n`);
  const kustomization = `apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n${resources.join("")}`;
  files.set("kustomization.yaml", await pretty(header + kustomization));
  return files;
}

const pretty = (text: string): Promise<string> => format(text, { parser: "yaml", printWidth: 120 });
