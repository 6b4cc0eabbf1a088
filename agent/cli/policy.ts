import { isDeepStrictEqual } from 'node:util';
import { readLinks } from '../boot/version/versions.ts';
import { readNodeFile } from '../host/node-file.ts';
import { Failure } from '../messages/failure.ts';
import { type Grant, type Member, type PodRules, type PortRange, wayThrough } from '../policy/decide.ts';
import type { LocalPod } from '../policy/enforce.ts';
import { localPods } from '../policy/local-pods.ts';
import { policyTable } from '../policy/pod-table.ts';
import type { Wanted } from '../policy/serve.ts';
import { identityOf, POLICY_FILE, readSettings, type Settings } from '../policy/settings.ts';
import type { Snapshot } from '../policy/snapshot.ts';
import { type Standing, standingOf } from '../policy/standing.ts';
import { systemClock } from '../port/clock.ts';
import { readIfPresent } from '../port/fs.ts';
import { INTERRUPTED, interruption, requireRoot, setJitPolicy } from '../port/runtime.ts';
import { formed, parseVerb, verbOf } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';
import { table } from './table.ts';

/**
 * Exit code of `serve` when policies are off: systemd then does not start the service again (RestartPreventExitStatus= in
 * eniboot-policy.service). The unit's condition cannot prevent a restart: systemd checks conditions when a unit is started, and not
 * when it restarts one.
 */
const POLICIES_OFF = 3;

const help = `Usage: eniboot policy [show] [NAMESPACE/POD] [--json]
       eniboot policy test FROM TO --port N [--protocol TCP|UDP|SCTP] [--json]
       eniboot policy serve

Kubernetes' network policies on this node (docs/network-policy.md). Needs root, and a policy section in the configuration.

show   for each pod of this node, or the named one: the policies that isolate it, what each of them allows, whether the rules
       in its namespace are the decided ones, and how many packets no policy allowed.
test   whether FROM may open a connection to TO, and which rule decides: the egress of FROM, then the ingress of TO. Each is
       NAMESPACE/POD on any node, or an address. A pod's own node may always open connections to it.
serve  run by eniboot-policy.service: keeps the API server's policies in force until it is stopped; the rules stay after that.
       It ends by itself when an update has switched the version or a boot has changed the policy section; systemd then starts
       it again.

show and test ask the API server, as the node's policy identity.

  --port N         test: the destination port, as the pod has it (targetPort of a Service)
  --protocol NAME  test: TCP (default), UDP or SCTP
  --json           one object; show: { "pods": [ { "pod", "ingress"?, "egress"?, "standing", "denied"? } ], "problems": {} };
                   test: { "may", "egress": { "may", "rule"? }, "ingress": { "may", "rule"? } }

Exit codes: 0 shown; test: it may; 1 test: it may not, or failed with a code; 2 wrong usage;
${POLICIES_OFF} serve: policies are off on this node; ${INTERRUPTED} interrupted.
`;

const options = {
  port: { type: 'string' },
  protocol: { type: 'string' },
  json: { type: 'boolean' },
} as const;
const taken = { show: ['json'], test: ['port', 'protocol', 'json'], serve: [] } as const;
const actions = { show, test, serve: runService };

export const policyCommand: Command = {
  help,
  async run(args, io) {
    const [word = 'show', ...rest] = args;
    // The verb `show` may be left out.
    const given = word.includes('/') || word.startsWith('-') ? ['show', ...args] : [word, ...rest];
    const verb = verbOf('policy', given[0], ['show', 'test', 'serve']);
    return actions[verb](given.slice(1), io);
  },
};

async function runService(args: string[], io: CommandIo): Promise<number> {
  parseVerb('policy', 'serve', args, options, taken);
  requireRoot('policy serve');
  setJitPolicy(1);
  const { createLog } = await import('../port/log.ts');
  const { endPolicies, serve } = await import('../policy/serve.ts');
  const signal = interruption();
  if (areOff()) {
    // No service was running when policies were turned off, so the tables may still be there.
    await endPolicies({ clock: systemClock, signal });
    io.stderr('network policies are off on this node\n');
    return POLICIES_OFF;
  }
  // Before the settings are read: a change in between must not pass for what the service was started with.
  const wanted = followForm();
  const settings = readSettings();
  const log = createLog({ level: 'info', form: 'json' });
  const form = await serve(
    { ...settings, api: apiOf(settings), wanted },
    { clock: systemClock, log, signal, random: Math.random },
  );
  return form === 'off' ? POLICIES_OFF : 0;
}

