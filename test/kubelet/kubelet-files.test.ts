// The files that kubelet and cri-o read, byte for byte, for four kubelets; and values that must not reach them.
// UPDATE_GOLDEN=1 rewrites the expected files.
import { readFileSync, writeFileSync } from 'node:fs';
import { parse as parseToml } from 'smol-toml';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parse as parseYaml } from 'yaml';
import { kubeletFiles, supportedKubelets } from '../../agent/boot/phases/kubelet/files.ts';
import { isFailure } from '../../agent/messages/failure.ts';
import { node } from './node.ts';

const here = new URL('./', import.meta.url);
const fields: { fieldsOf30: string[]; changes: Record<string, { added: string[]; removed: string[] }> } =
  JSON.parse(readFileSync(new URL('fields.json', here), 'utf8'));

for (const version of ['Kubernetes v1.30.14', 'v1.33.4', '1.35', 'Kubernetes v1.36.6'])
  test(`golden files, kubelet ${version}`, () => {
    const files = kubeletFiles({ ...node, kubeletVersion: version });
    assert.equal(
      files.map(({ path, copy, mode }) => [path, copy, mode]),
      [
        ['/run/eniboot/kubelet/10-eniboot.conf', '/etc/kubernetes/kubelet.conf.d/10-eniboot.conf', 0o644],
        ['/run/eniboot/kubelet.env', undefined, 0o644],
        ['/run/eniboot/crio/10-eniboot.conf', '/etc/crio/crio.conf.d/10-eniboot.conf', 0o644],
      ],
    );
    for (const [at, name] of ['kubelet.conf', 'kubelet.env', 'crio.conf'].entries())
      assert.is(files[at]?.text, golden(name, files[at]?.text ?? ''), name);
  });

test('every field written exists in every supported kubelet', () => {
  const written = Object.keys(configuration({})).filter((key) => !['apiVersion', 'kind'].includes(key));
  const known = new Set(fields.fieldsOf30);
  for (let minor = supportedKubelets.oldest; minor <= supportedKubelets.newest; minor += 1) {
    const change = fields.changes[`${minor}`] ?? { added: [], removed: [] };
    assert.ok(minor === 30 || fields.changes[`${minor}`], `1.${minor} is not in fields.json`);
    for (const name of change.added) known.add(name);
    for (const name of change.removed) known.delete(name);
    for (const name of written) assert.ok(known.has(name), `${name} in 1.${minor}`);
  }
});

test('versions that are not in fields.json are refused, with the supported range', () => {
  for (const kubeletVersion of [
    '1.29',
    'Kubernetes v1.29.15',
    'v1.38.0-alpha.0',
    '2.30.0',
    '',
    'v1',
    '1.3',
    '1.300.1',
    'kubelet: not found',
  ])
    assert.throws(
      () => kubeletFiles({ ...node, kubeletVersion }),
      (error: unknown) =>
        isFailure(error, 'KUBELET_UNSUPPORTED') &&
        error.message.includes('1.30 to 1.37') &&
        error.remedy !== '',
      kubeletVersion,
    );
});

test('kubelet always gets its node IP', () => {
  for (const nodeIps of [[], [''], ['10.0.0'], ['fd00::1'], ['10.0.0.5 --v=9'], ['10.0.0.5', '10.0.0.6']])
    assert.throws(
      () => kubeletFiles({ ...node, nodeIps }),
      (error: unknown) => isFailure(error, 'INTERNAL'),
      nodeIps.join(),
    );
});

test('distribution and pre-release versions are understood', () => {
  for (const kubeletVersion of [
    'v1.37.0-rc.1',
    'Kubernetes v1.34.1+k3s1',
    'Kubernetes v1.30.0-eks-036c24b\n',
  ])
    kubeletFiles({ ...node, kubeletVersion });
});

test('the resolver is one that pods can reach', () => {
  const upstream = '/run/systemd/resolve/resolv.conf';
  const texts: [string, string][] = [
    ['nameserver 127.0.0.53\n', upstream],
    ['search a\n  nameserver\t127.0.0.54', upstream],
    ['nameserver 10.0.0.2\n', '/etc/resolv.conf'],
    ['# nameserver 127.0.0.53\nnameserver 10.0.0.2\n', '/etc/resolv.conf'],
    ['nameserver 127.0.0.531\n', '/etc/resolv.conf'],
    ['', '/etc/resolv.conf'],
  ];
  for (const [resolvConf, expected] of texts)
    assert.is(configuration({ resolvConf })['resolvConf'], expected, JSON.stringify(resolvConf));
});

test('without a cluster DNS address the operator may set the field', () => {
  assert.not.ok('clusterDNS' in configuration({ clusterDns: [] }));
});

test('the flags split at blanks into exactly three, as systemd will split them', () => {
  const line = text('/run/eniboot/kubelet.env').split('\n')[1] ?? '';
  const value = /^ENIBOOT_KUBELET_ARGS="([^"\\$`]*)"$/.exec(line)?.[1];
  assert.equal(
    value?.split(' ').map((flag) => flag.split('=')[0]),
    ['--config-dir', '--node-ip', '--node-labels'],
  );
});

test("cri-o: network by name, one plugin folder, kubelet's cgroup driver", () => {
  // The parser's objects have no prototype.
  const crio = structuredClone(parseToml(text('/run/eniboot/crio/10-eniboot.conf')));
  assert.equal(crio, {
    crio: {
      network: {
        cni_default_network: 'eniboot',
        network_dir: '/etc/cni/net.d/',
        plugin_dirs: ['/opt/cni/bin/'],
      },
      runtime: { cgroup_manager: configuration({})['cgroupDriver'] },
    },
  });
});

test('the same node gives the same bytes', () => {
  assert.equal(kubeletFiles(node), kubeletFiles(structuredClone(node)));
});

function text(path: string): string {
  return kubeletFiles(node).find((file) => file.path === path)?.text ?? '';
}

function configuration(change: Partial<typeof node>): Record<string, unknown> {
  return parseYaml(kubeletFiles({ ...node, ...change })[0]?.text ?? '');
}

function golden(name: string, actual: string): string {
  const file = new URL(`golden/${name}`, here);
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(file, actual);
  return readFileSync(file, 'utf8');
}

test("with containerd in place of cri-o, kubelet uses containerd's socket", () => {
  const [config] = kubeletFiles({ ...node, runtime: 'containerd' });
  assert.match(config?.text ?? '', /containerRuntimeEndpoint: unix:\/\/\/run\/containerd\/containerd\.sock/);
});

test.run();
