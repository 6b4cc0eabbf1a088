// The node's policy rules, by family: which packets use which routing table. ADD makes the IPv4 rules of each pod.
import {
  BOOT_ENI_MARK,
  BOOT_ENI_RULE_PRIORITY,
  POD_RULE_PRIORITY,
  ROUTE_PROTOCOL,
  SERVICE_MARK,
  TURN_BACK_ADDRESS6,
} from '../../host/names.ts';
import type { Rule } from '../../host/routes.ts';
import * as kernel from '../../kernel/operation.ts';
import type { Change } from '../change.ts';
import { type Check, fail, pass } from '../phase.ts';

export interface NodeRule {
  rule: kernel.Rule & { mark: number };
  purpose: string;
}

const replies = (family: 4 | 6): NodeRule => ({
  rule: { kind: 'rule', family, priority: BOOT_ENI_RULE_PRIORITY, mark: BOOT_ENI_MARK, table: 'main' },
  purpose: 'marked replies use the main table',
});

/** IPv6 rules are for the whole node: a pod adds no rule, only a route for its own source address in that table. */
export const nodeRules: Record<4 | 6, readonly NodeRule[]> = {
  4: [replies(4)],
  6: [
    replies(6),
    {
      rule: {
        ...{ kind: 'rule', family: 6, priority: POD_RULE_PRIORITY },
        ...{ mark: SERVICE_MARK, table: ROUTE_PROTOCOL },
      },
      purpose: 'Service traffic of pods turns back into its pod',
    },
  ],
};

/** @param present the rules of the same family, as `ip` lists them. */
export function hasRule(present: readonly Rule[], { priority, mark, table }: NodeRule['rule']): boolean {
  return present.some(
    (one) =>
      one.priority === priority && one.mark === mark && one.mask === mark && one.table === String(table),
  );
}

function missingRules(family: 4 | 6, present: readonly Rule[]): NodeRule[] {
  return nodeRules[family].filter(({ rule }) => !hasRule(present, rule));
}

export function planRules(family: 4 | 6, present: readonly Rule[]): Change[] {
  return missingRules(family, present).map(({ rule, purpose }) => ({
    do: 'kernel',
    operations: [...(family === 6 ? routeBySource : []), kernel.make('node', rule, 'keep')],
    summary: `add ${family === 6 ? 'IPv6 ' : ''}rule ${rule.priority}: ${purpose}`,
  }));
}

/** A pod's route in that table matches its source address, which not every kernel supports. This route tests it. */
const tried: kernel.Route = {
  ...{ kind: 'route', type: 'unreachable', to: '::/0' },
  ...{ from: `${TURN_BACK_ADDRESS6}/128`, table: ROUTE_PROTOCOL },
};
const routeBySource: readonly kernel.KernelOperation[] = [
  kernel.make('node', tried),
  { on: 'node', do: 'remove', what: tried },
];

export function checkRules(family: 4 | 6, present: readonly Rule[]): Check {
  const id = family === 6 ? 'egress-rules-ipv6' : 'egress-rule';
  const missing = missingRules(family, present).map(({ rule }) => rule.priority);
  const what = `${family === 6 ? 'IPv6 ' : ''}rule ${missing.join(', ')} is missing`;
  if (missing.length > 0) return fail(id, 'EGRESS_RULE_MISSING', what, { present });
  return family === 6
    ? pass(id, 'the IPv6 rules for replies and for Service traffic are there')
    : pass(id, `rule ${BOOT_ENI_RULE_PRIORITY} sends marked replies by the main table`);
}
