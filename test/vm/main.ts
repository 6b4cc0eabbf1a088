// npm run e2e:vm: boots eniboot on a real kernel with systemd, NetworkManager and cloud-init, in a VM whose EC2 is the
// simulated AWS.
import { join } from 'node:path';
import { cases, type Timing } from './cases.ts';
import { STAND_INS } from './prepare.ts';
import { runSuite } from './suite.ts';

process.exit(
  await runSuite({
    name: 'e2e:vm',
    about: `Boots the executable in a VM (QEMU; KVM where it works, emulation elsewhere) against the simulated AWS.
A full run takes about 20 minutes under emulation.`,
    cases,
    runner: join(import.meta.dirname, 'run.ts'),
    extra: () => [STAND_INS],
    summary: (results) => timingTable(results.flatMap((result) => result.facts ?? [])),
  }),
);

function timingTable(timings: Timing[]): string {
  const rows = timings.map((one) => [
    one.boot,
    ...[one.powerOn, one.started, one.verdict, one.kubelet, one.eniboot, one.own].map((value) =>
      value === undefined || Number.isNaN(value) ? '-' : value.toFixed(1),
    ),
  ]);
  if (rows.length === 0) return 'no boot was timed';
  const table = [
    [
      'seconds',
      'power-on to verdict',
      'eniboot starts',
      'verdict',
      'kubelet starts',
      'eniboot took',
      'without waits',
    ],
    ...rows,
  ];
  const widths = (table[0] ?? []).map((_, column) =>
    Math.max(...table.map((row) => row[column]?.length ?? 0)),
  );
  return table
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  '),
    )
    .join('\n');
}
