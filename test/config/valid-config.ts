// Arbitrary valid configurations, for property tests.
import fc from 'fast-check';

const word = fc.stringMatching(/^[a-z][a-z0-9]{0,10}$/);
const host = fc.tuple(word, word).map((labels) => labels.join('.'));
const hex = fc.stringMatching(/^[0-9a-f]{17}$/);
const text = fc
  .string({ unit: 'grapheme-ascii', maxLength: 60 })
  .filter((value) => !value.startsWith('ssm:'));

function choice(prefix: string) {
  return fc.oneof(
    fc.record({
      ids: fc.uniqueArray(
        hex.map((tail) => `${prefix}-${tail}`),
        { minLength: 1, maxLength: 5 },
      ),
    }),
    fc.record({ tags: fc.dictionary(word, text, { minKeys: 1, maxKeys: 4 }) }),
  );
}

/** Distinct networks, each list within one /8, so that no two lists overlap by chance. */
function networks(first: number, maxLength: number) {
  return fc
    .uniqueArray(fc.nat(255), { maxLength })
    .map((seconds) => seconds.map((second) => `${first}.${second}.0.0/16`));
}

const optional = { requiredKeys: [] as [] };

/** A document as an operator may write it: keys with defaults may be left out. */
export const validDocument = fc
  .record(
    {
      cluster: fc.oneof(
        word,
        word.map((name) => `ssm:/${name}/cluster`),
      ),
      pods: fc.record(
        {
          subnets: choice('subnet'),
          securityGroups: choice('sg'),
          addressing: fc.constantFrom('auto', 'prefixes', 'addresses'),
          max: fc.integer({ min: 200, max: 1000 }),
          routes: networks(11, 8),
          allowImds: fc.boolean(),
        },
        { requiredKeys: ['subnets'] },
      ),
      pool: fc.record(
        {
          target: fc.integer({ min: 1, max: 110 }),
          lowWater: fc.integer({ min: 0, max: 1000 }),
          surplus: fc.integer({ min: 32, max: 1000 }),
          restSeconds: fc.integer({ min: 0, max: 3600 }),
        },
        optional,
      ),
      egress: fc.record(
        {
          table: networks(12, 8).chain((cidrs) =>
            fc
              .array(fc.constantFrom('route', 'snat', 'snat-keep-port'), {
                minLength: cidrs.length,
                maxLength: cidrs.length,
              })
              .map((actions) => cidrs.map((cidr, index) => ({ cidr, action: actions[index] }))),
          ),
          publicAddress: fc.constantFrom('ignore', 'require', 'request'),
        },
        optional,
      ),
      kubernetes: fc.record(
        {
          serviceCidrs: networks(13, 8),
          clusterDns: fc.array(fc.ipV4(), { maxLength: 3 }),
          clusterDomain: host,
          labels: fc.dictionary(word, word, { maxKeys: 5 }),
        },
        optional,
      ),
      apiServer: fc.record(
        {
          endpoint: fc.oneof(
            host.map((name) => `https://${name}:6443`),
            fc.constant('ssm:/api'),
          ),
          required: fc.boolean(),
        },
        { requiredKeys: ['endpoint'] },
      ),
      join: fc.record({
        token: fc.constantFrom('ssm:/a/token', '/etc/eniboot/token'),
        ca: fc.constantFrom(
          '/etc/ca.crt',
          'ssm:/a/ca',
          '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n',
        ),
        caCertHashes: fc.constant([`sha256:${'0'.repeat(64)}`]),
      }),
      boot: fc.record(
        {
          deadlineSeconds: fc.integer({ min: 10, max: 3600 }),
          throttleExtensionSeconds: fc.integer({ min: 0, max: 3600 }),
          onFailure: fc.constantFrom('hold', 'reboot-once', 'terminate'),
        },
        optional,
      ),
      aws: fc.record(
        {
          endpoints: fc.record({ ec2: fc.constant('http://10.0.0.5:4566') }, optional),
          tags: fc.dictionary(word, text, { maxKeys: 8 }),
        },
        optional,
      ),
      bundle: fc.record(
        {
          parameter: fc.constantFrom('/a/{zone-id}', '/b'),
          keys: fc.array(fc.constant('MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE='), {
            maxLength: 2,
          }),
          lowest: fc.constantFrom('1.4.0', '2.0.0-rc.1'),
        },
        optional,
      ),
    },
    { requiredKeys: ['cluster', 'pods'] },
  )
  // A node cannot join a cluster without its API server.
  .map(({ join, ...others }) =>
    join === undefined || others.apiServer === undefined ? others : { ...others, join },
  );
