/** New paths: by prefix, by expression, by template. The query always stays. */
import { fromBinary } from "@bufbuild/protobuf";
import type { TypedExtensionConfig } from "#shared/proto/gen/envoy/config/core/v3/extension_pb.js";
import type { RegexMatchAndSubstitute } from "#shared/proto/gen/envoy/type/matcher/v3/regex_pb.js";
import { UriTemplateRewriteConfigSchema } from "#shared/proto/gen/envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { compileSubstitution } from "./match/regex.ts";
import { compileTemplateRewrite } from "./template-rewrite.ts";
import type { MatchedPath } from "./route-match.ts";
import { pathOnly } from "./route-table.ts";

export type PathRewrite = (path: string) => string;

export interface PathRewriteConfig {
  readonly prefixRewrite: string;
  readonly regexRewrite: RegexMatchAndSubstitute | undefined;
  readonly pathRewritePolicy?: TypedExtensionConfig | undefined;
}

/** Undefined where the path stays as it is. */
export function compilePathRewrite(
  config: PathRewriteConfig,
  matched: MatchedPath,
  path: string,
  problem: Problem,
): PathRewrite | undefined {
  const { prefixRewrite, regexRewrite, pathRewritePolicy } = config;
  const given = [prefixRewrite !== "", regexRewrite !== undefined, pathRewritePolicy !== undefined];
  if (given.filter(Boolean).length > 1)
    problem(path, "only one of prefix_rewrite, regex_rewrite and path_rewrite_policy may be set");
  if (matched.kind === "connect" && given.includes(true)) problem(path, "a CONNECT has no path to rewrite");
  if (prefixRewrite !== "") return prefixRewriter(prefixRewrite, matched);
  if (regexRewrite !== undefined) {
    const substitute = compileSubstitution(regexRewrite, `${path}.regex_rewrite`, problem);
    return substitute && ((text) => withQuery(text, substitute));
  }
  if (pathRewritePolicy === undefined) return undefined;
  const config_ = pathRewritePolicy.typedConfig;
  const at = `${path}.path_rewrite_policy`;
  if (config_ === undefined || !config_.typeUrl.endsWith(`/${UriTemplateRewriteConfigSchema.typeName}`)) {
    problem(at, `"${config_?.typeUrl ?? ""}" is not supported`);
    return undefined;
  }
  if (matched.template === undefined) {
    problem(at, "needs a route that matches by path template");
    return undefined;
  }
  const template = fromBinary(UriTemplateRewriteConfigSchema, config_.value).pathTemplateRewrite;
  const rewrite = compileTemplateRewrite(template, matched.template, `${at}.path_template_rewrite`, problem);
  return rewrite && ((text) => withQuery(text, (plain) => rewrite(plain) ?? plain));
}

function prefixRewriter(replacement: string, { prefixLength }: MatchedPath): PathRewrite {
  if (prefixLength === undefined) return (text) => withQuery(text, () => replacement);
  return (text) => replacement + text.slice(prefixLength);
}

function withQuery(text: string, rewrite: (plain: string) => string): string {
  const plain = pathOnly(text);
  return rewrite(plain) + text.slice(plain.length);
}
