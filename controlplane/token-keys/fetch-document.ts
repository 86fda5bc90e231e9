/** Fetches one JSON document from where a user's policy says, within bounds, and never from this machine or a metadata service. */
import { lookup } from "node:dns";
import { request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { request as httpsRequest } from "node:https";
import type { LookupFunction } from "node:net";
import { forbiddenFetchAddress, forbiddenFetchHost } from "#shared/net/fetch-targets.ts";

export interface FetchRules {
  /** Why a host may not be asked, before its name is resolved. */
  readonly forbidsHost: (host: string) => string | undefined;
  /** Why an address may not be. */
  readonly forbidsAddress: (address: string) => string | undefined;
}

export const fetchRules: FetchRules = {
  forbidsHost: forbiddenFetchHost,
  forbidsAddress: forbiddenFetchAddress,
};

/** More than any key set has. */
const mostBytes = 1024 * 1024;

/** @throws Error with a sentence for the author of the policy */
export async function fetchDocument(url: string, timeoutMs: number, rules: FetchRules = fetchRules): Promise<string> {
  const target = URL.canParse(url) ? new URL(url) : undefined;
  if (target === undefined || !["http:", "https:"].includes(target.protocol)) {
    throw new Error(`"${url}" is not a web address`);
  }
  const forbidden = rules.forbidsHost(target.hostname);
  if (forbidden !== undefined) throw new Error(`${url} is not fetched: ${forbidden}`);
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    return await read(await open(target, { signal, lookup: checkedLookup(rules) }));
  } catch (error) {
    if (signal.aborted) throw new Error(`Cannot fetch ${url}: no answer within ${timeoutMs} ms`, { cause: error });
    throw new Error(`Cannot fetch ${url}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

function open(url: URL, options: RequestOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = url.protocol === "https:" ? httpsRequest : httpRequest;
    request(url, { ...options, agent: false, headers: { accept: "application/json" } })
      .on("response", resolve)
      .on("error", reject)
      .end();
  });
}

/** The address that was checked is the one that is connected to: a name cannot mean another one a moment later. */
function checkedLookup({ forbidsAddress }: FetchRules): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) {
        callback(error, "", 0);
        return;
      }
      const forbidden = addresses.map(({ address }) => forbidsAddress(address)).find((why) => why !== undefined);
      const [first] = addresses;
      if (forbidden !== undefined || first === undefined) {
        callback(new Error(`"${hostname}": ${forbidden ?? "has no address"}`), "", 0);
      } else if (options.all === true) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}

async function read(response: IncomingMessage): Promise<string> {
  const { statusCode: status = 0 } = response;
  if (status !== 200) {
    response.destroy();
    throw new Error(
      status >= 300 && status < 400
        ? `it redirects (${status}), which is not followed`
        : `it answered with status ${status}`,
    );
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > mostBytes) {
      response.destroy();
      throw new Error(`its answer exceeds ${mostBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
