/** What an external authorizer said, whichever protocol it speaks, and what that does to requests and answers. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Headers } from "#waypoint/http/headers.ts";
import type { RequestHead } from "#waypoint/http/streams.ts";

export interface HeaderEdit {
  /** `append` joins what is there, and does nothing where there is nothing; `add` adds a field in any case. */
  readonly action: "set" | "append" | "add" | "add-if-absent" | "overwrite-if-exists";
  /** In lower case. */
  readonly name: string;
  readonly value: string;
}

export type Verdict =
  | {
      readonly kind: "allowed";
      readonly requestEdits: readonly HeaderEdit[];
      readonly removed: readonly string[];
      readonly responseEdits: readonly HeaderEdit[];
      readonly query: readonly { readonly name: string; readonly value: string | undefined }[];
      readonly metadata: JsonObject | undefined;
    }
  | {
      readonly kind: "denied";
      readonly status: number;
      readonly edits: readonly HeaderEdit[];
      readonly body: string;
      readonly metadata: JsonObject | undefined;
    }
  | { readonly kind: "error"; readonly why: string };

const nameForm = /^:?[!#$%&'*+\-.^_`|~0-9a-z]+$/;
/** As headers are kept: one character for each byte. */
const unfit = /[^\t\u0020-\u007e\u0080-\u00ff]/;

/** Whether every edit can be written: one that cannot would change the form of a message. */
export const areWritable = (edits: readonly HeaderEdit[]): boolean =>
  edits.every(({ name, value }) => nameForm.test(name) && !unfit.test(value));

/** An authorizer may change these of the request line. */
const parts: Readonly<Record<string, "method" | "path" | "authority" | "scheme">> = {
  ":method": "method",
  ":path": "path",
  ":authority": "authority",
  host: "authority",
};

export function editRequest(request: RequestHead, edits: readonly HeaderEdit[], removed: readonly string[]): void {
  for (const edit of edits) {
    const part = parts[edit.name];
    if (part === undefined) {
      if (!edit.name.startsWith(":")) applyEdit(request.headers, edit);
    } else if (edit.value !== "" && (part !== "path" || edit.value.startsWith("/"))) request[part] = edit.value;
  }
  for (const name of removed) if (!name.startsWith(":") && name !== "host") request.headers.delete(name);
}

export function editHeaders(headers: Headers, edits: readonly HeaderEdit[]): void {
  for (const edit of edits) if (!edit.name.startsWith(":")) applyEdit(headers, edit);
}

function applyEdit(headers: Headers, { action, name, value }: HeaderEdit): void {
  const before = headers.get(name);
  switch (action) {
    case "set":
      headers.set(name, value);
      return;
    case "append":
      if (before !== undefined) headers.set(name, `${headers.all(name).join(",")},${value}`);
      return;
    case "add":
      headers.append(name, value);
      return;
    case "add-if-absent":
      if (before === undefined) headers.append(name, value);
      return;
    case "overwrite-if-exists":
      if (before !== undefined) headers.set(name, value);
  }
}

/** Sets (or, without value, removes) parameters; the rest of the query stays as it was written. */
export function editQuery(
  request: RequestHead,
  edits: readonly { readonly name: string; readonly value: string | undefined }[],
): void {
  if (edits.length === 0) return;
  const at = request.path.indexOf("?");
  const path = at < 0 ? request.path : request.path.slice(0, at);
  const named = new Map(edits.map(({ name, value }) => [name, value]));
  const kept = (at < 0 ? [] : request.path.slice(at + 1).split("&")).filter((piece) => {
    const [name] = new URLSearchParams(piece).keys();
    return name === undefined || !named.has(name);
  });
  const set = [...named].flatMap(([name, value]) =>
    value === undefined ? [] : [`${encodeURIComponent(name)}=${encodeURIComponent(value)}`],
  );
  const query = [...kept, ...set].join("&");
  request.path = query === "" ? path : `${path}?${query}`;
}
