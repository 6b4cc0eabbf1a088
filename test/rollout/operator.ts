// An operator with the shipped executable, and three real nodes in two zones of the simulated AWS. Run Command runs the real
// `eniboot update` on them.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Cloud, startCloud } from '../aws/index.ts';
import { manage } from '../aws/managed.ts';
import { launchNode, type Node } from '../boot/node.ts';
import { type Ended, eniboot, operatorEnvironment } from '../cli/executable.ts';
import { type Check, checksOf } from '../cli/policy.ts';
import { type Bundles, serveBundles } from './bundles.ts';

export interface Operator {
  cloud: Cloud;
  bundles: Bundles;
  /** IDs of the nodes' subnets, one for each zone. */
  subnets: string[];
  /** The permissions that each call so far would have been checked for at that moment. */
  checks: Check[];
  home: string;
  env: Record<string, string>;
  run(...args: string[]): Promise<Ended>;
  /** Runs `eniboot rollout VERB` for the cluster. */
  of(verb: string, ...more: string[]): Promise<Ended>;
  /**
   * Writes a file with a spec, without waits and with both nodes of a zone at once, because time here is real. `more`: lines that
   * are added, or that replace a line with the same key.
   */
  spec(version: string, ...more: string[]): string;
  /** The versions that the nodes run: two of the first zone, one of the second. */
  versions(): Promise<string[]>;
  stop(): Promise<void>;
}

/** A line of a spec: each wait takes a second and ends with its gate. */
export const WAITS = 'bake: { canarySeconds: 1, shareSeconds: 1, zoneSeconds: 1 }';

/** The code in the last line of a command's --json output. */
export function codeIn(out: string): string | undefined {
  return (JSON.parse(out.trim().split('\n').at(-1) ?? '{}') as { failure?: { code: string } }).failure?.code;
}

export async function startOperator(): Promise<Operator> {
  const cloud = await startCloud();
  const bundles = await serveBundles(cloud);
  const checks: Check[] = [];
  const push = cloud.calls.push.bind(cloud.calls);
  cloud.calls.push = (...calls) => {
    const operators = calls.filter((call) => call.instanceId === undefined);
    checks.push(...operators.flatMap((call) => checksOf(cloud, call)));
    return push(...calls);
  };
  const home = '/run/operator';
  mkdirSync(home, { recursive: true });
  const env = { ...operatorEnvironment(cloud), XDG_STATE_HOME: home };
  const run = (...args: string[]) => eniboot(args, { env });
  const subnets = [...cloud.subnets.values()]
    .filter((subnet) => subnet.tags.get('Name')?.startsWith('nodes-'))
    .map((subnet) => subnet.id);
  const nodes = await Promise.all([0, 0, 1].map((at) => launchManaged(cloud, subnets[at] ?? '')));
  return {
    cloud,
    bundles,
    subnets,
    checks,
    home,
    env,
    run,
    of: (verb, ...more) => run('rollout', verb, '--cluster', 'demo', ...more),
    spec: (version, ...more) => writeSpec(join(home, `${version}.yaml`), version, more),
    versions: () => Promise.all(nodes.map(versionOf)),
    async stop() {
      bundles.stop();
      await cloud.stop();
    },
  };
}

async function launchManaged(cloud: Cloud, subnet: string): Promise<Node> {
  const node = await launchNode(cloud, { tags: { 'eniboot:cluster': 'demo' }, subnet });
  const { status, result } = await node.boot();
  if (status?.verdict !== 'ready') throw new Error(`a node is not READY: ${result.stderr}`);
  manage(cloud, node.instance);
  return node;
}

async function versionOf({ instance }: Node): Promise<string> {
  return (await instance.run('readlink', ['/usr/libexec/eniboot/current'])).stdout.trim();
}

function writeSpec(path: string, version: string, more: string[]): string {
  const lines = [
    'where: { cluster: demo }',
    'bake: { canarySeconds: 0, shareSeconds: 0, zoneSeconds: 0 }',
    'steps: { zonePercent: 100 }',
  ];
  const keyOf = (line: string) => line.split(':')[0];
  const given = new Set(more.map(keyOf));
  writeFileSync(
    path,
    [
      `what: { bundle: { version: ${version}, parameter: '/eniboot/bundle/demo/{zone-id}' } }`,
      ...lines.filter((line) => !given.has(keyOf(line))),
      ...more,
      '',
    ].join('\n'),
  );
  return path;
}
