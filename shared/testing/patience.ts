/** Set up for every unit test: what waits for sockets may take longer where two cores have much else to do. */
import { jest } from "@jest/globals";

jest.setTimeout(120_000);
