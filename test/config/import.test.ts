// `eniboot config import`: the configuration from a conflist of the Lyft CNI, and the errors for a wrong conflist.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadConfig } from '../../agent/config/load.ts';
import { importLyft } from '../../agent/config/lyft.ts';
import type { ConfigProblem } from '../../agent/config/problem.ts';
import { isFailure } from '../../agent/messages/failure.ts';
import { eniboot } from '../cli/executable.ts';

const folder = mkdtempSync(join(tmpdir(), 'eniboot-import-'));
test.after(() => rmSync(folder, { recursive: true }));

const IPAM = 'cni-ipvlan-vpc-k8s-ipam';
const IPVLAN = 'cni-ipvlan-vpc-k8s-ipvlan';
const PTP = 'cni-ipvlan-vpc-k8s-unnumbered-ptp';
const sg = 'sg-0a1b2c3d4e5f67890';

function conflist(ipam: object, ipvlan: object = {}, ptp: object = {}, others: object[] = []): string {
  const chain = [
    { type: IPAM, interfaceIndex: 1, subnetTags: { role: 'pods' }, secGroupIds: [sg], ...ipam },
    { type: IPVLAN, mode: 'l2', ...ipvlan },
    { type: PTP, hostInterface: 'ens5', containerInterface: 'veth0', ipMasq: true, ...ptp },
    ...others,
  ];
  return JSON.stringify({ cniVersion: '0.3.1', name: 'lyft', plugins: chain }, null, 2);
}

const options = { cluster: 'prod', subnets: [] };
const imported = (content: string, more: object = {}) =>
  importLyft('x.conflist', content, { ...options, ...more });

function problemsOf(content: string, more: object = {}): ConfigProblem[] {
  try {
    imported(content, more);
  } catch (error) {
    if (isFailure(error, 'CONFIG_INVALID')) return error.facts['problems'] as ConfigProblem[];
    throw error;
  }
  return [];
}

