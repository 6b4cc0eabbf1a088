// The measuring half of `npm run bench:cni`, inside the sandbox: boots a node with enough addresses and runs the calls there.
// In: `--plan JSON`. Out: samples as JSON.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startCloud } from '../aws/index.ts';
import { configText, OWN_BUILD } from '../boot/node.ts';
import { bootPodNode, conf } from '../cni/rig.ts';

export interface Plan {
  /** Path of the plugin; undefined: the one installed on the node. */
  own: string | undefined;
  /** Path of the plugin of an earlier commit, to compare with. */
  before?: string | undefined;
  /** Folder of the Go plugins. */
  go: string | undefined;
  rounds: number;
  traces: number;
  bursts: number[];
}

/** One call, with its own children: milliseconds of wall and CPU time, largest memory in bytes. */
export interface Call {
  ms: number;
  cpu: number;
  rss: number;
}

export interface Samples {
  calls: Record<string, Call[]>;
  /** Milliseconds of each phase of traced ADDs. */
  phases: Record<string, number>[];
  /** Child processes of traced calls. */
  spawns: { ADD: number[]; CHECK: number[]; DEL: number[] };
}

if (process.argv[1] === import.meta.filename) process.stdout.write(JSON.stringify(await measure()));

async function measure(): Promise<Samples> {
  const { values } = parseArgs({ options: { plan: { type: 'string', default: '{}' } } });
  const plan = JSON.parse(values.plan) as Plan;
  const cloud = await startCloud();
  // As many addresses as a node has pods by default; no rest, so that addresses are used again.
  const pool = 'pool: { target: 110, restSeconds: 0 }\n';
  // The service is not running: each pod that Kubernetes names is closed.
  const policy =
    'apiServer: { endpoint: "https://10.0.0.1" }\npolicy: { identity: { ca: /ca, token: /token } }\n';
  const node = await bootPodNode(cloud, {
    ...{ config: configText(cloud, `${pool}${policy}`), type: 'm5.4xlarge' },
    built: OWN_BUILD,
  });
  const task = {
    ...plan,
    own: plan.own ?? '/opt/cni/bin/eniboot',
    conf,
    path: `/opt/cni/bin:${plan.go ?? ''}`,
    iptables: spawnSync('iptables', ['--version']).status === 0,
  };
  const script = join(import.meta.dirname, 'cni-calls.py');
  const result = await node.instance.run('python3', [script, JSON.stringify(task)], { timeoutMs: 1_800_000 });
  if (result.exitCode !== 0) throw new Error(result.stderr);
  await cloud.stop();
  const samples = JSON.parse(result.stdout);
  const { phases, 'spawns ADD': ADD, 'spawns CHECK': CHECK, 'spawns DEL': DEL, ...calls } = samples;
  return { calls, phases: phases ?? [], spawns: { ADD, CHECK, DEL } };
}
