// time limit: 300 s
// The metrics of a running node, read with Prometheus's own parser, compared with what was done on the node.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Description, series } from '../../agent/boot/verdict/series.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, conf, type PodNode, variablesOf } from './rig.ts';

const descriptions: Record<string, Description> = series;

interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

let cloud: Cloud;
let node: PodNode;

test.before(async () => {
  cloud = await startCloud();
  node = await bootPodNode(cloud, { config: configText(cloud, 'pool: { target: 32, restSeconds: 3600 }\n') });
});
test.after(() => cloud.stop());

/** Family → its type and samples, read by the official Python client. */
function parse(text: string): Record<string, { type: string; help: string; samples: Sample[] }> {
  const script = `import json, sys
from prometheus_client.parser import text_string_to_metric_families as parse
print(json.dumps([[f.name, f.type, f.documentation, [[s.name, s.labels, s.value] for s in f.samples]] for f in parse(sys.stdin.read())]))`;
  const families: [string, string, string, [string, Record<string, string>, number][]][] = JSON.parse(
    execFileSync('/usr/bin/python3', ['-c', script], { input: text, encoding: 'utf8' }),
  );
  return Object.fromEntries(
    families.map(([name, type, help, samples]) => [
      // The parser takes the suffix off a counter's name.
      type === 'counter' ? `${name}_total` : name,
      { type, help, samples: samples.map(([sample, labels, value]) => ({ name: sample, labels, value })) },
    ]),
  );
}

const file = (name: string) => node.instance.read(`/var/lib/eniboot/metrics/${name}`) ?? '';
const sum = (samples: Sample[], wanted: Record<string, string>, name?: string): number =>
  samples
    .filter(
      (one) =>
        (name ?? one.name) === one.name &&
        Object.entries(wanted).every(([key, value]) => one.labels[key] === value),
    )
    .reduce((total, one) => total + one.value, 0);

test('calls, their phases, EC2 and the pool, after a refill', async () => {
  const pods = ['m1', 'm2', 'm3'];
  for (const name of pods) await node.addPod(name);
  await node.cni('DEL', variablesOf('m3', '/run/netns/m3'));
  const gone = await node.cni('ADD', variablesOf('m4', '/run/netns/gone'), conf);
  assert.is.not(gone.exit, 0);
  // Not counted: STATUS and VERSION neither start nor end a pod.
  await node.cni('STATUS', {});
  assert.is(file('node.prom'), '');
  const refill = await node.eniboot(['pool', 'refill']);
  assert.is(refill.exitCode, 0, refill.stderr);
  const found = parse(file('node.prom'));
  const calls = found['eniboot_cni_calls_total']?.samples ?? [];
  assert.is(sum(calls, { plugin: 'eniboot', command: 'ADD', code: 'OK' }), 3);
  assert.is(sum(calls, { plugin: 'eniboot', command: 'DEL', code: 'OK' }), 1);
  assert.is(sum(calls, { plugin: 'eniboot', command: 'ADD', code: 'NETNS_GONE' }), 1);
  assert.is(sum(calls, {}), 5);
  const times = found['eniboot_cni_seconds']?.samples ?? [];
  for (const phase of ['start', 'lease', 'kernel', 'total']) {
    const wanted = { command: 'ADD', phase, outcome: 'ok' };
    assert.is(sum(times, wanted, 'eniboot_cni_seconds_count'), 3, phase);
    assert.is(sum(times, { ...wanted, le: '+Inf' }, 'eniboot_cni_seconds_bucket'), 3, phase);
    const seconds = sum(times, wanted, 'eniboot_cni_seconds_sum');
    assert.ok(seconds > 0 && seconds < 30, `${phase}: ${seconds} s`);
  }
  const part = (phase: string) =>
    sum(times, { command: 'ADD', phase, outcome: 'ok' }, 'eniboot_cni_seconds_sum');
  assert.ok(part('start') + part('lease') + part('kernel') <= part('total'));
  assert.is(
    sum(times, { command: 'ADD', phase: 'total', outcome: 'failed' }, 'eniboot_cni_seconds_count'),
    1,
  );
  const addresses = found['eniboot_pool_addresses']?.samples ?? [];
  assert.is(sum(addresses, { state: 'leased' }), 2);
  assert.is(sum(addresses, { state: 'resting' }), 1);
  assert.is(sum(addresses, {}), 32);
  assert.match(addresses[0]?.labels['eni'] ?? '', /^eni-/);
  const ec2 = found['eniboot_ec2_calls_total']?.samples ?? [];
  assert.is(sum(ec2, { action: 'CreateNetworkInterface', outcome: 'accepted' }), 1, "the boot's call");
  assert.ok(
    sum(ec2, { action: 'DescribeNetworkInterfaces', outcome: 'accepted' }) >= 2,
    'calls of boot and refill',
  );
});

test('collect continues the counters of refill', async () => {
  // As the service of network policies has saved it.
  const pods = { isolated: 2, open: 1, pending: 0 };
  const counts = { totals: { 'ingress x/n': 7 }, seen: { 'pod a ingress': 3 }, pods };
  node.instance.write('/run/eniboot-policy/counts.json', JSON.stringify(counts));
  await node.cni('DEL', variablesOf('m2', '/run/netns/m2'));
  const { exitCode, stderr } = await node.eniboot(['pool', 'collect']);
  assert.is(exitCode, 0, stderr);
  const found = parse(file('node.prom'));
  assert.is(sum(found['eniboot_cni_calls_total']?.samples ?? [], { command: 'DEL' }), 2);
  assert.is(sum(found['eniboot_cni_calls_total']?.samples ?? [], { command: 'ADD' }), 4);
  const denied = found['eniboot_policy_denied_packets_total']?.samples ?? [];
  assert.is(sum(denied, { policy: 'x/n', direction: 'ingress' }), 7);
  assert.is(sum(found['eniboot_policy_pods']?.samples ?? [], { state: 'isolated' }), 2);
});

test('the page has every series that is written: type, text and labels', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/metrics.md'), 'utf8');
  for (const name of ['boot.prom', 'node.prom']) {
    const found = parse(file(name));
    for (const [family, { type, help, samples }] of Object.entries(found)) {
      const described = descriptions[family];
      assert.is(described?.type, type, family);
      assert.is(described?.help, help, family);
      assert.is(described?.file, name, family);
      assert.ok(page.includes(`| \`${family}\` | ${type} |`), `${family} is not on the page`);
      for (const { labels } of samples) {
        const { le: _, ...own } = labels;
        assert.equal(Object.keys(own).sort(), Object.keys(described?.labels ?? {}).sort(), family);
      }
    }
    // A node without shares by CPU has no series of pods without a share.
    const missing = Object.entries(descriptions).filter(
      ([family, one]) =>
        one.file === name && found[family] === undefined && family !== 'eniboot_cni_unshared_total',
    );
    assert.equal(missing, [], name);
  }
});

test('a label may hold any text', async () => {
  const { exposition } = await import('../../agent/boot/verdict/series.ts');
  const text = 'a "quoted" \\ back\nslash';
  const found = parse(
    exposition([{ name: 'eniboot_boot_ready', labels: { version: text, code: '' }, value: 1 }]),
  );
  assert.is(found['eniboot_boot_ready']?.samples[0]?.labels['version'], text);
});

test.run();
