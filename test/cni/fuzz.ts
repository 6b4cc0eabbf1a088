// Malformed environments, inputs and state files for the three plugins. Each input is damaged in known ways, so the code of
// the answer is known, too; no call may leave anything. The calls run in-process through the plugins' own entry, and as
// processes, whose answer must be the same. The caller runs in a sandbox (test/sandbox.sh) as root.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { NODE_FILE, nodeFileText } from '../../agent/host/node-file.ts';
import { NEVER_USED, POOL_DIR } from '../../agent/pool/entry.ts';
import { takeLease } from '../../agent/pool/lease.ts';
import { addToPool } from '../../agent/pool/prefixes.ts';
import { supportedVersions } from '../../cni/call.ts';
import { runPlugin } from '../../cni/main.ts';

const PLUGINS = ['eniboot', 'eniboot-ipam', 'eniboot-ptp'] as const;
type Plugin = (typeof PLUGINS)[number];
const COMMANDS = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS'] as const;
type Command = (typeof COMMANDS)[number];

const ENI = 'eni-0123456789abcdef0';
const MAC = '02:00:00:00:00:66';
const DEVICE = 'ens6';
const GOOD_NETNS = '/run/netns/good';
const LINKS = '/run/plugins';
/** The codes of README.md without 199, which is a defect. */
const CODES = [1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51, 100, 101, 102];

const node = nodeFileText({
  schema: 1,
  instanceId: 'i-0',
  nodeAddresses: ['10.0.0.4'],
  mtu: 9001,
  podRoutes: ['10.0.0.0/16'],
  egressRoutes: [],
  allowImds: false,
  ipv6: { nodeAddresses: ['2001:db8:1::5'], serviceCidrs: ['fd00:10:96::/108'] },
  restMs: 60_000,
  lowWater: 4,
  podEnis: [{ eniId: ENI, mac: MAC, subnetCidr: '10.0.64.0/20', ipv6Prefix: '2001:db8:1:2:3::/80' }],
});

interface Call {
  plugin: Plugin;
  variables: Record<string, string | undefined>;
  input: string;
}

interface Answer {
  exit: number;
  stdout: string;
}

/** One way to damage a call, and the codes that may answer it; 0 is success. */
interface Damage {
  name: string;
  codes: number[];
  apply(call: Call, config: Record<string, unknown>): void;
}

export interface Tally {
  inputs: number;
  /** Answers by code; 0 is success. */
  codes: Record<number, number>;
}

/** Makes devices, a namespace and links to the executable. Called once. */
export function prepare(executable: string): void {
  execFileSync('ip', ['-batch', '-'], {
    input: `link add ${DEVICE} address ${MAC} type veth peer name router\nlink set ${DEVICE} up\nlink set router up\nnetns add good\n`,
  });
  mkdirSync(LINKS, { recursive: true });
  for (const plugin of PLUGINS) symlinkSync(executable, `${LINKS}/${plugin}`);
}

/** Runs random calls with no, one or two damages. Throws with the seed and the smallest call with a wrong answer. */
export function fuzzCalls(count: number, seed: number): Tally {
  const tally: Tally = { inputs: 0, codes: {} };
  pristine = undefined;
  holds(
    fc.property(calls, ({ call, codes }) => {
      const before = sameWorld();
      const answer = inProcess(call);
      note(tally, judge(answer, codes));
      leaveNothing(call, answer, before);
    }),
    count,
    seed,
  );
  return tally;
}

/** Runs the same calls as processes: exit code and answer must equal those of the call in-process. */
export function fuzzProcesses(count: number, seed: number): Tally {
  const tally: Tally = { inputs: 0, codes: {} };
  pristine = undefined;
  holds(
    fc.property(calls, ({ call, codes }) => {
      const before = sameWorld();
      const answer = asProcess(call);
      const code = judge(answer, codes);
      leaveNothing(call, answer, before);
      sameWorld();
      const expected = inProcess(call);
      leaveNothing(call, expected, before);
      if (judge(expected, codes) !== code)
        throw new Error(`as a process ${answer.stdout}, else ${expected.stdout}`);
      note(tally, code);
    }),
    count,
    seed,
  );
  return tally;
}

