/** Hosts as routes and rules name them. */

/** A name without a dot means a service of the object's own namespace. */
export const fullHost = (host: string, namespace: string, domain: string): string =>
  host.includes(".") || host.startsWith("*") ? host : `${host}.${namespace}.svc.${domain}`;

export const isWildcardHost = (host: string): boolean => host.startsWith("*");

/** Whether a pattern, which may begin with `*`, covers a host, which may be a pattern itself. */
export function hostCovers(pattern: string, host: string): boolean {
  if (!isWildcardHost(pattern)) return pattern === host;
  return (isWildcardHost(host) ? host.slice(1) : host).endsWith(pattern.slice(1));
}
