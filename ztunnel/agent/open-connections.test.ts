import { describe, expect, test } from "@jest/globals";
import { parseIp } from "#shared/net/ip.ts";
import { connectionsOf, filterFor, type OpenConnection } from "./open-connections.ts";

const connection = (local: string, localPort: number, remote: string, remotePort: number): OpenConnection => ({
  local: parseIp(local),
  localPort,
  remote: parseIp(remote),
  remotePort,
});
const v4 = connection("10.244.2.3", 7_000, "10.244.1.6", 49_846);
const v6 = connection("fd00:10:244:a::3", 7_000, "fd00:10:244:a::4", 80);

describe("what /proc/net/tcp says", () => {
  const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
  const rest = "00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0";
  // prettier-ignore
  test.each<[string, string, string, readonly OpenConnection[], string]>([ // local, remote, state, connections, why
    ["0302F40A:1B58", "0601F40A:C2B6", "01", [v4], "established"],
    ["0302F40A:1B58", "0601F40A:C2B6", "02", [v4], "being opened"],
    ["0302F40A:1B58", "0601F40A:C2B6", "08", [v4], "closed by the other side only"],
    ["0302F40A:1B58", "0601F40A:C2B6", "06", [],   "over: nobody waits"],
    ["00000000:1B58", "00000000:0000", "0A", [],   "listening"],
    ["100000FD0A0044020000000003000000:1B58", "100000FD0A0044020000000004000000:0050", "01", [v6], "IPv6"],
    ["0000000000000000FFFF00000302F40A:1B58", "0000000000000000FFFF00000601F40A:C2B6", "01", [v4], "IPv4 on a socket for both"],
    ["garbage",       "0601F40A:C2B6", "01", [],   "no address"],
  ])("%s to %s in state %s is %j: %s", (local, remote, state, expected) => {
    expect(connectionsOf(`${head}\n   0: ${local} ${remote} ${state} ${rest}\n`)).toEqual(expected);
  });

  test("nothing, where there is no such file", () => {
    expect(connectionsOf("")).toEqual([]);
  });
});

test("ss is told of each connection by both of its ends", () => {
  expect(filterFor([v4, v6])).toBe(
    "( src = 10.244.2.3:7000 and dst = 10.244.1.6:49846 ) or " +
      "( src = [fd00:10:244:a::3]:7000 and dst = [fd00:10:244:a::4]:80 )",
  );
});
