/** Policies are compiled once, when they arrive; a connection only walks the result. */
import { identityOf, principalOf, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { compileCidr, type Cidr } from "#shared/net/cidr.ts";
import type { CompiledPolicy, PolicyConnection } from "./decide.ts";
import type { Policy, PolicyMatch, ServiceAccountMatch, StringMatch } from "./policy.ts";

type Test = (connection: PolicyConnection) => boolean;

export function compilePolicy({ key, action, dryRun, rules }: Policy): CompiledPolicy {
  const tests = rules.map((rule) =>
    all(rule.map((clause) => (clause.length === 0 ? always : any(clause.map(compileMatch))))),
  );
  return {
    key,
    action,
    dryRun,
    matchedRule: (connection) => {
      for (let index = 0; index < tests.length; index++) if (tests[index]?.(connection)) return index;
      return -1;
    },
  };
}

/** Kinds of fields are ANDed; a match that names none never matches. */
export function compileMatch(match: PolicyMatch): Test {
  const tests: Test[] = [];
  const add = <T>(values: readonly T[], refused: readonly T[], compile: (values: readonly T[]) => Test) => {
    if (values.length > 0) tests.push(compile(values));
    if (refused.length > 0) tests.push(not(compile(refused)));
  };
  // Cheap tests first: ports and addresses before names.
  add(match.destinationPorts, match.notDestinationPorts, ports);
  add(match.sourceIps, match.notSourceIps, cidrs("sourceIp"));
  add(match.destinationIps, match.notDestinationIps, cidrs("destinationIp"));
  add(match.namespaces, match.notNamespaces, namespaces);
  add(match.principals, match.notPrincipals, principals);
  add(match.serviceAccounts, match.notServiceAccounts, serviceAccounts);
  return tests.length === 0 ? never : all(tests);
}

export function compileString(match: StringMatch): (value: string) => boolean {
  switch (match.kind) {
    case "exact":
      return (value) => value === match.value;
    case "prefix":
      return (value) => value.startsWith(match.value);
    case "suffix":
      return (value) => value.endsWith(match.value);
    case "presence":
      return (value) => value !== "";
  }
}

/** An identity as conditions compare it. */
interface SourceParts {
  readonly principal: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** All conditions of all policies ask about the same connection in a row: taking it apart once is enough. */
let lastId: SpiffeId | undefined;
let lastParts: SourceParts = { principal: "", namespace: "", serviceAccount: "" };

function partsOf(id: SpiffeId): SourceParts {
  if (id === lastId) return lastParts;
  const { namespace = "", serviceAccount = "" } = identityOf(id) ?? {};
  lastId = id;
  lastParts = { principal: principalOf(id), namespace, serviceAccount: `${namespace}/${serviceAccount}` };
  return lastParts;
}

const always: Test = () => true;
const never: Test = () => false;
const not =
  (test: Test): Test =>
  (connection) =>
    !test(connection);

function all(tests: readonly Test[]): Test {
  const [only] = tests;
  if (only !== undefined && tests.length === 1) return only;
  return (connection) => {
    for (const test of tests) if (!test(connection)) return false;
    return true;
  };
}

function any(tests: readonly Test[]): Test {
  const [only] = tests;
  if (only !== undefined && tests.length === 1) return only;
  return (connection) => {
    for (const test of tests) if (test(connection)) return true;
    return false;
  };
}

function ports(values: readonly number[]): Test {
  const wanted = new Set(values);
  return (connection) => wanted.has(connection.destinationPort);
}

const cidrs =
  (end: "sourceIp" | "destinationIp") =>
  (values: readonly Cidr[]): Test => {
    const tests = values.map(compileCidr);
    return (connection) => {
      for (const test of tests) if (test(connection[end])) return true;
      return false;
    };
  };

/** Exact values, by far the most common, are one look-up; the rest are tried in turn. */
function strings(matches: readonly StringMatch[]): (value: string) => boolean {
  const exact = new Set(matches.flatMap((match) => (match.kind === "exact" ? [match.value] : [])));
  const others = matches.filter((match) => match.kind !== "exact").map(compileString);
  if (others.length === 0) return (value) => exact.has(value);
  return (value) => {
    if (exact.has(value)) return true;
    for (const test of others) if (test(value)) return true;
    return false;
  };
}

function namespaces(matches: readonly StringMatch[]): Test {
  const test = strings(matches);
  return ({ sourceIdentity }) => test(sourceIdentity === undefined ? "" : partsOf(sourceIdentity).namespace);
}

function principals(matches: readonly StringMatch[]): Test {
  const test = strings(matches);
  return ({ sourceIdentity }) => sourceIdentity !== undefined && test(partsOf(sourceIdentity).principal);
}

function serviceAccounts(matches: readonly ServiceAccountMatch[]): Test {
  const wanted = new Set(matches.map(({ namespace, serviceAccount }) => `${namespace}/${serviceAccount}`));
  return ({ sourceIdentity }) => sourceIdentity !== undefined && wanted.has(partsOf(sourceIdentity).serviceAccount);
}
