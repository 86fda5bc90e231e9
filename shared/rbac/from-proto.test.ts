import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "@jest/globals";
import { AuthorizationSchema } from "#shared/proto/gen/security/authorization_pb.js";
import { policyFromProto } from "./from-proto.ts";

type Init = MessageInitShape<typeof AuthorizationSchema>;
/** An enum's number as it may stand on the wire, known or not. */
const wire = (value: number) => value as never;
const read = (init: Init) => policyFromProto(create(AuthorizationSchema, init));

test("a policy keeps its shape, with entries that say nothing left out", () => {
  const policy = read({
    name: "p",
    namespace: "ns",
    scope: wire(1),
    action: wire(1),
    groups: [
      {
        rules: [
          {
            matches: [
              {
                principals: [{ matchType: { case: "presence", value: {} } }, {}],
                notNamespaces: [{ matchType: { case: "prefix", value: "a" } }],
                sourceIps: [{ address: Uint8Array.of(10, 0, 0, 0), length: 8 }],
                destinationPorts: [65_536 + 80],
                serviceAccounts: [{ namespace: "a", serviceAccount: "b" }],
              },
            ],
          },
          {},
        ],
      },
      {},
    ],
  });
  expect(policy).toMatchObject({
    ok: true,
    value: {
      key: "ns/p",
      scope: "NAMESPACE",
      action: "DENY",
      dryRun: false,
      rules: [
        [
          [
            {
              principals: [{ kind: "presence" }],
              notNamespaces: [{ kind: "prefix", value: "a" }],
              sourceIps: [{ base: "10.0.0.0", length: 8 }],
              destinationPorts: [80],
              serviceAccounts: [{ namespace: "a", serviceAccount: "b" }],
            },
          ],
          [],
        ],
        [],
      ],
    },
  });
});

const inMatch = (match: object): Init => ({ groups: [{ rules: [{ matches: [match] }] }] });

// prettier-ignore
test.each([
  [{ scope: wire(9) },                                                                      "scope: 9"],
  [{ action: wire(9) },                                                                     "action: 9"],
  [inMatch({ sourceIps: [{ address: Uint8Array.of(1, 2, 3), length: 8 }] }),          "groups[0].rules[0].matches[0].source_ips[0]: 3 bytes"],
  [inMatch({ notSourceIps: [{ address: Uint8Array.of(1, 2, 3, 4), length: 33 }] }),   "not_source_ips[0]: 4 bytes with prefix length 33"],
  [inMatch({ destinationIps: [{ address: new Uint8Array(0) }] }),                     "destination_ips[0]: 0 bytes"],
] as [Init, string][])("%j is refused, naming the field: %s", (init, mistake) => {
  const policy = read(init);
  expect(policy.ok ? [] : policy.errors).toEqual([expect.stringContaining(mistake)]);
});
