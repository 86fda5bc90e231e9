/** The constants of HPACK (RFC 7541, appendices A and B) in the form in which they are looked up. */

// prettier-ignore
const staticFields = [
  ":authority", "", ":method", "GET", ":method", "POST", ":path", "/", ":path", "/index.html", ":scheme", "http",
  ":scheme", "https", ":status", "200", ":status", "204", ":status", "206", ":status", "304", ":status", "400",
  ":status", "404", ":status", "500", "accept-charset", "", "accept-encoding", "gzip, deflate", "accept-language", "",
  "accept-ranges", "", "accept", "", "access-control-allow-origin", "", "age", "", "allow", "", "authorization", "",
  "cache-control", "", "content-disposition", "", "content-encoding", "", "content-language", "", "content-length", "",
  "content-location", "", "content-range", "", "content-type", "", "cookie", "", "date", "", "etag", "", "expect", "",
  "expires", "", "from", "", "host", "", "if-match", "", "if-modified-since", "", "if-none-match", "", "if-range", "",
  "if-unmodified-since", "", "last-modified", "", "link", "", "location", "", "max-forwards", "",
  "proxy-authenticate", "", "proxy-authorization", "", "range", "", "referer", "", "refresh", "", "retry-after", "",
  "server", "", "set-cookie", "", "strict-transport-security", "", "transfer-encoding", "", "user-agent", "",
  "vary", "", "via", "", "www-authenticate", "",
] as const;

export const staticCount = staticFields.length / 2;
/** By index from 1. */
export const staticNames: readonly string[] = ["", ...staticFields.filter((_, at) => at % 2 === 0)];
export const staticValues: readonly string[] = ["", ...staticFields.filter((_, at) => at % 2 === 1)];

/** The first index that has the name. */
export const staticIndexOf: ReadonlyMap<string, number> = new Map(
  staticNames.map((name, index) => [name, index] as const).reverse(),
);

/** Octets of overhead that an entry counts for (RFC 7541 §4.1). */
export const entryOverhead = 32;

/** What a name means to a message; a set of bits, so that a whole field section can be asked at once. */
export const seen = {
  authority: 1 << 0,
  method: 1 << 1,
  path: 1 << 2,
  scheme: 1 << 3,
  status: 1 << 4,
  protocol: 1 << 5,
  /** Fields that mean something to one connection only and have no place in HTTP/2 (RFC 9113 §8.2.2). */
  connection: 1 << 6,
  te: 1 << 7,
  host: 1 << 8,
  contentLength: 1 << 9,
  cookie: 1 << 10,
  expect: 1 << 11,
  /** A name or value with characters that it must not have, or an unknown pseudo-field. */
  malformed: 1 << 12,
} as const;

export const pseudoFields = seen.authority | seen.method | seen.path | seen.scheme | seen.status | seen.protocol;

const meanings: ReadonlyMap<string, number> = new Map([
  [":authority", seen.authority],
  [":method", seen.method],
  [":path", seen.path],
  [":scheme", seen.scheme],
  [":status", seen.status],
  [":protocol", seen.protocol],
  ["connection", seen.connection],
  ["keep-alive", seen.connection],
  ["proxy-connection", seen.connection],
  ["transfer-encoding", seen.connection],
  ["upgrade", seen.connection],
  ["te", seen.te],
  ["host", seen.host],
  ["content-length", seen.contentLength],
  ["cookie", seen.cookie],
  ["expect", seen.expect],
]);

/** Lower-case tokens (RFC 9113 §8.2.1). */
const isName = (name: string): boolean => /^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name);
/** Anything but control characters (tab is none), without white space at either end. */
const isValue = (value: string): boolean =>
  // oxlint-disable-next-line no-control-regex -- they are what is refused
  /^(?:[^\0-\x20\x7f](?:[^\0-\x08\x0a-\x1f\x7f]*[^\0-\x20\x7f])?)?$/.test(value);

/** Looked at once for each field that is sent as text; the dynamic table remembers it. */
export function meaningOf(name: string, value: string): number {
  const meaning = meanings.get(name) ?? (isName(name) ? 0 : seen.malformed);
  return isValue(value) ? meaning : meaning | seen.malformed;
}

/** {@link meaningOf} for the static table, by index. */
export const staticMeanings: readonly number[] = staticNames.map((name) => meanings.get(name) ?? 0);

/** Of the code of each octet, as letters: `A` is 5 bits. The code is canonical, so that lengths are all there is to it. */
const codeLengths =
  "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBKABABABBBACCBBBABCBAABCCCCCKGJIX" +
  "PRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSVWVVWWWWWXWWWWWV";
const endOfString = 256;
const bitsOf = (symbol: number): number => (symbol === endOfString ? 30 : codeLengths.charCodeAt(symbol) - 60);

/**
 * A machine that reads Huffman-coded text four bits at a time: `steps[16 * state + bits]`. The low byte is the next
 * state, then come the octet that is complete, whether one is, and whether the input is wrong.
 */
export const huffman = { hasOctet: 1 << 16, fails: 1 << 17 } as const;
export const { steps: huffmanSteps, accepts: huffmanAccepts } = compileHuffman();

function compileHuffman(): { readonly steps: Uint32Array; readonly accepts: Uint8Array } {
  // A binary tree: children of node n at 2n and 2n + 1; a leaf is ~symbol, since nodes are not negative.
  const children: number[] = [0, 0];
  const symbols = Array.from({ length: 257 }, (_, symbol) => symbol);
  symbols.sort((a, b) => bitsOf(a) - bitsOf(b) || a - b);
  let code = 0;
  let length = 0;
  for (const symbol of symbols) {
    code *= 2 ** (bitsOf(symbol) - length);
    length = bitsOf(symbol);
    let node = 0;
    for (let bit = length - 1; bit >= 0; bit--) {
      const slot = 2 * node + (Math.floor(code / 2 ** bit) % 2);
      if (bit === 0) children[slot] = ~symbol;
      else if (children[slot] === 0) {
        node = children[slot] = children.length / 2;
        children.push(0, 0);
      } else node = children[slot] as number;
    }
    code++;
  }
  const states = children.length / 2;
  const steps = new Uint32Array(states * 16);
  for (let state = 0; state < states; state++) {
    for (let bits = 0; bits < 16; bits++) {
      let [node, step] = [state, 0];
      for (let bit = 3; bit >= 0; bit--) {
        const child = children[2 * node + ((bits >> bit) & 1)] as number;
        if (child >= 0) node = child;
        else {
          if (~child === endOfString) step |= huffman.fails;
          else step |= huffman.hasOctet | (~child << 8);
          node = 0;
        }
      }
      steps[16 * state + bits] = step | node;
    }
  }
  // Text ends between symbols, or with up to seven bits of padding, all ones (RFC 7541 §5.2).
  const accepts = new Uint8Array(states);
  for (let [ones, node] = [0, 0]; ones <= 7; ones++, node = children[2 * node + 1] as number) accepts[node] = 1;
  return { steps, accepts };
}
