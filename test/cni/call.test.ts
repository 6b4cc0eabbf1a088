// The CNI specification's rules for a call, checked on the executable without a node, and fuzzed in-process.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isFailure } from '../../agent/messages/failure.ts';
import {
  readCommand,
  readConfiguration,
  readVariables,
  refuseRequests,
  supportedVersions,
} from '../../cni/call.ts';

const root = join(import.meta.dirname, '../..');
const executable = join(root, 'dist', process.arch === 'arm64' ? 'arm64' : 'x64', 'eniboot');
const conf = { cniVersion: '1.1.0', name: 'eniboot', type: 'eniboot' };
const good = {
  CNI_CONTAINERID: 'c1',
  CNI_NETNS: '/run/netns/none',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin',
};

function call(variables: Record<string, string>, input: unknown = conf) {
  const { status, stdout, stderr } = spawnSync(executable, [], {
    env: { PATH: process.env['PATH'], ...variables },
    input: typeof input === 'string' ? input : JSON.stringify(input),
    encoding: 'utf8',
    timeout: 30_000,
  });
  return { status, stderr, json: stdout === '' ? undefined : JSON.parse(stdout) };
}

/** Asserts the specification's error object: on standard output alone, with a failing exit. */
function refuses(code: number, says: RegExp, variables: Record<string, string>, input?: unknown): any {
  const { status, stderr, json } = call(variables, input);
  assert.is(json?.code, code, JSON.stringify(json));
  assert.match(json.msg, says);
  assert.type(json.cniVersion, 'string');
  assert.type(json.details, 'string');
  assert.is.not(status, 0);
  assert.is(stderr, '');
  return json;
}

test('VERSION needs nothing but the command', () => {
  const { status, json } = call({ CNI_COMMAND: 'VERSION' }, '');
  assert.is(status, 0);
  assert.equal(json, {
    cniVersion: '1.1.0',
    supportedVersions: ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  });
});

test('without CNI_COMMAND the executable is the command line', () => {
  const { status, stdout, stderr } = spawnSync(executable, [], { input: '', encoding: 'utf8', env: {} });
  assert.is(status, 2);
  assert.match(`${stdout}${stderr}`, /Usage: eniboot COMMAND/);
});

test('an unknown command is error 4', () => {
  for (const command of ['', 'add', 'UPDATE', 'constructor', '__proto__']) {
    refuses(4, /CNI_COMMAND/, { ...good, CNI_COMMAND: command });
  }
});

test('every missing variable is named', () => {
  const { msg } = refuses(4, /missing/, { CNI_COMMAND: 'ADD' });
  for (const name of Object.keys(good)) assert.ok(msg.includes(name), `${name} in ${msg}`);
  const check = refuses(4, /missing/, { CNI_COMMAND: 'CHECK', CNI_IFNAME: 'eth0', CNI_PATH: '/x' });
  assert.match(check.msg, /CNI_CONTAINERID, CNI_NETNS$/);
  const del = refuses(4, /missing/, { CNI_COMMAND: 'DEL' });
  assert.not.match(del.msg, /NETNS/);
  for (const command of ['STATUS', 'GC'])
    assert.match(refuses(4, /missing/, { CNI_COMMAND: command }).msg, /: CNI_PATH$/);
});

test('wrong variables are error 4', () => {
  const wrong: [string, string][] = [
    ['CNI_CONTAINERID', '-starts-with-a-dash'],
    ['CNI_CONTAINERID', 'a/b'],
    ['CNI_CONTAINERID', 'a,b'],
    ['CNI_CONTAINERID', 'x'.repeat(181)],
    ['CNI_IFNAME', 'sixteen-is-too-l'],
    ['CNI_IFNAME', '.'],
    ['CNI_IFNAME', '..'],
    ['CNI_IFNAME', 'a/b'],
    ['CNI_IFNAME', 'a:b'],
    ['CNI_IFNAME', 'a b'],
    ['CNI_IFNAME', 'a"b'],
    ['CNI_IFNAME', 'veth0'],
    ['CNI_NETNS', 'relative'],
    ['CNI_NETNS', '/run/net ns'],
    ['CNI_NETNS', '/run/netns/a\nlink del dev eth0'],
    ['CNI_ARGS', 'NoEqualsSign'],
  ];
  for (const [name, value] of wrong) {
    refuses(4, new RegExp(name), { ...good, CNI_COMMAND: 'ADD', [name]: value });
  }
});

test('DEL succeeds with requests that ADD would refuse, and refuses only what the specification forbids', () => {
  const of = (name: string, value: string) => ({ ...good, CNI_COMMAND: 'DEL', [name]: value });
  for (const [name, value] of [
    ['CNI_CONTAINERID', 'x'.repeat(181)],
    ['CNI_IFNAME', 'a"b'],
    ['CNI_IFNAME', 'veth0'],
    ['CNI_NETNS', 'relative'],
    ['CNI_NETNS', '/run/net ns'],
    ['CNI_NETNS', '/run/netns/a\nlink del dev eth0'],
  ] as const) {
    const { status, json } = call(of(name, value), conf);
    assert.is(status, 0, `${name}=${value}: ${JSON.stringify(json)}`);
    assert.is(json, undefined);
  }
  for (const [name, value] of [
    ['CNI_CONTAINERID', 'a/b'],
    ['CNI_IFNAME', 'sixteen-is-too-l'],
    ['CNI_IFNAME', '..'],
    ['CNI_IFNAME', 'a:b'],
  ] as const)
    refuses(4, new RegExp(name), of(name, value));
});

