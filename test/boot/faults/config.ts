// Wrong configuration, of many kinds: each refused at once, with every problem named and nothing touched.
import { is, ok } from 'uvu/assert';
import { badConfigs } from '../../config/bad-configs.ts';
import type { Fault, Outcome } from './fault.ts';

/** Every third of the configurations that test/config proves one by one. */
const chosen = badConfigs.filter((bad, at) => typeof bad.text === 'string' && at % 4 === 0);

function provesProblems(least: number): (bench: unknown, outcome: Outcome) => void {
  return (_bench, { status }) => {
    const problems = status?.failure?.facts['problems'] as { problem: string; remedy: string }[];
    ok(problems.length >= least, 'the problems are listed');
    for (const problem of problems) ok(problem.remedy.length > 5, `a remedy for: ${problem.problem}`);
    const changes = status?.phases.flatMap((phase) => phase.changes) ?? [];
    is(changes.length, 0, 'nothing was changed');
  };
}

export const configFaults: Fault[] = [
  ...chosen.map(
    (bad): Fault => ({
      name: `configuration: ${bad.name}`,
      configText: bad.text as string,
      expect: { verdict: 'failed', code: 'CONFIG_INVALID', phase: 'identify', atOnce: true },
      prove: provesProblems(bad.says.length),
    }),
  ),
  {
    name: 'no configuration anywhere',
    configText: null,
    expect: { verdict: 'failed', code: 'CONFIG_MISSING', phase: 'identify', atOnce: true },
  },
  {
    name: 'user data with a misspelt key',
    launch: { userData: '#eniboot-config\npods: { maximum: 20 }\n' },
    expect: { verdict: 'failed', code: 'CONFIG_INVALID', phase: 'identify', atOnce: true },
    prove: provesProblems(1),
  },
  {
    name: 'user data that is cut off in the middle',
    launch: { userData: '#eniboot-config\npods: { max: 20, routes: ["10.9' },
    expect: { verdict: 'failed', code: 'CONFIG_INVALID', phase: 'identify', atOnce: true },
    prove: provesProblems(1),
  },
  {
    name: 'user data for somebody else: passed over',
    launch: { userData: '#!/bin/sh\necho hello\n' },
    expect: { verdict: 'ready' },
  },
  {
    name: 'a drop-in that is a folder',
    launch: { files: { '/etc/eniboot/config.d/10-x.yaml/y': '' } },
    expect: { verdict: 'failed', code: 'CONFIG_INVALID', phase: 'identify', atOnce: true },
    prove: provesProblems(1),
  },
];
