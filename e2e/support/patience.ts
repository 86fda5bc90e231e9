/** Jest's five seconds are for units; a scenario waits for processes to start. Every wait inside has its own deadline. */
import { jest } from "@jest/globals";

jest.setTimeout(60_000);