test('standard input that is not a JSON object is error 6', () => {
  for (const input of ['', 'not json', '[]', '"text"', 'null', '42', '{"cniVersion":', '\u0000']) {
    refuses(6, /standard input/, { ...good, CNI_COMMAND: 'ADD' }, input);
  }
});

test('versions: absent is 0.1.0, unknown is error 1, not a text is error 6, and each command has a first version', () => {
  for (const network of [{ name: 'eniboot' }, { ...conf, cniVersion: null }, { ...conf, cniVersion: '' }]) {
    assert.is(call({ ...good, CNI_COMMAND: 'DEL' }, network).status, 0);
    const add = { ...good, CNI_NETNS: '/proc/self/ns/uts', CNI_COMMAND: 'ADD' };
    assert.is(refuses(11, /NODE_NOT_READY/, add, network).cniVersion, '0.1.0');
  }
  for (const cniVersion of ['0.1.1', '2.0.0', 'v1.0.0', ' ']) {
    refuses(1, /cniVersion/, { ...good, CNI_COMMAND: 'DEL' }, { ...conf, cniVersion });
  }
  for (const cniVersion of [1, true, {}, []]) {
    refuses(6, /cniVersion/, { ...good, CNI_COMMAND: 'DEL' }, { ...conf, cniVersion });
  }
  refuses(1, /CHECK/, { ...good, CNI_COMMAND: 'CHECK' }, { ...conf, cniVersion: '0.3.1' });
  refuses(1, /STATUS/, { ...good, CNI_COMMAND: 'STATUS' }, { ...conf, cniVersion: '1.0.0' });
  refuses(1, /GC/, { ...good, CNI_COMMAND: 'GC' }, { ...conf, cniVersion: '1.0.0' });
});

test('an error has the version of the configuration', () => {
  for (const cniVersion of supportedVersions) {
    const error = refuses(3, /NETNS_GONE/, { ...good, CNI_COMMAND: 'ADD' }, { ...conf, cniVersion });
    assert.is(error.cniVersion, cniVersion);
  }
});

test('a missing or wrong network name is error 7', () => {
  for (const name of [undefined, '', '-x', 'a b', 7, null])
    refuses(7, /name/, { ...good, CNI_COMMAND: 'ADD' }, { ...conf, name });
});

