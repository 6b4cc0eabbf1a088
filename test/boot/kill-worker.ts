// One worker of kill-main.ts, in a sandbox of its own: prints one JSON line for each kill.
import { parseArgs } from 'node:util';
import { killOnce, measureBoot, seeded, showMoment, startKillCloud } from './kill.ts';

const { values } = parseArgs({ options: { count: { type: 'string' }, seed: { type: 'string' } } });
const cloud = await startKillCloud();
let usual = await measureBoot(cloud);
const random = seeded(Number(values.seed));
// A boot that was over before its moment does not count, but gives a newer measurement of how long a boot takes.
for (let kills = 0; kills < Number(values.count); ) {
  const ms = Math.round(random() * usual * 1.05);
  const { killed, ranMs, during, problems } = await killOnce(cloud, { kind: 'time', ms });
  if (killed) kills += 1;
  else usual = (usual + ranMs) / 2;
  const moment = showMoment({ kind: 'time', ms });
  process.stdout.write(`${JSON.stringify({ moment, killed, during, problems })}\n`);
}
const leaks = cloud.leakReport().map((leak) => JSON.stringify(leak));
await cloud.stop();
if (leaks.length > 0) process.stdout.write(`${JSON.stringify({ moment: 'at the end', problems: leaks })}\n`);
process.exit(0);
