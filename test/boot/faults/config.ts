// Wrong configurations of many kinds. Each is refused at once, with every problem named, and nothing is changed.
import { equal, is, match, ok } from 'uvu/assert';
import { badConfigs } from '../../config/bad-configs.ts';
import { userDataCases } from '../../config/recognise-cases.ts';
import type { Fault, Outcome } from './fault.ts';

/** Every fourth of the configurations that test/config tests one by one. */
const chosen = badConfigs.filter((bad, at) => typeof bad.text === 'string' && at % 4 === 0);

/** Some of the user data that test/config tests one by one. */
const onNodes = new Set([
  'no empty line after the outer headers',
  'an empty line above MIME-Version',
  'base64 without its header',
  'a heredoc in a script',
]);

function provesProblems(least: number): (bench: unknown, outcome: Outcome) => void {
  return (_bench, { status }) => {
    const problems = status?.failure?.facts['problems'] as { problem: string; remedy: string }[];
    ok(problems.length >= least, 'the problems are listed');
    for (const problem of problems) ok(problem.remedy.length > 5, `a remedy for: ${problem.problem}`);
    const changes = status?.phases.flatMap((phase) => phase.changes) ?? [];
    is(changes.length, 0, 'nothing was changed');
  };
}

/** Service CIDRs inside the VPC's blocks, 10.0.0.0/16 and 100.64.0.0/16, and which addresses each contains. */
const SERVICES_IN_THE_VPC: readonly [cidr: string, what?: string][] = [
  ['10.0.128.0/17'],
  ['100.64.0.0/16'],
  ['10.0.0.0/20', 'the node’s address'],
  ['10.0.64.0/20', 'the subnet 10.0.64.0/20'],
  ['10.0.72.0/24', 'the subnet 10.0.64.0/20'],
];

export const configFaults: Fault[] = [
  ...SERVICES_IN_THE_VPC.map(
    ([cidr, what]): Fault => ({
      name: `Services are in ${cidr}: ${what ?? 'a part of the VPC that no subnet has'}`,
      config: { kubernetes: { serviceCidrs: [cidr] } },
      expect:
        what === undefined
          ? { verdict: 'ready' }
          : { verdict: 'failed', code: 'SERVICE_CIDR_OVERLAP', atOnce: true },
      prove: (_, { status }) => {
        if (what !== undefined) match(status?.failure?.message ?? '', new RegExp(what));
        else
          is(
            status?.phases.flatMap(({ checks }) => checks).find(({ id }) => id === 'service-cidrs')?.result,
            'warn',
          );
      },
    }),
  ),
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
    name: 'user data for another program is passed over',
    launch: { userData: '#!/bin/sh\necho hello\n' },
    expect: { verdict: 'ready' },
  },
  ...userDataCases
    .filter(({ data }) => typeof data === 'string')
    .filter(({ name }) => onNodes.has(name))
    .map(
      ({ name, data, becomes }): Fault => ({
        name: `user data: ${name}`,
        launch: { userData: data as string },
        expect:
          becomes instanceof RegExp
            ? { verdict: 'failed', code: 'CONFIG_INVALID', phase: 'identify', atOnce: true }
            : { verdict: 'ready' },
        prove: (bench, outcome) => {
          if (becomes instanceof RegExp) return provesProblems(1)(bench, outcome);
          const { sources = [], warnings = [] } = outcome.status?.configuration ?? {};
          const from = sources.map(({ source }) => source);
          ok(sources[1]?.keys.includes('cluster'), 'the file has the cluster');
          is(warnings.length, becomes === 'read' ? 0 : 1);
          if (becomes !== 'read') return equal(from, ['default', '/etc/eniboot/config.yaml']);
          equal(from, ['default', '/etc/eniboot/config.yaml', 'user data, part 2']);
          equal(sources[2]?.keys, ['pods.max']);
        },
      }),
    ),
  {
    name: 'a drop-in that is a folder',
    launch: { files: { '/etc/eniboot/config.d/10-x.yaml/y': '' } },
    expect: { verdict: 'failed', code: 'CONFIG_INVALID', phase: 'identify', atOnce: true },
    prove: provesProblems(1),
  },
];
