/**
 * What is written while bytes of some connection are being handled may wait until that is done: a head and the body that
 * came with it go out in one write, without a timer or a microtask for each.
 */
export interface Flushed {
  flush(): void;
}

let depth = 0;
let due: Flushed[] = [];
let isScheduled = false;

export function enterTurn(): void {
  depth++;
}

export function leaveTurn(): void {
  if (--depth === 0 && due.length > 0) flushDue();
}

/** Calls `flush` when this turn is over. */
export function flushLater(output: Flushed): void {
  due.push(output);
  if (depth > 0 || isScheduled) return;
  isScheduled = true;
  process.nextTick(flushScheduled);
}

function flushScheduled(): void {
  isScheduled = false;
  flushDue();
}

function flushDue(): void {
  if (due.length === 1) {
    const only = due.pop() as Flushed;
    only.flush();
    return;
  }
  const outputs = due;
  due = [];
  for (const output of outputs) output.flush();
}
