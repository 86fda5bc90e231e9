const pattern = /^(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?$/i;

/** Whether DNS can be asked for it. What cannot be is a mistake at once, not at every resolution. */
export const isDnsName = (text: string): boolean => text.length <= 254 && pattern.test(text);
