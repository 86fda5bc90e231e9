import { readIfThere } from "#shared/config/read-if-there.ts";
import { inNamespace } from "./netns-sockets.ts";

/** Whether `::1` is there to listen on, in a network namespace (undefined: our own). */
export const hasLoopbackIpv6 = (netnsFd: number | undefined): boolean =>
  inNamespace(netnsFd, () => readIfThere("/proc/sys/net/ipv6/conf/lo/disable_ipv6")?.trim() === "0");
