/** Limits that a rate limit service counts: what it is asked for a request, and what follows from what it says. */
import { create } from "@bufbuild/protobuf";
import { explain } from "#shared/errors/mesh-error.ts";
import type { RateLimitPolicy } from "#shared/proto/gen/ambit/policy/v1alpha1/rate_limit_filter_pb.js";
import {
  RateLimitDescriptorSchema,
  type RateLimitDescriptor,
} from "#shared/proto/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";
import {
  RateLimitResponse_Code as Code,
  type RateLimitResponse,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import { RateLimitUnit as Unit } from "#shared/proto/gen/envoy/type/v3/ratelimit_unit_pb.js";
import { setHits } from "#shared/rate-limits/descriptor-hits.ts";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import type { CompiledLimit, CompiledRate, Count } from "./limit.ts";
import type { Standing } from "./policy-response.ts";
import { askService } from "./service-client.ts";

/** One window of one limit, and how it stands; undefined where the service said nothing of it. */
interface Asked {
  readonly limit: CompiledLimit;
  readonly standing: Standing | undefined;
}

export type Verdict =
  | { readonly kind: "ok"; readonly standings: readonly Standing[]; readonly response: RateLimitResponse | undefined }
  | {
      readonly kind: "over";
      readonly limit: CompiledLimit;
      readonly standing: Standing;
      readonly standings: readonly Standing[];
      readonly response: RateLimitResponse;
    }
  | { readonly kind: "error" };

interface Question {
  readonly count: Count;
  readonly rate: CompiledRate;
}

export class GlobalCounting {
  readonly #policy: RateLimitPolicy;
  readonly #context: LayerContext;

  constructor(policy: RateLimitPolicy, context: LayerContext) {
    this.#policy = policy;
    this.#context = context;
  }

  /** One question for each cost, with everything that costs as much. */
  async ask(counts: readonly Count[], connection: DownstreamConnection): Promise<Verdict> {
    const standings: Standing[] = [];
    let response: RateLimitResponse | undefined;
    const [peeks, charged] = [true, false].map((isPeek) =>
      counts.filter(({ limit, cost }) => (limit.costAfter !== undefined ? isPeek : !isPeek && cost > 0)),
    );
    const groups = [...Map.groupBy(charged ?? [], ({ cost }) => cost), [0, peeks ?? []] as const];
    for (const [cost, group] of groups) {
      if (group.length === 0) continue;
      const verdict = await this.#askFor(group, cost, connection);
      if (verdict.kind !== "ok") return verdict;
      standings.push(...verdict.standings);
      response ??= verdict.response;
    }
    return { kind: "ok", standings, response };
  }

  /** Tells what a request cost when it is over. Nobody waits for it. */
  charge(count: Count, cost: number, connection: DownstreamConnection): void {
    const questions = count.rates.map((rate) => ({ count, rate }));
    this.#send(questions, cost, connection).catch((thrown: unknown) => {
      count.limit.counts.count("error");
      this.#context.log.debug({ policy: this.#policy.name, error: explain(thrown) }, "a cost cannot be charged");
    });
  }

  async #askFor(counts: readonly Count[], cost: number, connection: DownstreamConnection): Promise<Verdict> {
    const questions = counts.flatMap((count) => count.rates.map((rate) => ({ count, rate })));
    let response: RateLimitResponse;
    try {
      response = await this.#send(questions, cost, connection);
      if (response.overallCode !== Code.OK && response.overallCode !== Code.OVER_LIMIT) {
        throw new Error(`it answered with code ${String(response.overallCode)}`);
      }
    } catch (thrown) {
      const { log } = this.#context;
      log.debug({ policy: this.#policy.name, error: explain(thrown) }, "rate limit service cannot be asked");
      for (const { limit } of counts) limit.counts.count("error");
      return { kind: "error" };
    }
    const asked = questions.map((question, index): Asked => ({
      limit: question.count.limit,
      standing: standingOf(question, response, index),
    }));
    const standings = asked.flatMap(({ standing }) => standing ?? []);
    let over = response.statuses.findIndex(
      ({ code, currentLimit, limitRemaining }, index) =>
        index < questions.length &&
        // Who asks without counting is over the limit when nothing is left.
        (code === Code.OVER_LIMIT || (cost === 0 && currentLimit !== undefined && limitRemaining === 0)),
    );
    // A service that says "over" without saying which: the first.
    if (over < 0 && response.overallCode === Code.OVER_LIMIT) over = 0;
    const exhausted = questions[over];
    if (exhausted !== undefined && (response.overallCode === Code.OVER_LIMIT || cost === 0)) {
      const standing = asked[over]?.standing ?? { ...ownStanding(exhausted), remaining: 0 };
      return { kind: "over", limit: exhausted.count.limit, standing, standings, response };
    }
    for (const { limit } of counts) limit.counts.count("ok");
    return { kind: "ok", standings, response };
  }

  async #send(
    questions: readonly Question[],
    cost: number,
    connection: DownstreamConnection,
  ): Promise<RateLimitResponse> {
    const { global, name } = this.#policy;
    return askService(
      this.#context.clusters,
      { cluster: global?.cluster ?? "", authority: undefined, timeoutMs: global?.timeoutMs ?? 0 },
      {
        domain: global?.domain ?? "",
        descriptors: questions.map((question) => descriptorOf(name, question, cost)),
        hitsAddend: cost,
      },
      connection,
    );
  }
}

const ownStanding = ({ count: { limit }, rate: { requests, perMs } }: Question): Standing => {
  const perSeconds = Math.ceil(perMs / 1000);
  return { limit: limit.name, requests, perSeconds, remaining: requests, resetSeconds: perSeconds };
};

function standingOf(question: Question, { statuses }: RateLimitResponse, index: number): Standing | undefined {
  const status = statuses[index];
  if (status === undefined) return undefined;
  const own = ownStanding(question);
  const { currentLimit, limitRemaining, durationUntilReset } = status;
  return {
    ...own,
    requests: currentLimit?.requestsPerUnit ?? own.requests,
    remaining: limitRemaining,
    resetSeconds: durationUntilReset === undefined ? own.resetSeconds : Math.max(0, Number(durationUntilReset.seconds)),
  };
}

/** Weeks are newer than the definitions that we generate from. */
const week: number = 7;

const units: ReadonlyMap<number, number> = new Map<number, number>([
  [1_000, Unit.SECOND],
  [60_000, Unit.MINUTE],
  [3_600_000, Unit.HOUR],
  [86_400_000, Unit.DAY],
  [604_800_000, week],
  [2_592_000_000, Unit.MONTH],
  [31_536_000_000, Unit.YEAR],
]);

/** The limit rides along, so that a service needs no configuration of its own to count it. */
function descriptorOf(policy: string, { count, rate }: Question, cost: number): RateLimitDescriptor {
  const unit = units.get(rate.perMs);
  const descriptor = create(RateLimitDescriptorSchema, {
    entries: [{ key: "limit", value: `${policy}/${count.limit.name}` }, ...count.entries],
    // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- weeks are newer than the definitions that we generate from
    ...(unit === undefined ? {} : { limit: { requestsPerUnit: rate.requests, unit } }),
  });
  if (cost === 0) setHits(descriptor, 0n);
  return descriptor;
}
