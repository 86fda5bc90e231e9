/** What expressions may come to, known before anything is evaluated. */

export type Type =
  | { readonly kind: "bool" | "int" | "double" | "string" | "timestamp" | "duration" | "null" }
  /** Only seen when it is there: claims, metadata. */
  | { readonly kind: "any" }
  | { readonly kind: "list"; readonly of: Type }
  | { readonly kind: "map"; readonly key: Type; readonly of: Type }
  /** Members by name, and no others. */
  | { readonly kind: "object"; readonly members: Readonly<Record<string, Type>> };

export const bool: Type = { kind: "bool" };
export const int: Type = { kind: "int" };
export const double: Type = { kind: "double" };
export const string: Type = { kind: "string" };
export const timestamp: Type = { kind: "timestamp" };
export const duration: Type = { kind: "duration" };
export const any: Type = { kind: "any" };
export const listOf = (of: Type): Type => ({ kind: "list", of });
export const mapOf = (of: Type, key: Type = string): Type => ({ kind: "map", key, of });
export const objectOf = (members: Readonly<Record<string, Type>>): Type => ({ kind: "object", members });

/** As people call it. */
export function typeName(type: Type): string {
  if (type.kind === "list" || type.kind === "map") return `${type.kind} of ${typeName(type.of)}`;
  return type.kind === "object" ? "group of attributes" : type.kind;
}

export const isNumber = ({ kind }: Type): boolean => kind === "int" || kind === "double" || kind === "any";

/** Whether a value of one can equal one of the other. Numbers of both kinds can; anything may be compared with null. */
export function areComparable(a: Type, b: Type): boolean {
  if (a.kind === "any" || b.kind === "any" || a.kind === "null" || b.kind === "null") return true;
  if (isNumber(a) && isNumber(b)) return true;
  if (a.kind === "list" && b.kind === "list") return areComparable(a.of, b.of);
  if (a.kind === "map" && b.kind === "map") return areComparable(a.of, b.of);
  return a.kind === b.kind;
}

/** The type of either; `any` where they have nothing in common. */
export function eitherOf(a: Type, b: Type): Type {
  if (a.kind === "list" && b.kind === "list") return listOf(eitherOf(a.of, b.of));
  if (a.kind === "map" && b.kind === "map") return mapOf(eitherOf(a.of, b.of), eitherOf(a.key, b.key));
  if (isNumber(a) && isNumber(b) && a.kind !== b.kind) return a.kind === "any" || b.kind === "any" ? any : double;
  return a.kind === b.kind && a.kind !== "object" ? a : any;
}
