import { formatFilter, parseFilter, type Logging } from "../logging.ts";
import type { Handler, HttpReply, HttpRequest } from "./open-server.ts";

export interface AdminOptions {
  /** Of the daemon. */
  readonly name: string;
  readonly logging: Logging;
  /** Everything known, made when asked for; keys and tokens left out. */
  readonly dump: () => unknown;
  /** Stops the process gracefully. */
  readonly quit: () => void;
}

const loggingHelp = `
usage: POST /logging\t\t\t\t\t\t(To list current level)
usage: POST /logging?level=<level>\t\t\t\t(To change global levels)
usage: POST /logging?level={scope1}={level1},{scope2}={level2}\t(To change specific scopes' logging level)
usage: POST /logging?reset\t\t\t\t\t(To reset levels to those of the start)

levels: error, warn, info, debug, trace, off
`;

/** Paths and answers as istioctl expects them. To be bound to loopback only: nothing here asks who calls. */
export function adminRoutes(options: AdminOptions): Readonly<Record<string, Handler>> {
  return {
    "/": () => ({ contentType: "text/html; charset=utf-8", body: index(options.name) }),
    "/config_dump": async () => ({
      contentType: "application/json",
      body: JSON.stringify(await options.dump(), withSortedKeys, 2),
    }),
    "/logging": (request) => changeLogging(request, options.logging),
    "/quitquitquit": ({ method }) => {
      if (method !== "POST") return { status: 405, body: "Invalid HTTP method\n" };
      options.quit();
      return { body: "shutdown now\n" };
    },
  };
}

function changeLogging({ method, query }: HttpRequest, logging: Logging): HttpReply {
  if (method !== "POST") return { status: 405, body: `Invalid HTTP method\n${loggingHelp}` };
  const level = query.get("level");
  const reset = query.has("reset");
  const base = reset ? logging.initialFilter : logging.filter;
  const filter = level === null || level === "" ? base : parseFilter(level, base);
  if (filter === undefined || (level === "" && !reset)) {
    return { status: 400, body: `Invalid level provided: ${level ?? ""}\n${loggingHelp}` };
  }
  logging.setFilter(filter);
  return { body: `current log level is ${formatFilter(filter)}\n` };
}

/** So that two dumps compare line by line. */
function withSortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}

const index = (name: string) => `<!doctype html>
<html lang="en">
  <head><meta charset="utf-8"><title>Ambit ${name}</title></head>
  <body>
    <h1>Ambit ${name}</h1>
    <ul>
      <li><a href="config_dump">config_dump</a>: what this proxy knows</li>
      <li>POST /logging?level=debug: change what is logged</li>
      <li>POST /quitquitquit: stop after connections in flight</li>
    </ul>
  </body>
</html>
`;
