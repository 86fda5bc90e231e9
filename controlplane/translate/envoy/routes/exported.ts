/** Who may see an object of Istio's: `.` means its own namespace, `*` everyone; nothing written, the mesh's default. */
export function isExportedTo(
  reader: string,
  object: { readonly exportTo: readonly string[]; readonly meta: { readonly namespace: string } },
  meshDefault: readonly string[],
): boolean {
  const { exportTo, meta } = object;
  const names = exportTo.length > 0 ? exportTo : meshDefault;
  return names.some((name) => name === "*" || (name === "." ? meta.namespace : name) === reader);
}