/**
 * Policies are off only when neither policy.json nor node.json asks for them. One of the two files alone may be missing while
 * policies are on: a boot was killed between the two writes, or a file was lost. Repair then uses the earlier configuration, and
 * writes the missing file again.
 */
function areOff({ settings, policy } = written()): boolean {
  return settings === undefined && policy === undefined;
}

function written() {
  return {
    settings: readIfPresent(POLICY_FILE),
    policy: readNodeFile().policy,
    version: readLinks().current,
  };
}

/** Compares what a boot and an update write now with what they had written at the start. */
function followForm(): () => Wanted {
  const started = written();
  return () => {
    const now = written();
    const { settings, policy, version } = now;
    if (areOff(now)) return 'off';
    if (version !== started.version) return 'other-version';
    if (settings === undefined || policy === undefined) return 'as-started';
    const isSame = settings === started.settings && isDeepStrictEqual(policy, started.policy);
    return isSame ? 'as-started' : 'other-settings';
  };
}

function apiOf({ apiServer: url, identity }: Settings) {
  return { url, identity: () => identityOf(identity) };
}

async function snapshotOf(settings: Settings, pods: ReadonlySet<string>): Promise<Snapshot> {
  const { takeSnapshot } = await import('../policy/snapshot.ts');
  return takeSnapshot(apiOf(settings), settings.nodeName, pods, systemClock);
}

interface Shown {
  pod: string;
  ingress: string[] | undefined;
  egress: string[] | undefined;
  standing: Standing;
}

async function show(args: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parseVerb('policy', 'show', args, options, taken, 1);
  const [wanted] = positionals;
  requireRoot('policy show');
  const settings = readSettings();
  const here = localPods(readNodeFile()).filter(({ key }) => wanted === undefined || key === wanted);
  if (wanted !== undefined && here.length === 0)
    throw new Failure('USAGE', `eniboot policy show: no pod ${wanted} has an address of this node`);
  const { decision, problems } = await snapshotOf(settings, new Set(here.map(({ key }) => key)));
  const rows = here.map((pod) => shownOf(pod, decision.rulesOf(pod.key) ?? {}, decision.membersOf));
  if (values.json === true) {
    const pods = rows.map(({ standing, ...rest }) => ({
      ...rest,
      standing: standing.state,
      ...(standing.state === 'in force' && { denied: standing.denied }),
      ...(standing.state === 'unknown' && { why: standing.why }),
    }));
    io.stdout(`${JSON.stringify({ pods, problems: Object.fromEntries(problems) })}\n`);
    return 0;
  }
  if (rows.length === 0) io.stdout('no pod has an address on this node\n');
  for (const row of rows) io.stdout(textOf(row));
  for (const [name, problem] of problems) io.stderr(`${name} cannot be read: ${problem}\n`);
  return 0;
}

function shownOf(
  pod: LocalPod,
  rules: PodRules,
  membersOf: (rule: string) => ReadonlyMap<string, Member>,
): Shown {
  const lines = (grants: readonly Grant[] | undefined) =>
    grants?.map((grant) => `${grant.rule}: ${grantText(grant, membersOf(grant.rule))}`);
  return {
    pod: pod.key,
    ingress: lines(rules.ingress),
    egress: lines(rules.egress),
    standing: standingOf(pod.netns, policyTable(pod.network, rules, membersOf)),
  };
}

function textOf({ pod, ingress, egress, standing }: Shown): string {
  const rows = [['ingress', ingress] as const, ['egress', egress] as const].flatMap(([direction, grants]) => {
    const denied = standing.state === 'in force' ? standing.denied[direction] : undefined;
    if (grants === undefined) return [[direction, 'open: no policy isolates it']];
    const dropped = denied === undefined ? '' : `; ${denied} packets were denied`;
    if (grants.length === 0) return [[direction, `isolated, nothing gets through${dropped}`]];
    return grants.map((grant, at) => [at === 0 ? direction : '', at === 0 ? `${grant}${dropped}` : grant]);
  });
  const states = {
    'in force': '',
    differs: '  its rules are not yet as decided: is eniboot-policy.service running?\n',
    gone: '  its namespace is gone\n',
    unknown: `  whether its rules are in force is unknown: ${standing.state === 'unknown' ? standing.why : ''}\n`,
  };
  return `${pod}\n${table(rows.map((row) => ['', ...row]))}${states[standing.state]}`;
}

