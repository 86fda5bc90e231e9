/** How many letters to change, add or drop to get from `a` to `b`. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + same));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** Longer words are no slips of a finger, and comparing them costs time that a hostile object could ask for. */
const longestWord = 64;

/** Two letters change places, or up to a third of them are others. */
const tolerated = (choice: string): number => (choice.length < 4 ? 1 : Math.max(2, Math.floor(choice.length / 3)));

/** The choice that `word` was probably meant to be, whatever its case. */
export function nearest(word: string, choices: readonly string[]): string | undefined {
  if (word.length > longestWord) return undefined;
  const lower = word.toLowerCase();
  let best: { readonly choice: string; readonly away: number } | undefined;
  for (const choice of choices) {
    const away = distance(lower, choice.toLowerCase());
    if (away <= tolerated(choice) && (best === undefined || away < best.away)) {
      best = { choice, away };
    }
  }
  return best?.choice;
}

/** `did you mean "rules"?`, or the list of what may stand there. */
export function suggest(word: string, choices: readonly string[], otherwise: string): string {
  const near = nearest(word, choices);
  if (near !== undefined) return `did you mean "${near}"?`;
  return choices.length === 0 ? otherwise : `${otherwise} ${choices.join(", ")}`;
}