test('a request that cannot be granted is error 2, which names field and value', () => {
  const asked: [Record<string, string>, Record<string, unknown>, RegExp][] = [
    [{}, { runtimeConfig: { ips: ['10.1.2.3/24'] } }, /runtimeConfig\.ips: \["10\.1\.2\.3\/24"\]/],
    [{}, { runtimeConfig: { ipRanges: [[{ subnet: '10.1.2.0/24' }]] } }, /runtimeConfig\.ipRanges: \[\[/],
    [{}, { runtimeConfig: { mac: '00:11:22:33:44:55' } }, /runtimeConfig\.mac: "00:11/],
    [{}, { args: { cni: { ips: ['10.1.2.3'] } } }, /args\.cni\.ips: \["10\.1\.2\.3"\]/],
    [{ CNI_ARGS: 'IgnoreUnknown=1;IP=10.1.2.3' }, {}, /CNI_ARGS IP: "10\.1\.2\.3"/],
    [{ CNI_ARGS: 'MAC=00:11:22:33:44:55' }, {}, /CNI_ARGS MAC/],
    [{}, { ipam: { type: 'host-local' } }, /ipam/],
  ];
  for (const [variables, config, says] of asked) {
    refuses(2, says, { ...good, ...variables, CNI_COMMAND: 'ADD' }, { ...conf, ...config });
  }
  refuses(7, /prevResult/, { ...good, CNI_COMMAND: 'ADD' }, { ...conf, prevResult: { cniVersion: '1.1.0' } });
});

test('unknown keys, empty requests and the arguments of Kubernetes are accepted', () => {
  refuses(
    3,
    /NETNS_GONE/,
    {
      ...good,
      CNI_COMMAND: 'ADD',
      CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c1',
      TRACEPARENT: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    },
    { ...conf, future: { key: 1 }, runtimeConfig: { ips: [], mac: '', portMappings: [{ hostPort: 80 }] } },
  );
});

test("a namespace that is gone is error 3, the node's own is error 8, a node that has not booted 11", () => {
  refuses(3, /NETNS_GONE/, { ...good, CNI_COMMAND: 'ADD' });
  refuses(8, /NETNS_OWN/, { ...good, CNI_COMMAND: 'ADD', CNI_NETNS: '/proc/self/ns/net' });
  refuses(11, /NODE_NOT_READY/, { ...good, CNI_COMMAND: 'ADD', CNI_NETNS: '/proc/self/ns/uts' });
  refuses(50, /node\.json/, { ...good, CNI_COMMAND: 'STATUS' });
});

test('GC without the list of attachments to keep frees nothing: error 7', () => {
  for (const list of [undefined, {}, 'all', [1], [{}], [{ containerID: 'a' }]]) {
    refuses(
      7,
      /valid-attachments/,
      { ...good, CNI_COMMAND: 'GC' },
      { ...conf, 'cni.dev/valid-attachments': list },
    );
  }
});

test('DEL of a pod that was never added succeeds with no output', () => {
  for (const netns of ['', '/run/netns/none', '/proc/self/ns/net']) {
    const { status, json, stderr } = call({ ...good, CNI_COMMAND: 'DEL', CNI_NETNS: netns });
    assert.equal({ status, json, stderr }, { status: 0, json: undefined, stderr: '' });
  }
});

const codesOf = {
  command: ['CNI_ENVIRONMENT'],
  configuration: ['CNI_INPUT', 'CNI_VERSION', 'CNI_CONFIG'],
  requests: ['CNI_FIELD', 'CNI_CONFIG'],
} as const;

function onlyFails(codes: readonly string[], work: () => unknown): void {
  try {
    work();
  } catch (error) {
    if (!isFailure(error) || !codes.includes(error.code)) throw error;
  }
}

test('2,000 random environments give variables or error 4', () => {
  const text = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.constantFrom('eth0', 'c1', '/run/netns/x', ''),
  );
  const names = ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH', 'CNI_ARGS'];
  fc.assert(
    fc.property(
      fc.constantFrom('ADD', 'DEL', 'CHECK', 'GC'),
      fc.array(text, { minLength: 5, maxLength: 5 }),
      (command, values) => {
        onlyFails(codesOf.command, () => {
          const read = readVariables(readCommand(command), (name) => values[names.indexOf(name)]);
          if (command === 'GC') return;
          // Accepted values can stand in a line of `ip -batch` and in a file name without quoting. DEL only compares the interface.
          const ifName = command === 'DEL' ? '' : read.ifName;
          assert.match(`${read.containerId}${ifName}${read.netns}`, /^[\w./:@+=,~-]+$/);
        });
      },
    ),
    { numRuns: 2_000 },
  );
});

test('2,000 random configurations give a configuration or error 1, 2, 6 or 7', () => {
  const value = fc.oneof(
    fc.json(),
    fc.string(),
    fc
      .record(
        {
          // Mostly good values, so that the checks after the first are reached as well.
          cniVersion: fc.oneof(
            { weight: 9, arbitrary: fc.constantFrom(...supportedVersions) },
            { weight: 1, arbitrary: fc.oneof(fc.constant('9.9.9'), fc.jsonValue()) },
          ),
          name: fc.oneof(
            { weight: 9, arbitrary: fc.constant('eniboot') },
            { weight: 1, arbitrary: fc.jsonValue() },
          ),
          runtimeConfig: fc.jsonValue(),
          args: fc.jsonValue(),
          ipam: fc.jsonValue(),
          prevResult: fc.jsonValue(),
        },
        { requiredKeys: ['name'] },
      )
      .map((one) => JSON.stringify(one)),
  );
  let accepted = 0;
  fc.assert(
    fc.property(
      value,
      fc.constantFrom('ADD' as const, 'DEL' as const, 'GC' as const),
      fc.oneof(fc.constant(''), fc.string()),
      (input, command, args) => {
        onlyFails(codesOf.configuration, () => {
          const configuration = readConfiguration(command, input);
          onlyFails(codesOf.requests, () => {
            refuseRequests(configuration, args);
            accepted += 1;
          });
        });
      },
    ),
    { numRuns: 2_000 },
  );
  assert.ok(accepted > 10, 'without a good random configuration the checks after the first were not reached');
});

test("the plugin's half of the executable loads no package and none of the agent's heavy parts", () => {
  const seen = new Set<string>();
  const packages = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const [, target = ''] of readFileSync(file, 'utf8').matchAll(
      // An import of types alone is not in the executable.
      /^(?:import|export) (?!type )[^;]*?from '([^']+)'/gm,
    )) {
      if (target.startsWith('.')) visit(resolve(dirname(file), target));
      else if (!target.startsWith('node:')) packages.add(target);
    }
  };
  assert.not.match(readFileSync(join(root, 'agent/main.ts'), 'utf8'), /^import/m);
  visit(join(root, 'cni/process.ts'));
  const files = [...seen].map((file) => relative(root, file));
  assert.equal([...packages], []);
  assert.equal(
    files.filter((file) => /^agent\/(aws|boot|cli|config|rollout)\//.test(file)),
    [],
  );
  assert.ok(files.includes('cni/add.ts') && files.includes('agent/pool/lease.ts'), files.join(' '));
});

test.run();
