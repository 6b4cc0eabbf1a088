import { isBooted } from '../boot/facts/booted.ts';
import { readStatus, type Status, sourcesLine } from '../boot/verdict/status.ts';
import { consoleLine } from '../boot/verdict/verdict.ts';
import { STATUS_FILE } from '../host/names.ts';
import { secondsSinceWritten } from '../port/fs.ts';
import { parse } from './arguments.ts';
import type { Command } from './command.ts';
import { paint, table } from './table.ts';

const help = `Usage: eniboot status [--json]

The verdict of this boot: what the agent found and did, and how long each phase took. Reads /run/eniboot/status.json
(docs/status.md) and nothing else, so it is quick and works at any time.

Exit codes: 0 READY (also degraded); 1 FAILED; 3 still booting, or not booted by eniboot; 2 wrong usage.
`;

export const statusCommand: Command = {
  help,
  async run(args, io) {
    const { values } = parse('status', args, { json: { type: 'boolean' } });
    const status = readStatus();
    if (values.json === true) io.stdout(`${JSON.stringify(status ?? { verdict: 'none' })}\n`);
    else if (status === undefined)
      io.stdout(
        isBooted()
          ? '/run/eniboot/status.json is missing or damaged on a node that has been READY: `eniboot boot` looks again and writes it\n'
          : 'eniboot has not run in this boot (/run/eniboot/status.json is absent)\n',
      );
    else io.stdout(show(status, io.isTTY));
    if (status === undefined || status.verdict === 'booting') return 3;
    return status.verdict === 'ready' ? 0 : 1;
  },
};

/** Seconds after its deadline that a boot may still need to clean up. */
const TIDYING_SECONDS = 15;

/** The file is written at each step: its `remainingSeconds` is as old as the file. */
function bootingLine({ remainingSeconds }: Status): string {
  const left = Math.round(remainingSeconds - secondsSinceWritten(STATUS_FILE));
  return left > -TIDYING_SECONDS
    ? `eniboot: booting, ${Math.max(0, left)} s left`
    : `eniboot: booting, but its time was over ${-left} s ago: that run was ended from outside; see \`systemctl status eniboot\``;
}

function show(status: Status, colour: boolean): string {
  const head = status.verdict === 'booting' ? bootingLine(status) : consoleLine(status);
  const style = { ready: 'green', failed: 'red', booting: 'yellow' } as const;
  const sources = sourcesLine(status);
  const facts = [
    ...(status.instance === undefined
      ? []
      : [['instance', `${status.instance.id} ${status.instance.type} in ${status.instance.zone}`]]),
    ...(status.bootEni === undefined
      ? []
      : [
          [
            'boot ENI',
            `${status.bootEni.id} ${status.bootEni.device} ${status.bootEni.address}${status.bootEni.publicAddress === undefined ? '' : ` (public ${status.bootEni.publicAddress})`}`,
          ],
        ]),
    ...status.podEnis.map((pod) => [
      `pod ENI ${pod.deviceIndex}`,
      `${pod.id} in ${pod.subnet}, ${pod.addresses} addresses`,
    ]),
    ...(status.capacity === undefined
      ? []
      : [['max pods', `${status.capacity.maxPods} = ${status.capacity.explain}`]]),
    ...(sources === undefined ? [] : [['configuration', sources]]),
    ...(status.configuration?.warnings ?? []).map((warning) => ['warning', warning]),
    [
      'cloud',
      `${status.cloud.imdsRequests} IMDS requests, ${Object.values(status.cloud.ec2Calls).reduce((a, b) => a + b, 0)} EC2 calls, ${status.cloud.ec2Mutating} of them changes; waited ${status.cloud.waitMs / 1000} s`,
    ],
    ...status.degraded.map((reason) => ['degraded', reason]),
    ...(status.failure === undefined
      ? []
      : [
          ['failure', `${status.failure.phase}: ${status.failure.message}`],
          ['what to do', status.failure.remedy],
        ]),
  ];
  const phases = status.phases.map((phase) => [
    phase.name,
    phase.state,
    phase.state === 'pending' ? '' : `${(phase.ms / 1000).toFixed(2)} s`,
    phase.state === 'pending' ? '' : `${(phase.waitMs / 1000).toFixed(2)} s`,
    phase.attempts > 1 ? `${phase.attempts} tries` : '',
  ]);
  return `${paint(style[status.verdict], head, colour)}\n${table(facts)}\n${table([['phase', 'state', 'time', 'waiting', ''], ...phases])}`;
}
