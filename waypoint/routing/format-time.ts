/** `%START_TIME(...)%`: strftime as Envoy has it, in UTC; ISO 8601 with milliseconds where nothing is given. */
const pad = (value: number, width = 2): string => String(value).padStart(width, "0");
const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

const fields: Readonly<Record<string, (time: Date) => string>> = {
  Y: (time) => String(time.getUTCFullYear()),
  y: (time) => pad(time.getUTCFullYear() % 100),
  m: (time) => pad(time.getUTCMonth() + 1),
  d: (time) => pad(time.getUTCDate()),
  e: (time) => String(time.getUTCDate()).padStart(2, " "),
  H: (time) => pad(time.getUTCHours()),
  I: (time) => pad(time.getUTCHours() % 12 || 12),
  M: (time) => pad(time.getUTCMinutes()),
  S: (time) => pad(time.getUTCSeconds()),
  p: (time) => (time.getUTCHours() < 12 ? "AM" : "PM"),
  a: (time) => (days[time.getUTCDay()] as string).slice(0, 3),
  A: (time) => days[time.getUTCDay()] as string,
  b: (time) => (months[time.getUTCMonth()] as string).slice(0, 3),
  B: (time) => months[time.getUTCMonth()] as string,
  z: () => "+0000",
  Z: () => "UTC",
  s: (time) => String(Math.floor(time.getTime() / 1000)),
  F: (time) => time.toISOString().slice(0, 10),
  T: (time) => time.toISOString().slice(11, 19),
  D: (time) => `${pad(time.getUTCMonth() + 1)}/${pad(time.getUTCDate())}/${pad(time.getUTCFullYear() % 100)}`,
  n: () => "\n",
  t: () => "\t",
  "%": () => "%",
};

let lastSecond = Number.NaN;
let lastPrefix = "";

/** As `Date` writes it; a thousand lines may be of one second. */
function isoTime(unixMs: number): string {
  const wholeMs = Math.trunc(unixMs);
  const second = Math.floor(wholeMs / 1_000);
  if (second !== lastSecond) {
    lastPrefix = new Date(second * 1_000).toISOString().slice(0, -4);
    lastSecond = second;
  }
  return `${lastPrefix}${pad(wholeMs - second * 1_000, 3)}Z`;
}

/** Fractions: `%f` and `%Nf` digits of the second, `%3`, `%6`, `%9` the same without the letter. */
export function formatTime(format: string | undefined, problem: (message: string) => void): (unixMs: number) => string {
  if (format === undefined || format === "") return isoTime;
  const parts = format.split(/%([1-9]?f|[1-9]|E[1-9*]S|E[1-9*]f|.)/s).map((part, index) => {
    if (index % 2 === 0) return () => part;
    const digits = /^([1-9])?f$|^([1-9])$/.exec(part);
    if (digits !== null) {
      const count = Number(digits[1] ?? digits[2] ?? 9);
      return (time: Date) => pad(time.getUTCMilliseconds(), 3).padEnd(9, "0").slice(0, count);
    }
    const field = fields[part];
    if (field === undefined) problem(`"%${part}" is not supported`);
    return field ?? (() => "");
  });
  return (unixMs) => {
    const time = new Date(Math.floor(unixMs));
    return parts.map((part) => part(time)).join("");
  };
}
