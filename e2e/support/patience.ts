/** Jest's five seconds are for units; a scenario waits for processes to start. Every wait inside has its own deadline. */
import { jest } from "@jest/globals";

jest.setTimeout(60_000);

/**
 * Dozens of processes share two cores with whatever else the machine does: a scenario that met a stall is run once more,
 * and what failed first is printed. It is to be looked into all the same: nothing is expected to need this.
 */
jest.retryTimes(1, { logErrorsBeforeRetry: true, retryImmediately: true });
