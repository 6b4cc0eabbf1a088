// The first boot of an instance: each case has a node of its own.
import { bootOn, differences } from '../boot/kill.ts';
import { configText, ENIBOOT, launchNode, type Node } from '../boot/node.ts';
import {
  type Fault,
  type Point,
  pointsOf,
  pointsOfPrograms,
  prepare,
  READ_TRACE,
  RECORD,
  RECORDED,
  type Started,
  struckBy,
  struckLine,
  throughPrograms,
  traced,
  wrap,
} from './inject.ts';
import type { Ran, World } from './node.ts';
import { NODE_LIES, type Struck } from './operations.ts';

const BOUND_MS = 75_000;

async function launch({ cloud }: World): Promise<Node> {
  const node = await launchNode(cloud, { config: configText(cloud, 'boot: { deadlineSeconds: 60 }\n') });
  await sh(node, wrap);
  return node;
}

async function sh({ instance }: Node, script: string): Promise<string> {
  const { exitCode, stdout, stderr } = await instance.run('sh', ['-c', script]);
  if (exitCode !== 0) throw new Error(`${script}: exit ${exitCode}: ${stderr}`);
  return stdout;
}

async function boot({ instance }: Node, { by, env }: Started): Promise<Ran> {
  const [file, ...args] = [...by, ENIBOOT, 'boot', '--json'];
  const { exitCode, stdout, stderr, timedOut, ms } = await instance.run(file, args, {
    env,
    timeoutMs: BOUND_MS,
  });
  return { exit: exitCode, stdout, stderr, killed: false, late: timedOut, ms };
}

export async function pointsOfFirstBoot(world: World): Promise<Point[]> {
  const first = await launch(world);
  await boot(first, traced());
  const points = pointsOf(await sh(first, READ_TRACE), 'main');
  await first.instance.terminate();
  const second = await launch(world);
  await sh(second, RECORD);
  await boot(second, throughPrograms());
  points.push(...pointsOfPrograms(await sh(second, RECORDED)));
  await second.instance.terminate();
  return points;
}

export async function strikeFirstBoot(world: World, fault: Fault): Promise<Struck> {
  const node = await launch(world);
  await sh(node, prepare(fault));
  const ran = await boot(node, struckBy(fault));
  const line = struckLine(await sh(node, READ_TRACE));
  await world.cloud.settled();
  return {
    answers: { lies: NODE_LIES },
    ran,
    line,
    wrong: async () =>
      ran.exit === 0 ? differences(world.cloud, node).map((one) => `boot is READY: ${one}`) : [],
    async end() {
      if (!ran.late) return bootOn(world.cloud, node);
      await node.instance.terminate();
      return [];
    },
  };
}