/** Damages state files; after each damage runs one call of every command. No call is a defect, no address is lost or doubled. */
export function fuzzState(count: number, seed: number): Tally {
  const tally: Tally = { inputs: 0, codes: {} };
  holds(
    fc.property(fc.constantFrom(...PLUGINS), damages, (plugin, list) => {
      freshWorld();
      for (const damage of list) damageState(damage);
      const before = addresses();
      for (const command of ['STATUS', 'CHECK', 'ADD', 'GC', 'DEL'] as const) {
        const call = goodCall(plugin, command, '1.1.0');
        note(tally, judge(inProcess(call), [0, 5, 7, 11, 50, 51, 100, 101, 102]));
      }
      const after = addresses();
      if (before.some((address) => !after.includes(address))) throw new Error(`lost: ${before} → ${after}`);
      if (kernel() !== '') throw new Error(`left in the kernel: ${kernel()}`);
    }),
    count,
    seed,
  );
  return tally;
}

/** As fc.assert, but the message begins with the failure. */
function holds<T>(property: fc.IProperty<T>, count: number, seed: number): void {
  try {
    fc.assert(property, { numRuns: count, seed });
  } catch (error) {
    const { cause, message } = error as Error;
    throw new Error(`${cause instanceof Error ? cause.message : String(cause)}\n${message}`, {
      cause: error,
    });
  }
}

function note(tally: Tally, code: number): void {
  tally.inputs += 1;
  tally.codes[code] = (tally.codes[code] ?? 0) + 1;
}

function inProcess({ plugin, variables, input }: Call): Answer {
  let stdout = '';
  const exit = runPlugin({
    name: plugin,
    environment: (name) => variables[name],
    input: (limit) => input.slice(0, limit),
    stdout: (text) => {
      stdout += text;
    },
  });
  return { exit, stdout };
}

function asProcess({ plugin, variables, input }: Call): Answer {
  const given = Object.entries(variables).filter(([, value]) => value !== undefined);
  const result = spawnSync(`${LINKS}/${plugin}`, [], {
    env: { PATH: process.env['PATH'], ...Object.fromEntries(given) },
    input,
    encoding: 'utf8',
    timeout: 30_000,
  });
  if (result.stderr !== '') throw new Error(`standard error: ${result.stderr}`);
  return { exit: result.status ?? -1, stdout: result.stdout };
}

/** The code of an answer, 0 for success. Throws when the form is wrong or the code is none of `codes`. */
function judge({ exit, stdout }: Answer, codes: number[]): number {
  if (exit === 0) {
    if (stdout !== '') JSON.parse(stdout);
    if (codes.includes(0)) return 0;
    throw new Error(`it succeeded, and the code should be one of ${codes}: ${stdout}`);
  }
  const { cniVersion, code, msg, details } = JSON.parse(stdout) as Record<string, unknown>;
  const lawful =
    exit === 1 &&
    supportedVersions.some((version) => version === cniVersion) &&
    typeof msg === 'string' &&
    typeof details === 'string' &&
    typeof code === 'number' &&
    CODES.includes(code);
  if (lawful && codes.includes(code)) return code;
  throw new Error(`${stdout.slice(0, 2_000)} and the code should be one of ${codes}`);
}

/** Asserts that a failed call has changed nothing; a DEL ends a successful one. */
function leaveNothing(call: Call, { exit }: Answer, before: string): void {
  if (exit === 0 && call.variables['CNI_COMMAND'] === 'ADD') {
    const del = inProcess({
      ...call,
      plugin: 'eniboot',
      variables: { ...call.variables, CNI_COMMAND: 'DEL' },
    });
    judge(del, [0]);
  }
  const after = world();
  const changes = exit === 0 && ['ADD', 'DEL', 'GC'].includes(call.variables['CNI_COMMAND'] ?? '');
  // After a success a free address may be resting: the addresses are the same.
  if (changes ? addressesOf(after) !== addressesOf(before) : after !== before)
    throw new Error(`it left: ${after}\nbefore: ${before}`);
  if (kernel() !== '') throw new Error(`left in the kernel: ${kernel()}`);
}

