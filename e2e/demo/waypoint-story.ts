/** The second half of the demo: a waypoint, and what it does with requests. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Cluster, PodName } from "#e2e/support/cluster.ts";
import { waypointReady } from "#e2e/support/web-mesh.ts";
import { podOf, samples, type Stage } from "./stage.ts";

const reviews = "http://reviews:8080/reviews/978-0";
const catalog = "http://catalog:8080/books";

export async function tellWaypointStory(stage: Stage): Promise<void> {
  await putAWaypointInFront(stage);
  await tryANewVersion(stage);
  await injectFaults(stage);
  await limitEachCaller(stage);
  await askForTokens(stage);
}

async function putAWaypointInFront(stage: Stage): Promise<void> {
  const { story, cluster, kubectl } = stage;
  story.chapter("A waypoint: from here on the mesh understands HTTP");
  await apply(stage, "routing/waypoint");
  story.command(`${kubectl} label namespace bookshop istio.io/use-waypoint=waypoint`);
  await cluster.labelNamespace("bookshop", { "istio.io/use-waypoint": "waypoint" });
  await waypointReady(cluster, "bookshop");
  const frontend = await podOf(cluster, "frontend");
  await cluster.until("reviews to answer through the waypoint", async () => {
    const [answer] = await ask(cluster, frontend, reviews, { count: 1 });
    return answer?.status === 200 && answer.headers["server"] === "istio-envoy";
  });
  const [pod] = await cluster.pods("bookshop", "gateway.networking.k8s.io/gateway-name=waypoint");
  story.proof(`the control plane started ${pod?.metadata?.name ?? ""}; frontend's requests pass it, in tunnels`);
}

async function tryANewVersion(stage: Stage): Promise<void> {
  const { story, cluster } = stage;
  story.chapter("A canary: a second version of reviews, for testers only");
  await apply(stage, "routing/reviews-v2", { quiet: true });
  await apply(stage, "routing/canary-by-header");
  const frontend = await podOf(cluster, "frontend");
  const versions = async (headers: Readonly<Record<string, string>>): Promise<string> => {
    const answers = await ask(cluster, frontend, reviews, { count: 10, headers });
    return [...new Set(answers.map((each) => each.headers["x-reviews"] ?? `status ${each.status}`))].join();
  };
  await cluster.until("testers to get v2", async () => (await versions({ "x-canary": "yes" })) === "v2");
  if ((await versions({})) !== "v1") throw new Error("Others than testers got something else than v1");
  story.proof("ten requests with x-canary: yes are answered by v2, ten without by v1");
}

async function injectFaults(stage: Stage): Promise<void> {
  const { story, cluster } = stage;
  story.chapter("Faults, on purpose: how does the frontend bear a slow and flaky neighbour?");
  await apply(stage, "routing/fault");
  const frontend = await podOf(cluster, "frontend");
  const sample = await cluster.until("slow and failed answers", async () => {
    const answers = await ask(cluster, frontend, reviews, { count: 60, parallel: true });
    const slow = answers.filter(({ ms }) => ms >= 1_900).length;
    const failed = answers.filter(({ status }) => status === 503).length;
    return slow > 10 && failed > 0 ? { slow, failed } : undefined;
  });
  story.proof(
    `of 60 requests ${sample.slow} waited two seconds and ${sample.failed} failed with 503; no server knows of it`,
  );
  await cluster.delete("networking.istio.io/v1", "VirtualService", "reviews", "bookshop");
}

async function limitEachCaller(stage: Stage): Promise<void> {
  const { story, cluster } = stage;
  story.chapter("A rate limit, by who calls");
  await apply(stage, "limits/catalog-per-caller");
  const frontend = await podOf(cluster, "frontend");
  const answers = await cluster.until("the limit", async () => {
    const found = await ask(cluster, frontend, catalog, { count: 8 });
    return found.some(({ status }) => status === 429) ? found : undefined;
  });
  const limited = answers.filter(({ status }) => status === 429);
  const wait = limited[0]?.headers["retry-after"] ?? "";
  story.proof(`of 8 requests in a row ${limited.length} are answered 429, to come again in ${wait} s`);
  await cluster.delete("policy.ambit.dev/v1alpha1", "RateLimitPolicy", "catalog", "bookshop");
}

async function askForTokens(stage: Stage): Promise<void> {
  const { story, cluster, root, kubectl } = stage;
  story.chapter("Members only: tokens decide");
  await apply(stage, "tokens/members-only");
  const frontend = await podOf(cluster, "frontend");
  const status = async (token: string | undefined): Promise<number> => {
    const headers: Record<string, string> = {};
    if (token !== undefined) {
      const text = readFileSync(join(root, samples, "tokens", `${token}.jwt`), "utf8").trim();
      headers["authorization"] = `Bearer ${text}`;
    }
    const [answer] = await ask(cluster, frontend, reviews, { count: 1, headers });
    return answer?.status ?? 0;
  };
  await cluster.until("who has no token to be refused", async () => (await status(undefined)) === 403);
  const [member, expired] = [await status("member"), await status("expired")];
  if (member !== 200 || expired !== 401) throw new Error(`member got ${member}, the expired token ${expired}`);
  story.proof("without a token 403, with a member's token 200, with an expired one 401");
  story.command(`${kubectl} delete -n bookshop requestauthentication/members authorizationpolicy/members-only`);
  await cluster.delete("security.istio.io/v1", "AuthorizationPolicy", "members-only", "bookshop");
  await cluster.delete("security.istio.io/v1", "RequestAuthentication", "members", "bookshop");
}

/** Applies a sample, and shows it without its comments. */
async function apply(
  { story, cluster, root, kubectl }: Stage,
  name: string,
  { quiet = false }: { readonly quiet?: boolean } = {},
): Promise<void> {
  const file = `${samples}/${name}.yaml`;
  story.command(`${kubectl} apply -f ${file}`);
  const text = readFileSync(join(root, file), "utf8");
  if (!quiet) {
    const lines = text.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("#"));
    for (const line of lines) story.say(`    ${line.length > 110 ? `${line.slice(0, 107)}…` : line}`);
  }
  await cluster.apply(text);
}

interface Answer {
  readonly status: number;
  readonly ms: number;
  readonly headers: Readonly<Record<string, string>>;
}

/** Requests from inside a pod, one after the other unless `parallel`. */
async function ask(
  cluster: Cluster,
  pod: PodName,
  url: string,
  {
    count,
    headers = {},
    parallel = false,
  }: { readonly count: number; readonly headers?: Readonly<Record<string, string>>; readonly parallel?: boolean },
): Promise<readonly Answer[]> {
  const script = `
    const one = async () => {
      const startedMs = Date.now();
      try {
        const answer = await fetch(${JSON.stringify(url)}, { headers: ${JSON.stringify(headers)} });
        await answer.text();
        return { status: answer.status, ms: Date.now() - startedMs, headers: Object.fromEntries(answer.headers) };
      } catch (error) { return { status: 0, ms: Date.now() - startedMs, headers: { error: String(error) } }; }
    };
    (async () => {
      const answers = [];
      if (${parallel}) answers.push(...(await Promise.all(Array.from({ length: ${count} }, one))));
      else for (let each = 0; each < ${count}; each++) answers.push(await one());
      console.log(JSON.stringify(answers));
    })();`;
  const { stdout, stderr } = await cluster.exec(pod, ["node", "-e", script]);
  if (stdout.trim() === "") throw new Error(`Cannot ask ${url}: ${stderr}`);
  return JSON.parse(stdout) as readonly Answer[];
}
