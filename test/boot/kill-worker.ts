// One worker of kill-main.ts, in a sandbox of its own: prints one JSON line for each kill.
import { parseArgs } from 'node:util';
import { killOnce, measureBoot, seeded, showMoment, startKillCloud } from './kill.ts';

const { values } = parseArgs({ options: { count: { type: 'string' }, seed: { type: 'string' } } });
const cloud = await startKillCloud();
const usual = await measureBoot(cloud);
const random = seeded(Number(values.seed));
for (let at = 0; at < Number(values.count); at += 1) {
  const ms = Math.round(random() * usual * 1.1);
  const { killed, during, problems } = await killOnce(cloud, { kind: 'time', ms });
  const moment = showMoment({ kind: 'time', ms });
  process.stdout.write(`${JSON.stringify({ moment, killed, during, problems })}\n`);
}
const leaks = cloud.leakReport().map((leak) => JSON.stringify(leak));
await cloud.stop();
if (leaks.length > 0) process.stdout.write(`${JSON.stringify({ moment: 'at the end', problems: leaks })}\n`);
process.exit(0);