test("the conflist of the Lyft CNI's README", () => {
  const { config, yaml, warnings, notes } = imported(
    conflist({
      reuseIPWait: 120,
      routeToCidrs: ['10.9.0.0/16'],
      skipDeallocation: true,
      routeToVpcPeers: false,
      ipBatchSize: 4,
    }),
  );
  assert.equal(config, {
    cluster: 'prod',
    pods: {
      subnets: { tags: { role: 'pods' } },
      securityGroups: { ids: [sg] },
      routes: ['10.9.0.0/16'],
    },
    pool: { restSeconds: 120 },
  });
  assert.equal(warnings, []);
  assert.equal(
    notes.filter((note) => note.kind === 'carried').map((note) => note.path),
    ['plugins[0].subnetTags', 'plugins[0].secGroupIds', 'plugins[0].reuseIPWait', 'plugins[0].routeToCidrs'],
  );
  assert.match(yaml, /^# +plugins\[2\]\.hostInterface: the boot ENI, found by its MAC$/m);
  const loaded = loadConfig([{ name: 'config.yaml', content: yaml }]);
  assert.equal(loaded.warnings, []);
  assert.is(loaded.config.pool.restSeconds, 120);
});

test("kOps' lyftvpc, each plugin with a CNI version of its own", () => {
  const text = JSON.stringify({
    cniVersion: '0.3.1',
    name: 'cni-ipvlan-vpc-k8s',
    plugins: [
      {
        cniVersion: '0.3.1',
        type: IPAM,
        interfaceIndex: 1,
        skipDeallocation: true,
        subnetTags: { KubernetesCluster: 'k.example.com' },
        secGroupIds: [sg],
      },
      { cniVersion: '0.3.1', type: IPVLAN, mode: 'l2' },
      { cniVersion: '0.3.1', type: PTP, hostInterface: 'eth0', containerInterface: 'veth0', ipMasq: true },
    ],
  });
  const { config, warnings } = imported(text);
  assert.equal((config['pods'] as Record<string, unknown>)['subnets'], {
    tags: { KubernetesCluster: 'k.example.com' },
  });
  assert.equal(warnings, []);
});

test('a setting without an equivalent is a warning with place and remedy, and a comment in the file', () => {
  const { warnings, yaml } = imported(
    conflist(
      { interfaceIndex: 0, routeToVpcPeers: true },
      { mode: 'l3', mtu: 1500, ipam: { type: 'host-local' } },
      { containerInterface: 'eth1', ipMasq: false, mtu: 1400, nodePortMark: 0x4000 },
      [{ type: 'portmap', capabilities: { portMappings: true } }],
    ),
  );
  assert.equal(
    warnings.map((warning) => warning.path),
    [
      'plugins[0].interfaceIndex',
      'plugins[0].routeToVpcPeers',
      'plugins[1].mode',
      'plugins[1].mtu',
      'plugins[1].ipam',
      'plugins[2].containerInterface',
      'plugins[2].ipMasq',
      'plugins[2].mtu',
      'plugins[2].nodePortMark',
      'plugins[3].type',
    ].sort((a, b) => Number(a[8]) - Number(b[8])),
  );
  for (const warning of warnings) {
    assert.ok(warning.line > 1 && warning.remedy.length > 10, warning.path);
    assert.ok(yaml.includes(`${warning.path} ${warning.problem}`), warning.path);
  }
  const silent = imported(conflist({}).replace(/ *"interfaceIndex": 1,\n/, ''));
  assert.match(silent.warnings[0]?.problem ?? '', /no interfaceIndex/);
});

test('without subnetTags the subnets must be given as an option, and with them not', () => {
  const bare = conflist({ subnetTags: {} });
  assert.match(problemsOf(bare)[0]?.remedy ?? '', /--subnets/);
  const subnets = ['subnet-0a1b2c3d4e5f60001', 'subnet-0a1b2c3d4e5f60002'];
  const { config } = imported(bare, { subnets });
  assert.equal((config['pods'] as Record<string, unknown>)['subnets'], { ids: subnets });
  assert.match(problemsOf(conflist({}), { subnets })[0]?.problem ?? '', /subnetTags already/);
  assert.is(problemsOf(bare, { subnets: ['subnet-1'] })[0]?.source, '--subnets');
  assert.is(problemsOf(conflist({}), { cluster: 'not a name' })[0]?.source, '--cluster');
});

test('bad input: place, value and remedy', () => {
  const cases: [string, string, RegExp][] = [
    ['not json', '', /is not JSON/],
    ['cluster: yaml', '', /is not JSON/],
    ['[]', '', /no list `plugins`/],
    ['{"type":"cni-ipvlan-vpc-k8s-ipam"}', '', /no list `plugins`/],
    ['{"plugins":[]}', 'plugins', /no plugin of the Lyft CNI/],
    ['{"plugins":[{"type":"bridge"}, 7, null]}', 'plugins', /no plugin of the Lyft CNI/],
    [conflist({ reuseIpWait: 60 }), 'plugins[0].reuseIpWait', /unknown key/],
    [conflist({}, {}, { hostInterfaces: 'x' }), 'plugins[2].hostInterfaces', /unknown key/],
    [conflist({ secGroupIds: sg }), 'plugins[0].secGroupIds', /must be a list of texts/],
    [conflist({ subnetTags: { a: 1 } }), 'plugins[0].subnetTags', /must be a map of texts/],
    [conflist({ reuseIPWait: -1 }), 'plugins[0].reuseIPWait', /must be a whole number/],
    [conflist({ reuseIPWait: '60' }), 'plugins[0].reuseIPWait', /must be a whole number/],
    [conflist({ skipDeallocation: 'yes' }), 'plugins[0].skipDeallocation', /true or false/],
    // A value that eniboot's own schema refuses is reported with the conflist's key.
    [conflist({ secGroupIds: [sg, 'sg-x'] }), 'plugins[0].secGroupIds[1]', /not the ID of a security group/],
    [conflist({ routeToCidrs: ['10.9.0.1/16'] }), 'plugins[0].routeToCidrs[0]', /./],
    [conflist({ reuseIPWait: 7200 }), 'plugins[0].reuseIPWait', /from 0 to 3600/],
  ];
  for (const [content, path, says] of cases) {
    const [problem] = problemsOf(content).filter((one) => one.path === path);
    assert.ok(problem, `${path}: ${JSON.stringify(problemsOf(content))}`);
    assert.match(problem?.problem ?? '', says);
    assert.is(problem?.source, 'x.conflist');
    assert.ok((problem?.remedy ?? '').length > 5 && (problem?.line ?? 0) > 0, path);
  }
  assert.is(problemsOf(conflist({ reuseIpWait: 60 }))[0]?.suggestion, 'reuseIPWait');
});

test('any conflist is either refused with problems, or becomes a file that config check accepts', () => {
  const key = fc.constantFrom(
    ...['secGroupIds', 'subnetTags', 'interfaceIndex', 'skipDeallocation', 'routeToVpcPeers', 'routeToCidrs'],
    ...[
      'reuseIPWait',
      'ipBatchSize',
      'master',
      'mode',
      'mtu',
      'ipMasq',
      'nodePorts',
      'nodePortMark',
      'dns',
      'typo',
    ],
  );
  const value = fc.oneof(
    fc.nat(5000),
    fc.boolean(),
    fc.string(),
    fc.array(fc.oneof(fc.constant(sg), fc.constant('10.1.0.0/16'), fc.string())),
    fc.dictionary(fc.string(), fc.string()),
    fc.jsonValue(),
  );
  const plugin = fc
    .tuple(fc.constantFrom(IPAM, IPVLAN, PTP, 'portmap'), fc.dictionary(key, value, { maxKeys: 4 }))
    .map(([type, rest]) => ({ ...rest, type }));
  let accepted = 0;
  fc.assert(
    fc.property(fc.array(plugin, { maxLength: 4 }), fc.boolean(), (chain, named) => {
      const content = JSON.stringify({ plugins: chain });
      const subnets = named ? ['subnet-0a1b2c3d4e5f60001'] : [];
      const problems = problemsOf(content, { subnets });
      if (problems.length > 0) {
        for (const problem of problems) assert.ok(problem.remedy !== '' && problem.source !== '');
        return;
      }
      accepted += 1;
      const { yaml, config } = imported(content, { subnets });
      const loaded = loadConfig([{ name: 'config.yaml', content: yaml }]).config;
      const pods = config['pods'] as Record<string, unknown>;
      assert.equal(loaded.pods.subnets, pods['subnets']);
      assert.equal(loaded.pods.routes, pods['routes'] ?? []);
    }),
    { numRuns: 2_000 },
  );
  assert.ok(accepted > 50, `${accepted} accepted`);
});

test('the command: the file on stdout, warnings on stderr, exit codes', async () => {
  const path = join(folder, 'x.conflist');
  writeFileSync(path, conflist({ routeToVpcPeers: true }));
  const good = await eniboot(['config', 'import', path, '--cluster', 'prod']);
  assert.is(good.code, 0, good.err);
  assert.match(good.err, /x\.conflist:\d+:\d+: warning: plugins\[0\]\.routeToVpcPeers looked up/);
  const made = join(folder, 'made.yaml');
  writeFileSync(made, good.out);
  assert.is((await eniboot(['config', 'check', made])).out, `valid: ${made}\n`);
  const json = await eniboot(['config', 'import', path, '--cluster=prod', '--json']);
  assert.is(json.err, '');
  assert.is(JSON.parse(json.out).yaml, good.out);
  writeFileSync(path, conflist({ typo: 1 }));
  const bad = await eniboot(['config', 'import', path, '--cluster', 'prod']);
  assert.is(bad.code, 1);
  assert.is(bad.out, '');
  assert.match(bad.err, /x\.conflist:\d+:\d+: error: plugins\[0\]\.typo is an unknown key/);
  const none = await eniboot(['config', 'import', join(folder, 'none'), '--cluster', 'prod']);
  assert.is(none.code, 1);
  assert.match(none.err, /^eniboot: FILE_READ: there is no file .*none\n {2}what to do: Check the path/);
  assert.not.match(none.err, /config\.yaml/, 'config.yaml is another file');
  for (const args of [[], [path], [path, path, '--cluster', 'x'], [path, '--clustr', 'x']])
    assert.is((await eniboot(['config', 'import', ...args])).code, 2, args.join(' '));
});

test.run();
