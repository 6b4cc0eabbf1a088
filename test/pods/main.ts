// npm run e2e:pods: pods on real kernels with a real ipvlan, in VMs whose EC2 is the simulated AWS.
import { join } from 'node:path';
import { table } from '../../agent/cli/table.ts';
import { ensureGoTools, goTools } from '../cni/fetch.ts';
import { PROGRAM } from '../hostile/field.ts';
import { hostileTable } from '../hostile/run.ts';
import { STAND_INS } from '../vm/prepare.ts';
import { runSuite } from '../vm/suite.ts';
import { CNI_TOOLS } from './callers.ts';
import { cases } from './cases.ts';
import { GUEST_PROGRAM } from './hostile.ts';

process.exit(
  await runSuite({
    name: 'e2e:pods',
    about: `Starts pods on VM nodes (QEMU; KVM where it works, emulation elsewhere): two nodes in two clusters and two zones
of one VPC of the simulated AWS, with a real ipvlan and strict reverse-path filters.`,
    cases,
    runner: join(import.meta.dirname, 'run.ts'),
    extra: (chosen, _work, say) => {
      const files = [
        STAND_INS,
        { from: join(import.meta.dirname, 'node'), to: '/' },
        { from: PROGRAM, to: GUEST_PROGRAM },
      ];
      if (!chosen.some(({ name }) => name === 'chained' || name === 'sbr')) return files;
      if (goTools() === undefined) say('building cnitool and the reference plugins (once, some minutes)');
      return [...files, { from: ensureGoTools(), to: CNI_TOOLS }];
    },
    summary: (results) => {
      const rows = results
        .flatMap(({ facts }) => [...(facts?.flows ?? []), ...(facts?.answers ?? [])])
        .map(({ what, from, to, seen }) => [what, from, to, seen]);
      const attempts = results.flatMap(({ facts }) => Object.values(facts?.hostile ?? {}));
      return [
        ...(rows.length === 0
          ? []
          : [table([['conversation', 'from', 'to', 'server saw'], ...rows]).trimEnd()]),
        ...attempts.map((outcome) => hostileTable(outcome.rows)),
      ].join('\n\n');
    },
  }),
);