function grantText(
  { ports, anyPeer, blocks, members, named }: Grant,
  of: ReadonlyMap<string, Member>,
): string {
  const peers = [
    ...(anyPeer ? ['any peer'] : []),
    ...(members ? [`${[...of.values()].filter(({ peer }) => peer).length} addresses of pods`] : []),
    ...blockTexts(blocks.list),
  ];
  const through = [
    ...(ports === undefined ? ['any port'] : ports.map(portText)),
    ...(named ? ['named ports'] : []),
  ];
  return `${peers.length === 0 ? 'pods that name the port' : peers.join(' or ')}, ${through.join(', ')}`;
}

const MOST_BLOCKS = 5;

function blockTexts(blocks: Grant['blocks']['list']): string[] {
  const texts = blocks
    .slice(0, MOST_BLOCKS)
    .map(({ cidr, except }) => (except.length === 0 ? cidr : `${cidr} but ${except.join(', ')}`));
  return blocks.length > MOST_BLOCKS ? [...texts, `${blocks.length - MOST_BLOCKS} more blocks`] : texts;
}

function portText({ protocol, first, last }: PortRange): string {
  if (first === 0 && last === 65_535) return `any ${protocol}`;
  return `${protocol} ${first === last ? first : `${first}-${last}`}`;
}

interface End {
  /** undefined for an address that belongs to none of the known pods. */
  key: string | undefined;
  addresses: string[];
}

async function test(args: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parseVerb('policy', 'test', args, options, taken, 2);
  const [from, to] = positionals;
  if (from === undefined || to === undefined)
    throw usage('FROM and TO are needed: NAMESPACE/POD, or an address');
  const port = Number(formed('policy test', '--port', values.port, /^\d{1,5}$/, 'a port'));
  if (!(port >= 1 && port <= 65_535)) throw usage('--port is missing, or not from 1 to 65535');
  const protocol = (values.protocol ?? 'TCP').toUpperCase() as PortRange['protocol'];
  if (!['TCP', 'UDP', 'SCTP'].includes(protocol))
    throw usage(`--protocol ${values.protocol} is not TCP, UDP or SCTP`);
  requireRoot('policy test');
  const keys = [from, to].filter((one) => one.includes('/'));
  const { decision, problems } = await snapshotOf(readSettings(), new Set(keys));
  const endOf = (name: string): End => {
    if (!name.includes('/')) return { key: undefined, addresses: [name] };
    const addresses = decision.addressesOf(name);
    if (addresses === undefined) throw usage(`the API server knows no pod ${name}`);
    return { key: name, addresses: [...addresses] };
  };
  const [source, target] = [endOf(from), endOf(to)];
  const pair = pairOf(source, target);
  if (pair === undefined) throw usage(`${from} and ${to} have no addresses of one family`);
  const ruling = (of: End, direction: 'ingress' | 'egress', address: string) => {
    const rules = of.key === undefined ? undefined : decision.rulesOf(of.key);
    const way = wayThrough(rules?.[direction], decision.membersOf, { address, protocol, port });
    return { may: way !== undefined, ...(typeof way === 'object' && { rule: way.rule }) };
  };
  const egress = ruling(source, 'egress', pair.target);
  const ingress = ruling(target, 'ingress', pair.source);
  const may = egress.may && ingress.may;
  if (values.json === true) io.stdout(`${JSON.stringify({ may, egress, ingress })}\n`);
  else {
    const said = ({ may, rule }: typeof egress) =>
      rule === undefined
        ? may
          ? 'open: no policy isolates it'
          : 'denied: no rule lets it through'
        : `by ${rule}`;
    io.stdout(
      table([
        [`egress of ${from}`, said(egress)],
        [`ingress of ${to}`, said(ingress)],
      ]),
    );
    io.stdout(`${from} ${may ? 'may' : 'may not'} reach ${to} by ${protocol} ${port}\n`);
  }
  for (const [name, problem] of problems) io.stderr(`${name} cannot be read: ${problem}\n`);
  return may ? 0 : 1;
}

function pairOf(source: End, target: End): { source: string; target: string } | undefined {
  for (const one of source.addresses)
    for (const other of target.addresses)
      if (one.includes(':') === other.includes(':')) return { source: one, target: other };
  return undefined;
}

function usage(what: string): Failure {
  return new Failure('USAGE', `eniboot policy test: ${what}`);
}
