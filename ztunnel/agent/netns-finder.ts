/**
 * Finds the network namespace of a pod on this node without asking the container runtime: by a process whose cgroup
 * carries the pod's uid, else among all namespaces that processes are in or that are kept by name, by the pod's
 * address. Either way the address must be on an interface in it: a wrong namespace would hand one pod's traffic to
 * another's identity.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Ip } from "#shared/net/ip.ts";
import { openNamespace, type NetworkNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import { addressesIn } from "./namespace-addresses.ts";

export interface NamespaceDirs {
  /** The host's /proc. */
  readonly proc: string;
  /** Where named namespaces are kept, such as /var/run/netns; may be missing. */
  readonly netns: string;
}

/** What a cgroup path says of its pod: `pod<uid>`, with dashes, or underscores under systemd. */
const cgroupPod = /pod([0-9a-f]{8}([-_])[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{12})/;

/** The pod's uid in the text of `/proc/<pid>/cgroup`, with dashes. */
export function podUidOf(cgroup: string): string | undefined {
  return cgroupPod.exec(cgroup)?.[1]?.replaceAll("_", "-");
}

/** One look around: which namespaces there are, and which pods' processes are in them. */
interface Survey {
  readonly atMs: number;
  readonly byUid: ReadonlyMap<string, readonly string[]>;
  readonly everywhere: readonly string[];
}

/** Many pods enrolled at once share a survey this young. */
const surveyMaxAgeMs = 200;

export class NamespaceFinder {
  readonly #dirs: NamespaceDirs;
  readonly #own: string;
  readonly #now: () => number;
  #survey: Survey | undefined;

  constructor(dirs: NamespaceDirs, now: () => number = Date.now) {
    this.#dirs = dirs;
    this.#now = now;
    using own = openNamespace("/proc/self/ns/net");
    this.#own = own.identity;
  }

  /** The caller closes it. Undefined where none holds all of `ips`. */
  find(uid: string, ips: readonly Ip[]): NetworkNamespace | undefined {
    if (ips.length === 0) return undefined;
    return this.#findIn(this.#recentSurvey(), uid, ips) ?? this.#findIn(this.#look(), uid, ips);
  }

  #findIn(survey: Survey, uid: string, ips: readonly Ip[]): NetworkNamespace | undefined {
    const paths = [...(survey.byUid.get(uid) ?? []), ...survey.everywhere];
    for (const path of paths) {
      const found = this.#openIfItHolds(path, ips);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #openIfItHolds(path: string, ips: readonly Ip[]): NetworkNamespace | undefined {
    let namespace: NetworkNamespace;
    try {
      namespace = openNamespace(path);
    } catch {
      return undefined; // its process has just ended
    }
    try {
      const held = namespace.identity === this.#own ? [] : addressesIn(namespace.fd);
      if (ips.every((ip) => held.includes(ip))) return namespace;
    } catch {
      // Not a network namespace, or one we may not enter: somebody else's.
    }
    namespace.close();
    return undefined;
  }

  #recentSurvey(): Survey {
    const survey = this.#survey;
    return survey !== undefined && this.#now() - survey.atMs < surveyMaxAgeMs ? survey : this.#look();
  }

  #look(): Survey {
    const byUid = new Map<string, string[]>();
    const everywhere = new Map<string, string>();
    for (const file of namesIn(this.#dirs.netns)) {
      const path = join(this.#dirs.netns, file);
      const identity = identityOf(path);
      if (identity !== undefined) everywhere.set(identity, path);
    }
    for (const pid of namesIn(this.#dirs.proc)) {
      if (!/^\d+$/.test(pid)) continue;
      const path = join(this.#dirs.proc, pid, "ns/net");
      const identity = identityOf(path);
      if (identity === undefined || identity === this.#own) continue;
      if (!everywhere.has(identity)) everywhere.set(identity, path);
      const uid = podUidOf(textOf(join(this.#dirs.proc, pid, "cgroup")));
      if (uid !== undefined) byUid.set(uid, [...(byUid.get(uid) ?? []), path]);
    }
    this.#survey = { atMs: this.#now(), byUid, everywhere: [...everywhere.values()] };
    return this.#survey;
  }
}

function namesIn(dir: string): readonly string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

function identityOf(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
