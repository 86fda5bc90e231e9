import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readAuthority, type Authority, type NamedText } from "./authority.ts";

/** The two sets of names under which operators bring their own CA: Istio's, and those of a TLS Secret. */
const istioNames = { certificate: "ca-cert.pem", key: "ca-key.pem", chain: "cert-chain.pem", roots: "root-cert.pem" };
const tlsNames = { certificate: "tls.crt", key: "tls.key", chain: undefined, roots: "ca.crt" };
export const crlName = "ca-crl.pem";

/** The operator's CA and the texts it was read from, by which a change is seen. */
export interface PluggedIn {
  readonly authority: Authority;
  readonly fingerprint: string;
}

/**
 * Reads the operator's CA, usually mounted from Secret `cacerts`; undefined where the folder holds none.
 *
 * @throws MeshError CONFIG_INVALID naming the file that is missing or wrong
 */
export async function readPluggedIn(directory: string): Promise<PluggedIn | undefined> {
  const read = async (name: string): Promise<NamedText | undefined> => {
    const path = join(directory, name);
    try {
      return { name: path, text: await readFile(path, "utf8") };
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" || code === "ENOTDIR") return undefined;
      throw error;
    }
  };
  for (const names of [istioNames, tlsNames]) {
    const certificate = await read(names.certificate);
    if (certificate === undefined) continue;
    const absent = (name: string): NamedText => ({ name: join(directory, name), text: "" });
    const key = (await read(names.key)) ?? absent(names.key);
    const roots = (await read(names.roots)) ?? absent(names.roots);
    const chain = names.chain === undefined ? undefined : await read(names.chain);
    const crl = await read(crlName);
    const authority = await readAuthority({
      certificate,
      key,
      roots,
      ...(chain === undefined ? {} : { chain }),
      ...(crl === undefined ? {} : { crl }),
    });
    return { authority, fingerprint: [certificate, key, roots, chain, crl].map((file) => file?.text ?? "").join("\0") };
  }
  return undefined;
}

/**
 * Whether new roots may replace old ones while workloads run: the same ones always; others only where the operator
 * allows several roots and one bundle holds the other, so that nobody is left who trusts only what is gone.
 */
export function mayReplaceRoots(
  before: readonly string[],
  after: readonly string[],
  { severalRoots }: { readonly severalRoots: boolean },
): boolean {
  const isSubset = (part: readonly string[], whole: readonly string[]) => part.every((root) => whole.includes(root));
  const [grows, shrinks] = [isSubset(before, after), isSubset(after, before)];
  return (grows && shrinks) || (severalRoots && (grows || shrinks));
}