// The state on disk: a pool with four addresses, one of them leased, and the files of a boot.

/** A text of the fresh state; undefined when files may be damaged that the text does not cover. */
let pristine: string | undefined;

/** Makes the state again only when the last call has changed it. */
function sameWorld(): string {
  if (pristine === undefined || world() !== pristine) freshWorld();
  return world();
}

function freshWorld(): void {
  rmSync(dirname(NODE_FILE), { recursive: true, force: true });
  addToPool({ eniId: ENI, cidr: '10.0.64.16/30' }, NEVER_USED);
  writeAt(NODE_FILE, node);
  const options = { eniIds: [ENI], restMs: 0, nowMs: 0, lowWater: 0 };
  const { address } = takeLease({ containerId: 'other', ifName: 'eth0' }, options);
  writeAt(`${POOL_DIR}/leased/${address},${ENI},other,eth0`, `other\n/run/netns/other\nelsewhere\n`);
  pristine = world();
}

function writeAt(path: string, bytes: string | Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
}

function world(): string {
  return ['free', 'leased', 'cooling', 'retiring']
    .flatMap((state) => names(`${POOL_DIR}/${state}`).map((name) => `${state}/${name}`))
    .join(' ');
}

function addressesOf(text: string): string {
  return (text.match(/\d+\.\d+\.\d+\.\d+/g) ?? []).sort().join(' ');
}

function addresses(): string[] {
  return [...new Set(world().match(/10\.0\.64\.\d+/g) ?? [])].sort();
}

function names(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
}

/** Links are read every time, rules and routes only sometimes: reading takes longer than most calls. */
let looks = 0;
function kernel(): string {
  const links = names('/sys/class/net').filter((name) => name.startsWith('enb'));
  looks += 1;
  const script =
    'ip rule show | grep -v lookup.local | grep -v lookup.main | grep -v lookup.default; ip route show table all proto 140; ip -n good -br link | grep -v ^lo';
  const more = looks % 50 === 0 ? spawnSync('sh', ['-c', script], { encoding: 'utf8' }).stdout : '';
  return [...links, more].filter((text) => text !== '').join(' ');
}

// Good calls, and damages.

function goodCall(plugin: Plugin, command: Command, cniVersion: string): Call {
  return {
    plugin,
    variables: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: 'c1',
      CNI_NETNS: GOOD_NETNS,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/opt/cni/bin',
    },
    input: JSON.stringify(goodConfig(plugin, command, cniVersion)),
  };
}

function goodConfig(plugin: Plugin, command: Command, cniVersion: string): Record<string, unknown> {
  const prevResult = { cniVersion, interfaces: [], ips: [{ address: '10.0.64.17/20' }], routes: [] };
  return {
    cniVersion,
    name: 'pods',
    type: plugin,
    ...(command === 'CHECK' || (command === 'ADD' && plugin === 'eniboot-ptp') ? { prevResult } : {}),
    ...(command === 'GC' ? { 'cni.dev/valid-attachments': [{ containerID: 'other', ifname: 'eth0' }] } : {}),
  };
}

const kernelHasIpvlan =
  spawnSync('unshare', [
    '--net',
    'sh',
    '-c',
    'ip link add a type veth peer name b && ip link add link a name c type ipvlan',
  ]).status === 0;

/** The codes that answer an undamaged call in this state. */
function codesOfGood(plugin: Plugin, command: Command): number[] {
  if (command === 'ADD' && plugin === 'eniboot') return kernelHasIpvlan ? [0] : [100];
  // No address is leased for this container.
  if (command === 'ADD' && plugin === 'eniboot-ptp') return [7];
  return command === 'CHECK' ? [102] : [0];
}

const junk = fc.oneof(
  fc.jsonValue(),
  fc.string({ unit: 'binary' }),
  fc.constantFrom<unknown>(
    null,
    '',
    0,
    -1,
    1e99,
    [],
    {},
    [[[]]],
    '\u0000',
    '../..',
    '__proto__',
    'constructor',
  ),
);
const text = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.constantFrom('', ' ', '..', '/', 'a/b', 'a\nb', '$(id)', '%s'),
);
const isText = (value: unknown, pattern: RegExp) => typeof value === 'string' && pattern.test(value);

