/**
 * Finds the first route in order that matches, looking only at those that can: by exact path, by prefixes of the path,
 * and among the many routes of one path by a header value that most of them ask for. What it costs does not grow with the
 * number of routes, as long as they differ in one of these.
 */
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { CompiledMatch, PathKey } from "./route-match.ts";

/** Fewer are quicker to walk than to split. */
const splitAbove = 4;
const maxDepth = 4;

type Node = Leaf | HeaderNode;
/** Positions in the list of routes, in order. */
type Leaf = readonly number[];
interface HeaderNode {
  readonly header: string;
  readonly byValue: ReadonlyMap<string, Node>;
  readonly rest: Node;
}

interface PathNodes {
  readonly exact: ReadonlyMap<string, Node>;
  /** In the order of their texts. */
  readonly prefixes: readonly PrefixNode[];
}

interface PrefixNode {
  readonly text: string;
  readonly node: Node;
  /** The longest shorter prefix with which this one begins. */
  readonly parent: PrefixNode | undefined;
}

export class RouteIndex {
  readonly #matches: readonly CompiledMatch[];
  readonly #cased: PathNodes | undefined;
  readonly #folded: PathNodes | undefined;
  /** Routes that any path may match. */
  readonly #any: Node;

  constructor(matches: readonly CompiledMatch[]) {
    this.#matches = matches;
    const positions = [...matches.keys()];
    const isAny = ({ kind, text }: PathKey) => kind === "prefix" && text === "";
    const keyed = positions.filter((position) => !isAny(this.#key(position)));
    this.#cased = this.#pathNodes(keyed.filter((position) => !this.#key(position).ignoresCase));
    this.#folded = this.#pathNodes(keyed.filter((position) => this.#key(position).ignoresCase));
    this.#any = this.#node(
      positions.filter((position) => isAny(this.#key(position))),
      maxDepth,
    );
  }

  /** Position of the first route that matches; -1 for none. `path` is without query. */
  find(exchange: Exchange, path: string): number {
    let best = this.#matches.length;
    if (this.#cased !== undefined) best = this.#findIn(this.#cased, exchange, path, path, best);
    if (this.#folded !== undefined) best = this.#findIn(this.#folded, exchange, path, path.toLowerCase(), best);
    best = this.#search(this.#any, exchange, path, best);
    return best === this.#matches.length ? -1 : best;
  }

  #findIn(nodes: PathNodes, exchange: Exchange, path: string, key: string, limit: number): number {
    let best = limit;
    const exact = nodes.exact.get(key);
    if (exact !== undefined) best = this.#search(exact, exchange, path, best);
    // Whatever is a prefix of the path is one of the greatest text that does not come after it, too.
    let prefix = lastNotAfter(nodes.prefixes, key);
    for (; prefix !== undefined; prefix = prefix.parent)
      if (key.startsWith(prefix.text)) best = this.#search(prefix.node, exchange, path, best);
    return best;
  }

  /** The first position below `limit` that matches, else `limit`. */
  #search(node: Node, exchange: Exchange, path: string, limit: number): number {
    if (isLeaf(node)) {
      for (const position of node) {
        if (position >= limit) return limit;
        if ((this.#matches[position] as CompiledMatch).matches(exchange, path)) return position;
      }
      return limit;
    }
    let best = limit;
    const { header } = node;
    if (header.startsWith(":")) {
      const child = node.byValue.get(pseudoHeader(exchange, header));
      if (child !== undefined) best = this.#search(child, exchange, path, best);
    } else {
      const { pairs } = exchange.request.headers;
      for (let i = 0; i < pairs.length; i += 2) {
        if (pairs[i] !== header) continue;
        const child = node.byValue.get(pairs[i + 1] as string);
        if (child !== undefined) best = this.#search(child, exchange, path, best);
      }
    }
    return this.#search(node.rest, exchange, path, best);
  }

  #key(position: number): PathKey {
    return (this.#matches[position] as CompiledMatch).key;
  }

  #pathNodes(positions: readonly number[]): PathNodes | undefined {
    if (positions.length === 0) return undefined;
    const nodesOf = (kind: PathKey["kind"]) => {
      const groups = Map.groupBy(
        positions.filter((position) => this.#key(position).kind === kind),
        (position) => this.#key(position).text,
      );
      return new Map([...groups].map(([text, group]) => [text, this.#node(group, maxDepth)]));
    };
    return { exact: nodesOf("exact"), prefixes: linkPrefixes(nodesOf("prefix")) };
  }

  #node(positions: readonly number[], depth: number): Node {
    if (positions.length <= splitAbove || depth === 0) return positions;
    const header = this.#commonest(positions);
    if (header === undefined) return positions;
    const valueOf = (position: number) => (this.#matches[position] as CompiledMatch).exactHeaders.get(header);
    const groups = Map.groupBy(
      positions.filter((position) => valueOf(position) !== undefined),
      (position) => valueOf(position) as string,
    );
    return {
      header,
      // A header with one value for all splits nothing further.
      byValue: new Map([...groups].map(([value, group]) => [value, this.#node(group, depth - 1)])),
      rest: this.#node(
        positions.filter((position) => valueOf(position) === undefined),
        depth - 1,
      ),
    };
  }

  /** The header with the most different exact values, if it is worth splitting by. */
  #commonest(positions: readonly number[]): string | undefined {
    const values = new Map<string, Set<string>>();
    for (const position of positions) {
      for (const [name, value] of (this.#matches[position] as CompiledMatch).exactHeaders) {
        const known = values.get(name);
        if (known === undefined) values.set(name, new Set([value]));
        else known.add(value);
      }
    }
    let best: string | undefined;
    let most = 1;
    for (const [name, { size }] of values) if (size > most) [best, most] = [name, size];
    return best;
  }
}

function linkPrefixes(nodes: ReadonlyMap<string, Node>): PrefixNode[] {
  const linked: PrefixNode[] = [];
  for (const text of [...nodes.keys()].sort((a, b) => (a < b ? -1 : 1))) {
    let parent = linked.at(-1);
    while (parent !== undefined && !text.startsWith(parent.text)) ({ parent } = parent);
    linked.push({ text, node: nodes.get(text) as Node, parent });
  }
  return linked;
}

function lastNotAfter(prefixes: readonly PrefixNode[], key: string): PrefixNode | undefined {
  let low = 0;
  let high = prefixes.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((prefixes[middle] as PrefixNode).text <= key) low = middle + 1;
    else high = middle;
  }
  return prefixes[low - 1];
}

const isLeaf = (node: Node): node is Leaf => Array.isArray(node);

function pseudoHeader({ request }: Exchange, name: string): string {
  if (name === ":method") return request.method;
  if (name === ":path") return request.path;
  if (name === ":scheme") return request.scheme;
  return request.authority;
}
