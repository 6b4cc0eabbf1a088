// The plan of ADD and DEL, as operators see it. golden/attachment.txt has it for attachments of every form, as the first version
// wrote it. A change of the plan is a change of every pod's network.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { attachmentPlan, nodeRemoval, podDestinations, podRemoval } from '../../agent/attachment/plan.ts';
import type { Operation } from '../../agent/kernel/operation.ts';
import { render, tablesText } from '../../agent/kernel/render.ts';
import { NETNS, type Variant, variants } from './variants.ts';

/** An operation in words, with what it does to an existing object other than replacing it. */
function shown(operation: Operation): string {
  const ifThere = operation.do === 'make' && operation.ifThere !== 'replace' ? `, ${operation.ifThere}` : '';
  const before = `${operation.on}${ifThere}: `;
  if (operation.do === 'make' && operation.what.kind === 'tables')
    return `${before.trimEnd()}\n${tablesText(operation.what).trimEnd()}`;
  if (operation.do === 'program') return `${before}${render(operation, NETNS)}\n${operation.input.trimEnd()}`;
  return `${before}${render(operation, NETNS)}`;
}

function planText({ name, attachment, ...place }: Variant): string[] {
  const { always, whereIpv6, programs } = attachmentPlan(attachment, place);
  return [
    `== ${name}`,
    ...always.map(shown),
    ...(whereIpv6.length === 0 ? [] : ['-- where the pod has IPv6', ...whereIpv6.map(shown)]),
    ...programs.map(shown),
    `-- routes of the main table: ${podDestinations(attachment).join(' ')}`,
  ];
}

test('the plan of every form is the same as before', () => {
  const lines = [
    ...variants.flatMap(planText),
    '== removed',
    ...[...nodeRemoval('10.0.64.9'), ...podRemoval].map(shown),
  ];
  const golden = readFileSync(join(import.meta.dirname, 'golden/attachment.txt'), 'utf8');
  assert.fixture(`${lines.join('\n')}\n`, golden);
});

test.run();
