/** Where tokens are in requests, and how they are taken out before the request goes on. */
import type { JwtProvider } from "#shared/proto/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import type { RequestHead } from "#waypoint/http/streams.ts";

export interface Location {
  /** The same for two providers that look at the same place. */
  readonly key: string;
  readonly kind: "header" | "param" | "cookie";
  readonly name: string;
  /** Of a header's value. */
  readonly prefix: string;
}

const header = (name: string, prefix: string): Location => ({
  kind: "header",
  name: name.toLowerCase(),
  prefix,
  key: `header ${name.toLowerCase()} ${prefix}`,
});
const param = (name: string): Location => ({ kind: "param", name, prefix: "", key: `param ${name}` });
const cookie = (name: string): Location => ({ kind: "cookie", name, prefix: "", key: `cookie ${name}` });

const defaults: readonly Location[] = [header("authorization", "Bearer "), param("access_token")];

export function locationsOf({ fromHeaders, fromParams, fromCookies }: JwtProvider): readonly Location[] {
  const written = [
    ...fromHeaders.map(({ name, valuePrefix }) => header(name, valuePrefix)),
    ...fromParams.map(param),
    ...fromCookies.map(cookie),
  ];
  return written.length === 0 ? defaults : written;
}

const none: readonly string[] = [];

export function tokensAt(request: RequestHead, location: Location): readonly string[] {
  const { kind, name, prefix } = location;
  switch (kind) {
    case "header": {
      const { pairs } = request.headers;
      let found: string[] | undefined;
      for (let index = 0; index < pairs.length; index += 2) {
        if (pairs[index] !== name) continue;
        const token = afterPrefix(pairs[index + 1] as string, prefix);
        if (token !== undefined) (found ??= []).push(token);
      }
      return found ?? none;
    }
    case "param": {
      const query = request.path.indexOf("?");
      if (query < 0 || !request.path.includes(name, query)) return none;
      return new URLSearchParams(request.path.slice(query + 1)).getAll(name).filter((value) => value !== "");
    }
    case "cookie": {
      const found = request.headers.all("cookie").flatMap((value) => value.split(";"));
      return found.flatMap((each) => {
        const pair = each.trim();
        return pair.startsWith(`${name}=`) ? [unquote(pair.slice(name.length + 1))] : [];
      });
    }
  }
}

const unquote = (value: string): string => (/^".*"$/.test(value) ? value.slice(1, -1) : value);

/** The prefix may stand anywhere; what follows as far as a token can go is the token. */
function afterPrefix(value: string, prefix: string): string | undefined {
  if (prefix === "") return value === "" ? undefined : value;
  const at = value.indexOf(prefix);
  if (at < 0) return undefined;
  const rest = value.slice(at + prefix.length);
  return /[A-Za-z0-9\-_.]+/.exec(rest)?.[0] ?? rest;
}

export function removeTokens(request: RequestHead, { kind, name }: Location): void {
  switch (kind) {
    case "header":
      request.headers.delete(name);
      return;
    case "param": {
      const query = request.path.indexOf("?");
      if (query < 0) return;
      // Piece by piece: the rest of the query stays as it was written.
      const kept = request.path
        .slice(query + 1)
        .split("&")
        .filter((piece) => !new URLSearchParams(piece).has(name));
      request.path = `${request.path.slice(0, query)}${kept.length === 0 ? "" : `?${kept.join("&")}`}`;
      return;
    }
    case "cookie": {
      const values = request.headers.all("cookie");
      request.headers.delete("cookie");
      for (const value of values) {
        const kept = value.split(";").filter((each) => !each.trim().startsWith(`${name}=`));
        if (kept.length > 0) request.headers.append("cookie", kept.join(";").trim());
      }
    }
  }
}