function of(name: string, codes: number[], apply: Damage['apply']): Damage {
  return { name, codes, apply };
}

/** Arbitrary values for one key of the configuration, which this code must refuse. */
function key(
  name: string,
  code: number,
  isGood: (value: unknown) => boolean,
  values: fc.Arbitrary<unknown> = junk,
) {
  return values
    .filter((value) => value !== undefined && !isGood(value))
    .map((value) =>
      of(`${name} = ${JSON.stringify(value)}`, [code], (_, config) =>
        Object.assign(config, { [name]: value }),
      ),
    );
}

function variable(name: string, pattern: RegExp, fine: (value: string) => boolean = () => false) {
  return text
    .filter((value) => !value.includes('\0') && !pattern.test(value) && !fine(value))
    .map((value) =>
      of(`${name} = ${JSON.stringify(value)}`, [4], (call) =>
        Object.assign(call.variables, { [name]: value }),
      ),
    );
}

const isEmpty = (value: unknown) =>
  value === undefined ||
  value === null ||
  value === '' ||
  value === false ||
  (typeof value === 'object' && Object.keys(value ?? {}).length === 0);

/** An absent version means 0.1.0; libcni takes null and an empty text for absent. */
const isNoVersion = (value: unknown) => value === null || value === '';

/** Damages of any command, in the order in which a call is read. */
const always: fc.Arbitrary<Damage>[] = [
  text
    .filter((value) => !value.includes('\0') && !['VERSION', ...COMMANDS].some((one) => one === value))
    .map((value) =>
      of(`command ${JSON.stringify(value)}`, [4], (call) =>
        Object.assign(call.variables, { CNI_COMMAND: value }),
      ),
    ),
  fc.constant(of('no CNI_PATH', [4], (call) => Object.assign(call.variables, { CNI_PATH: undefined }))),
  fc
    .oneof(
      fc.string(),
      fc.string({ unit: 'binary' }),
      fc.constantFrom('', '[]', 'null', '1', '"x"', '{', '{"a":', '['.repeat(100_000)),
    )
    .filter((input) => !isJsonObject(input))
    .map((input) =>
      of(`input ${JSON.stringify(input.slice(0, 80))}`, [6], (call) => Object.assign(call, { input })),
    ),
  key('cniVersion', 1, (value) => isNoVersion(value) || supportedVersions.some((one) => one === value), text),
  key('cniVersion', 6, (value) => isNoVersion(value) || typeof value === 'string'),
  key('name', 7, (value) => isText(value, /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/)),
  key('dns', 7, (value) => typeof value === 'object' && !Array.isArray(value)),
];

const ofPod: fc.Arbitrary<Damage>[] = [
  variable('CNI_CONTAINERID', /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/),
  variable(
    'CNI_ARGS',
    /^([^=;]+=[^;]*)(;[^=;]+=[^;]*)*$/,
    (value) => value === '' || value.split(';').every((one) => /^[^=]+=/.test(one)),
  ),
];

/** The specification's rule for interface names. */
function isInterfaceName(value: string): boolean {
  return /^(?!\.\.?$)[^/:\s]+$/.test(value) && Buffer.byteLength(value) <= 15;
}

/** DEL is less strict than ADD about these: no ADD could have made such an interface. */
const ofPodThatIs: fc.Arbitrary<Damage>[] = [variable('CNI_IFNAME', /^[\w.@+=,~-]{1,15}$/)];
const ofPodThatNeverWas: fc.Arbitrary<Damage>[] = [
  variable('CNI_IFNAME', /$^/, isInterfaceName),
  text
    .filter((value) => !value.includes('\0'))
    .map((value) =>
      of(`DEL with CNI_NETNS = ${JSON.stringify(value)}`, [0], (call) =>
        Object.assign(call.variables, { CNI_NETNS: value }),
      ),
    ),
];

