import { expect, test } from "@jest/globals";
import { lines, problemsOf } from "./testing/told.ts";

const tls = (text: string): readonly string[] =>
  lines(problemsOf("gateway.networking.k8s.io/v1", "BackendTLSPolicy", text));
const traffic = (text: string): readonly string[] =>
  lines(problemsOf("gateway.networking.x-k8s.io/v1alpha1", "XBackendTrafficPolicy", text));

const cart = "targetRefs: [{group: '', kind: Service, name: cart}]";
const system = "hostname: cart.example, wellKnownCACertificates: System";

// prettier-ignore
test.each<[string, readonly unknown[]]>([ // spec, every message
  [`{${cart}, validation: {${system}}}`, []],
  [`{${cart}, validation: {hostname: cart.example, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}`, []],
  [`{targetRefs: [{group: '', kind: Service, name: cart, sectionName: a}, {group: '', kind: Service, name: cart, sectionName: b}], validation: {${system}}}`, []],
  [`{${cart}, validation: {${system}, subjectAltNames: [{type: Hostname, hostname: '*.cart.example'}, {type: URI, uri: 'spiffe://a/ns/b/sa/c'}]}}`, []],
  [`{validation: {${system}}}`, [expect.stringContaining("spec.targetRefs")]],
  [`{targetRefs: [], validation: {${system}}}`, [expect.stringContaining("spec.targetRefs")]],
  [`{${cart}, validation: {hostname: cart.example}}`, ["spec.validation: says of no authority that it is trusted: write caCertificateRefs, or wellKnownCACertificates: System"]],
  [`{${cart}, validation: {${system}, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}`, ['spec.validation.wellKnownCACertificates: excludes "caCertificateRefs", which is written too: keep one of them']],
  [`{${cart}, validation: {hostname: cart.example, wellKnownCACertificates: example.com/Mine}}`, ['spec.validation.wellKnownCACertificates: "example.com/Mine" is not known here: nothing will be sent: write System']],
  [`{${cart}, validation: {hostname: cart.example, caCertificateRefs: [{group: '', kind: Secret, name: ca}]}}`, ['spec.validation.caCertificateRefs[0]: kind "Secret" is not read for certificates: without another reference, nothing will be sent: write a ConfigMap (group "") that has them under ca.crt']],
  [`{${cart}, validation: {wellKnownCACertificates: System, hostname: 10.0.0.7}}`, ['spec.validation.hostname: "10.0.0.7" is an address, which no client asks for by SNI: write the host name that the server\'s certificate is for']],
  [`{${cart}, validation: {wellKnownCACertificates: System, hostname: '*.cart.example'}}`, [expect.stringContaining("spec.validation.hostname")]],
  [`{${cart}, validation: {${system}, subjectAltNames: [{type: Hostname, uri: 'spiffe://a/b'}]}}`, [
    'spec.validation.subjectAltNames[0]: type Hostname needs "hostname": write it',
    "spec.validation.subjectAltNames[0].uri: does not belong to type Hostname: leave it out, or change the type",
  ]],
  [`{${cart}, validation: {${system}, subjectAltNames: [{type: URI, uri: 'no-scheme'}]}}`, [expect.stringContaining("an absolute URI")]],
  [`{targetRefs: [{group: '', kind: Service, name: cart}, {group: '', kind: Service, name: cart, sectionName: http}], validation: {${system}}}`, ['spec.targetRefs[1]: refers to "cart" again: tell such references apart by sectionName, in both, or keep one']],
  [`{targetRefs: [{group: apps, kind: Deployment, name: cart}], validation: {${system}}}`, ['spec.targetRefs[0]: kind "Deployment" of group "apps" is no target in this mesh: write Service (group "") or ServiceEntry (networking.istio.io)']],
  [`{${cart}, validation: {${system}}, options: {example.com/x: y}}`, ['spec.options["example.com/x"]: is no option of this mesh: it has no effect: leave it out']],
])("BackendTLSPolicy %s", (spec, messages) => {
  expect(tls(spec)).toEqual(messages);
});

// prettier-ignore
test.each<[string, readonly unknown[]]>([ // spec, every message
  [`{${cart}, retryConstraint: {}}`, []],
  [`{${cart}, retryConstraint: {budget: {percent: 50, interval: 1h}, minRetryRate: {count: 1, interval: 100ms}}}`, []],
  [`{${cart}}`, ["spec: says nothing of its targets: write retryConstraint"]],
  [`{${cart}, retryConstraint: {budget: {interval: 61m}}}`, ['spec.retryConstraint.budget.interval: "61m" is out of range: write from 1s to 1h']],
  [`{${cart}, retryConstraint: {minRetryRate: {interval: 0s}}}`, ['spec.retryConstraint.minRetryRate.interval: "0s" is out of range: write more than 0s, and 1h at most']],
  [`{${cart}, retryConstraint: {minRetryRate: {count: 0}}}`, [expect.stringContaining("spec.retryConstraint.minRetryRate.count: 0 is out of range")]],
  [`{${cart}, sessionPersistence: {}}`, ["spec.sessionPersistence: is not supported: requests of a session go to any endpoint: write consistentHash of a DestinationRule"]],
  [`{${cart}, sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}}`, expect.arrayContaining(["spec.sessionPersistence: a permanent cookie has no end: write absoluteTimeout"]) as never],
  [`{targetRefs: [{group: '', kind: Service, name: a}, {group: '', kind: Service, name: a}], retryConstraint: {}}`, ['spec.targetRefs[1]: refers to "a" again: tell such references apart by sectionName, in both, or keep one']],
])("XBackendTrafficPolicy %s", (spec, messages) => {
  expect(traffic(spec)).toEqual(messages);
});
