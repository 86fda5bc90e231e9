/**
 * Stands for a program that is none of ours: `node e2e/support/recorded.ts <program> <arguments>` prints what it was given
 * to start with as one line of JSON, then becomes the program, in the same process and with the same environment.
 */
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import process from "node:process";

export interface StartRecord {
  readonly environment: Readonly<Record<string, string>>;
  readonly arguments: readonly string[];
  readonly workingFolder: string;
  readonly pid: number;
  readonly networkNamespace: string;
  readonly addresses: readonly string[];
  /** Names as `capsh` has them are for people; this is the mask of `/proc/self/status`. */
  readonly capabilities: string;
  /** The files that Istio's own programs look for, relative to where they start. */
  readonly files: {
    /** Claims of the token for the control plane. */
    readonly istioToken: Readonly<Record<string, unknown>> | undefined;
    readonly rootCertificate: string | undefined;
    readonly socketFolder: readonly string[] | undefined;
    /** Claims of the token for the API server. */
    readonly apiToken: Readonly<Record<string, unknown>> | undefined;
  };
}

const marker = "recorded start: ";

/** The record in a program's log. */
export function recordIn(log: string): StartRecord {
  const line = log.split("\n").find((each) => each.startsWith(marker));
  if (line === undefined) throw new Error(`The program recorded nothing; its log starts with: ${log.slice(0, 500)}`);
  return JSON.parse(line.slice(marker.length)) as StartRecord;
}

const ifThere = <T>(read: () => T): T | undefined => {
  try {
    return read();
  } catch {
    return undefined;
  }
};

const claimsIn = (path: string) =>
  ifThere(() => {
    const payload = readFileSync(path, "utf8").split(".")[1] ?? "";
    return JSON.parse(Buffer.from(payload, "base64url").toString("utf8")) as Readonly<Record<string, unknown>>;
  });

function record(args: readonly string[]): StartRecord {
  return {
    environment: process.env as Record<string, string>,
    arguments: args,
    workingFolder: process.cwd(),
    pid: process.pid,
    networkNamespace: readlinkSync("/proc/self/ns/net"),
    addresses: Object.values(networkInterfaces()).flatMap((all = []) => all.map(({ address }) => address)),
    capabilities: /CapEff:\s+([0-9a-f]+)/u.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "",
    files: {
      istioToken: claimsIn("./var/run/secrets/tokens/istio-token"),
      rootCertificate: ifThere(() => readFileSync("./var/run/secrets/istio/root-cert.pem", "utf8")),
      socketFolder: ifThere(() => readdirSync("/var/run/ztunnel")),
      apiToken: claimsIn("/var/run/secrets/kubernetes.io/serviceaccount/token"),
    },
  };
}

if (import.meta.main) {
  const [program = "", ...args] = process.argv.slice(2);
  // The whole line before the process changes: a stream could still hold some of it.
  writeFileSync(1, `${marker}${JSON.stringify(record(args))}\n`);
  process.execve?.(process.execPath, [process.execPath, program, ...args], process.env);
}