const ofAdd: fc.Arbitrary<Damage>[] = [
  variable('CNI_NETNS', /^\/[\w./:@+=,~-]+$/),
  fc
    .constantFrom('/run/netns/none', '/proc/4194303/ns/net', '/etc/hostname', '/etc', '/run/netns/good/x')
    .map((netns) => of(`netns ${netns}`, [3], (call) => Object.assign(call.variables, { CNI_NETNS: netns }))),
  fc.constant(
    of("the node's netns", [8], (call) => Object.assign(call.variables, { CNI_NETNS: '/proc/self/ns/net' })),
  ),
  fc
    .constantFrom('ips', 'ipRanges', 'mac', 'infinibandGUID', 'deviceID')
    .chain((name) =>
      junk
        .filter((value) => !isEmpty(value))
        .map((value) =>
          of(`runtimeConfig.${name}`, [2], (_, config) =>
            Object.assign(config, { runtimeConfig: { [name]: value } }),
          ),
        ),
    ),
  fc
    .constantFrom('IP=10.0.64.18', 'IgnoreUnknown=1;MAC=02:00:00:00:00:01')
    .map((value) => of(value, [2], (call) => Object.assign(call.variables, { CNI_ARGS: value }))),
  key('ipam', 2, isEmpty).filter((damage) => !damage.name.includes('eniboot-ipam')),
];

const calls = fc
  .record({
    plugin: fc.constantFrom(...PLUGINS),
    command: fc.constantFrom(...COMMANDS),
    cniVersion: fc.constantFrom('1.1.0' as const),
    count: fc.constantFrom(0, 1, 1, 1, 1, 1, 1, 2, 2),
  })
  .chain(({ plugin, command, cniVersion, count }) =>
    fc.array(fc.oneof(...damagesOf(plugin, command)), { minLength: count, maxLength: count }).map((list) => {
      const call = goodCall(plugin, command, cniVersion);
      const config = goodConfig(plugin, command, cniVersion);
      // Changes of the configuration come first: a damaged input then replaces the configuration as a whole.
      for (const damage of list) damage.apply({ ...call, variables: {} }, config);
      call.input = JSON.stringify(config);
      for (const damage of list) damage.apply(call, {});
      const codes = list.length === 0 ? codesOfGood(plugin, command) : list.flatMap((damage) => damage.codes);
      return { call, codes, damages: list.map((damage) => damage.name) };
    }),
  );

function damagesOf(plugin: Plugin, command: Command): fc.Arbitrary<Damage>[] {
  const list = [...always];
  if (command === 'ADD' || command === 'DEL' || command === 'CHECK') list.push(...ofPod);
  if (command === 'ADD' || command === 'CHECK') list.push(...ofPodThatIs);
  if (command === 'DEL') list.push(...ofPodThatNeverWas);
  if (command === 'ADD') {
    list.push(...ofAdd);
    if (plugin === 'eniboot-ptp') list.push(key('prevResult', 7, () => false));
    else
      list.push(
        key('prevResult', 7, () => false).filter((damage) => damage.name !== 'prevResult = undefined'),
      );
    if (plugin === 'eniboot-ipam') {
      list.push(key('master', 7, (value) => value === null || value === '' || value === DEVICE));
    }
  }
  // There is no lease, so a prevResult that is an object is read up to that check.
  if (command === 'CHECK')
    list.push(
      junk.map((value) =>
        of('prevResult', [7, 102], (_, config) => Object.assign(config, { prevResult: value })),
      ),
    );
  if (command === 'GC') {
    list.push(
      key(
        'cni.dev/valid-attachments',
        7,
        (value) => value === null || (Array.isArray(value) && value.length === 0),
      ),
    );
  }
  return list;
}

