/** What an author is told of an object of which only the spec matters. */
import { parse } from "yaml";
import { formatProblem, type Problem } from "#controlplane/schema/problem.ts";
import { checkObject } from "#controlplane/schema/validate.ts";

/** @param spec YAML */
export const problemsOf = (apiVersion: string, kind: string, spec: string): readonly Problem[] =>
  checkObject({ apiVersion, kind, metadata: { name: "x", namespace: "shop" }, spec: parse(spec) as unknown }).problems;

/** As lines, those of one severity or all. */
export const lines = (problems: readonly Problem[], severity?: Problem["severity"]): readonly string[] =>
  problems.filter((problem) => severity === undefined || problem.severity === severity).map(formatProblem);
