// The policy rules of the node, by family: which packets look into which table. Pods' own rules of IPv4 are ADD's.
import { ipBatch, type Rule } from '../host/links.ts';
import {
  BOOT_ENI_MARK,
  BOOT_ENI_RULE_PRIORITY,
  POD_RULE_PRIORITY,
  ROUTE_PROTOCOL,
  SERVICE_MARK,
  TURN_BACK_ADDRESS6,
} from '../host/names.ts';
import { Failure } from '../messages/failure.ts';
import { type Check, fail, pass } from './phase.ts';

/** The rule for marked replies, as `ip rule add` takes it. */
export function bootEniRule(): string {
  const mark = `0x${BOOT_ENI_MARK.toString(16)}`;
  return `priority ${BOOT_ENI_RULE_PRIORITY} fwmark ${mark}/${mark} lookup main protocol ${ROUTE_PROTOCOL}`;
}

export function isBootEniRule(rule: Rule): boolean {
  return (
    rule.priority === BOOT_ENI_RULE_PRIORITY &&
    rule.mark === BOOT_ENI_MARK &&
    rule.mask === BOOT_ENI_MARK &&
    rule.table === 'main'
  );
}

interface Rule6 {
  priority: number;
  mark: number;
  /** As `ip rule` shows it. */
  table: string;
  purpose: string;
}

/** The whole node's IPv6 rules: a pod adds none, only a route for its own source address to that table. */
export const rules6: readonly Rule6[] = [
  {
    priority: BOOT_ENI_RULE_PRIORITY,
    mark: BOOT_ENI_MARK,
    table: 'main',
    purpose: 'marked replies use the main table',
  },
  {
    priority: POD_RULE_PRIORITY,
    mark: SERVICE_MARK,
    table: String(ROUTE_PROTOCOL),
    purpose: 'Service traffic of pods turns back into its pod',
  },
];

/** The whole node's IPv6 rules as `ip -6 rule add` takes them, and how each is known. */
export function bootRules6(): {
  text: string;
  purpose: 'replies' | 'services';
  isIt: (rule: Rule) => boolean;
}[] {
  return rules6.map((one) => ({
    text: rule6Text(one),
    purpose: one.mark === SERVICE_MARK ? 'services' : 'replies',
    isIt: (rule) => isRule6(rule, one),
  }));
}

export function rule6Text({ priority, mark, table }: Rule6): string {
  const hex = `0x${mark.toString(16)}`;
  return `priority ${priority} fwmark ${hex}/${hex} lookup ${table} protocol ${ROUTE_PROTOCOL}`;
}

export function isRule6(rule: Rule, { priority, mark, table }: Rule6): boolean {
  return rule.priority === priority && rule.mark === mark && rule.mask === mark && rule.table === table;
}

/** @throws IPV6_UNAVAILABLE when the kernel knows no routes by source, which every pod's is. */
export async function addRule6(rule: string): Promise<void> {
  const probe = `unreachable ::/0 from ${TURN_BACK_ADDRESS6}/128 table ${ROUTE_PROTOCOL} proto ${ROUTE_PROTOCOL}`;
  try {
    await ipBatch([`route replace ${probe}`, `route del ${probe}`], 6);
  } catch (error) {
    throw new Failure(
      'IPV6_UNAVAILABLE',
      `the kernel takes no route by source address: ${String(error)}`,
      {},
      error,
    );
  }
  await ipBatch([`rule add ${rule}`], 6);
}

export function checkRules6(present: Rule[]): Check {
  const missing = rules6.filter((one) => !present.some((rule) => isRule6(rule, one)));
  const numbers = missing.map((one) => one.priority).join(', ');
  return missing.length === 0
    ? pass('egress-rules-ipv6', 'the IPv6 rules for replies and for Service traffic are there')
    : fail('egress-rules-ipv6', 'EGRESS_RULE_MISSING', `IPv6 rule ${numbers} is missing`, { present });
}