function isJsonObject(input: string): boolean {
  try {
    const value: unknown = JSON.parse(input);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

// Damage of files.

interface StateDamage {
  path: string;
  how: 'bytes' | 'text' | 'folder' | 'gone' | 'field';
  bytes: Uint8Array;
  text: string;
  field: string;
  value: unknown;
}

const fileName = fc
  .oneof(
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc.constantFrom(
      'x',
      '10.0.64.18',
      '10.0.64.999,eni-a,new',
      `10.0.64.18,${ENI},`,
      `10.0.64.30,${ENI},new`,
      'a,b,c',
      ',,,',
      '10.0.64.19,,',
    ),
  )
  .map((name) => name.replaceAll(/[/\0]/g, '_'))
  .filter((name) => name !== '' && name !== '.' && name !== '..' && Buffer.byteLength(name) < 200);

const junkIpv6 = fc.oneof(
  junk,
  fc.constantFrom<unknown>(
    [],
    ['::1'],
    ['fd00::/8'],
    ['fd00::/129'],
    ['1:2:3'],
    ['10.0.0.1'],
    'fd00::/64',
    '::/80',
  ),
);

const damages = fc.array(
  fc.record<StateDamage>({
    path: fc.oneof(
      { weight: 3, arbitrary: fc.constant(NODE_FILE) },
      { weight: 3, arbitrary: fc.constant('the note of a lease') },
      {
        weight: 4,
        arbitrary: fc
          .tuple(
            fc.constantFrom('free', 'leased', 'cooling', 'retiring', 'leaving', 'owned', 'adding'),
            fileName,
          )
          .map((parts) => `${POOL_DIR}/${parts.join('/')}`),
      },
      {
        weight: 1,
        arbitrary: fc
          .constantFrom('free', 'leased', 'cooling', 'leaving', 'refill-wanted')
          .map((one) => `${POOL_DIR}/${one}`),
      },
    ),
    how: fc.constantFrom('bytes', 'text', 'folder', 'gone', 'field'),
    bytes: fc.uint8Array({ maxLength: 300 }),
    text: fc.oneof(
      fc.string(),
      fc.json(),
      fc.constantFrom('c1\n/run/netns/good\n', 'other\n\0\n', 'other\nx y\nz\n', 'other\n/\n'),
    ),
    field: fc.constantFrom(
      'schema',
      'nodeAddresses',
      'mtu',
      'podRoutes',
      'egressRoutes',
      'allowImds',
      'restMs',
      'lowWater',
      'podEnis',
      'bandwidth',
      'ipv6',
    ),
    value: fc.oneof(
      junk,
      fc.array(junk, { maxLength: 2 }),
      fc.constantFrom<unknown>([{}], [{ eniId: ENI }], ['10.0.0.0/99'], '0.0.0.0/0'),
      fc.record({ nodeAddresses: junkIpv6, serviceCidrs: junkIpv6 }),
      junkIpv6.map((ipv6Prefix) => [{ eniId: ENI, mac: MAC, subnetCidr: '10.0.64.0/20', ipv6Prefix }]),
    ),
  }),
  { minLength: 1, maxLength: 3 },
);

function damageState(damage: StateDamage): void {
  const lease = names(`${POOL_DIR}/leased`).find((name) => name.includes(',other,'));
  const path = damage.path === 'the note of a lease' ? `${POOL_DIR}/leased/${lease ?? 'x'}` : damage.path;
  // Only folders of the pool and the node's file: a removed entry would be a lost address.
  const isEntry = path.startsWith(`${POOL_DIR}/leased/`) && path.endsWith(',other,eth0');
  if (damage.how === 'field' && path === NODE_FILE) {
    if (existsSync(path) && !isFile(path)) return;
    writeAt(path, JSON.stringify({ ...JSON.parse(node), [damage.field]: damage.value }));
    return;
  }
  if (damage.how === 'bytes' || damage.how === 'text' || damage.how === 'field') {
    // A folder stays a folder.
    if (existsSync(path) && !isFile(path)) return;
    if (existsSync(dirname(path)) && isFile(dirname(path))) return;
    writeAt(path, damage.how === 'bytes' ? damage.bytes : damage.text);
    return;
  }
  if (isEntry || (existsSync(path) && names(path).length > 0)) return;
  rmSync(path, { recursive: true, force: true });
  if (damage.how === 'folder' && !isFile(dirname(path))) mkdirSync(path, { recursive: true });
}

function isFile(path: string): boolean {
  return names(path).length === 0 && !isFolder(path);
}

function isFolder(path: string): boolean {
  try {
    readdirSync(path);
    return true;
  } catch {
    return false;
  }
}

export const executable = join(
  import.meta.dirname,
  '../../dist',
  process.arch === 'arm64' ? 'arm64' : 'x64',
  'eniboot',
);
