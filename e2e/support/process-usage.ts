/**
 * Run inside a pod: what its processes use. `node e2e/support/process-usage.ts <text of the command line>` prints JSON of
 * the form {@link ProcessUsage}, summed over the processes whose command line holds the text, itself left out.
 */
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";

export interface ProcessUsage {
  readonly processes: number;
  readonly rssKib: number;
  /** User and system time since their start. */
  readonly cpuMs: number;
  readonly openFiles: number;
}

/** `sysconf(_SC_CLK_TCK)`, 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

function usageOf(needle: string): ProcessUsage {
  const total = { processes: 0, rssKib: 0, cpuMs: 0, openFiles: 0 };
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/u.test(name) && name !== String(process.pid))) {
    try {
      const commandLine = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      if (!commandLine.includes(needle) || commandLine.includes("process-usage")) continue;
      const afterName = readFileSync(`/proc/${pid}/stat`, "utf8")
        .replace(/^.*\) /su, "")
        .split(" ");
      const rss = /VmRSS:\s+(\d+)/u.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
      total.processes++;
      total.rssKib += Number(rss ?? 0);
      total.cpuMs += ((Number(afterName[11]) + Number(afterName[12])) * 1_000) / ticksPerSecond;
      total.openFiles += readdirSync(`/proc/${pid}/fd`).length;
    } catch {
      // It ended while we looked.
    }
  }
  return total;
}

if (import.meta.main) console.log(JSON.stringify(usageOf(process.argv[2] ?? "")));
