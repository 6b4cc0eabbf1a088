// egress: pods reach the Internet as the boot ENI's primary address, through one nftables table that is
// replaced whole. Also what makes replies to NodePort and hostPort connections leave the way they came.
import { readPublicAddress } from '../aws/metadata.ts';
import { deviceOf } from '../host/devices.ts';
import { isCidr } from '../host/ipv4.ts';
import { ipBatch, listRules, type Rule, routeTo } from '../host/links.ts';
import { BOOT_ENI_RULE_PRIORITY, RUN_DIR } from '../host/names.ts';
import { compareTables, replaceTables, type TableState } from '../host/nft.ts';
import { earlierNodeFile } from '../host/node-file.ts';
import { readSysctl, writeSysctl } from '../host/sysctl.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { CLOUD_SILENT } from '../messages/kinds.ts';
import { listOwned, type Owned } from '../pool/pool.ts';
import { readIfPresent, readJsonIfPresent, writeAtomic, writeIfChanged } from '../port/fs.ts';
import {
  addRule6,
  bootEniRule,
  checkRules6,
  isBootEniRule,
  isRule6,
  rule6Text,
  rules6,
} from './egress-rules.ts';
import { renderTables } from './egress-table.ts';
import type { GuardedEni } from './guard-table.ts';
import {
  type Boot,
  type Change,
  type Check,
  fail,
  isDualStack,
  nodeOf,
  type Phase,
  pass,
  warn,
} from './phase.ts';
import { checkServiceCidrs } from './service-cidrs.ts';

interface Observed {
  /** The planned tables' text, and how the kernel's compare with it. */
  tables: string;
  table: TableState;
  rules: Rule[];
  /** IPv6 rules; undefined where pods have IPv4 alone. */
  rules6: Rule[] | undefined;
  sysctls: Record<string, string | undefined>;
  /** What is written for whoever sets all settings anew. */
  sysctlFile: string | undefined;
  publicAddress: string | undefined;
  /** VPC CIDRs EC2 has just given: to be kept for the rest of this boot. */
  fromEc2: string[] | undefined;
}

type Planned = Change &
  (
    | { kind: 'table'; tables: string }
    | { kind: 'rule' }
    | { kind: 'rule6'; rule: string }
    | { kind: 'sysctl'; path: string; value: string }
    | { kind: 'sysctl-file'; text: string }
    | { kind: 'public-address'; eniId: string }
  );

/** Destination for "how does the Internet look from here": documentation space, never answered, never sent to. */
const SOMEWHERE = '198.51.100.1';

export const egress: Phase<Observed, Planned> = {
  name: 'egress',
  budgetSeconds: 60,

  async observe(boot) {
    const { bootDevice, bootEni } = nodeOf(boot);
    const { cidrs, fromEc2 } = await confirmVpcCidrs(boot);
    bootEni.vpcCidrs = cidrs;
    if (boot.config.egress.publicAddress === 'require' && !boot.localOnly)
      bootEni.publicAddress ??= await publicAddressWithin(boot, PUBLIC_ADDRESS_LAG_MS);
    const tables = tablesOf(boot);
    const [table, rules, rules6] = await Promise.all([
      compareTables(tables),
      listRules(),
      isDualStack(boot) ? listRules(6) : undefined,
    ]);
    const sysctls = Object.fromEntries(
      Object.keys(wantedSysctls(bootDevice.name, isDualStack(boot))).map((path) => [path, readSysctl(path)]),
    );
    const sysctlFile = readIfPresent(SYSCTL_FILE);
    return {
      tables,
      table,
      rules,
      rules6,
      sysctls,
      sysctlFile,
      publicAddress: bootEni.publicAddress,
      fromEc2,
    };
  },

  plan(observed, boot) {
    const { bootDevice, bootEni } = nodeOf(boot);
    const changes: Planned[] = [];
    const wantedSettings = wantedSysctls(bootDevice.name, isDualStack(boot));
    const text = sysctlText(wantedSettings);
    if (observed.sysctlFile !== text)
      changes.push({ kind: 'sysctl-file', text, summary: `write ${SYSCTL_FILE}` });
    for (const [path, value] of Object.entries(wantedSettings)) {
      if (observed.sysctls[path] !== value) {
        changes.push({ kind: 'sysctl', path, value, summary: `set ${path} to ${value}` });
      }
    }
    if (!observed.table.intact) {
      const verb = observed.table.present ? 'replace' : 'create';
      const summary = `${verb} tables inet and netdev eniboot`;
      changes.push({ kind: 'table', tables: observed.tables, summary });
    }
    if (!observed.rules.some(isBootEniRule)) {
      changes.push({
        kind: 'rule',
        summary: `add rule ${BOOT_ENI_RULE_PRIORITY}: marked replies use the main table`,
      });
    }
    for (const one of observed.rules6 === undefined ? [] : rules6) {
      if (observed.rules6?.some((rule) => isRule6(rule, one))) continue;
      changes.push({
        kind: 'rule6',
        rule: rule6Text(one),
        summary: `add IPv6 rule ${one.priority}: ${one.purpose}`,
      });
    }
    const wanted = boot.config.egress.publicAddress === 'request' && !boot.localOnly;
    if (observed.publicAddress === undefined && wanted) {
      changes.push({
        kind: 'public-address',
        eniId: bootEni.eniId,
        summary: `ask EC2 for a public IPv4 address on ${bootEni.eniId}`,
      });
    }
    return changes;
  },

  async apply(changes, observed, boot) {
    if (observed.fromEc2 !== undefined) writeAtomic(VPC_FILE, JSON.stringify(observed.fromEc2), 0o600);
    for (const change of changes) {
      if (change.kind === 'sysctl') writeSysctl(change.path, change.value);
      else if (change.kind === 'sysctl-file') writeIfChanged(SYSCTL_FILE, change.text);
      else if (change.kind === 'table') await replaceTables(change.tables, observed.table);
      else if (change.kind === 'rule6') await addRule6(change.rule);
      else if (change.kind === 'rule') await ipBatch([`rule add ${bootEniRule()}`]);
      else await requestPublicAddress(boot, change.eniId);
    }
  },

  async verify(boot) {
    const { bootDevice } = nodeOf(boot);
    const [table, rules, present6, route] = await Promise.all([
      compareTables(tablesOf(boot)),
      listRules(),
      isDualStack(boot) ? listRules(6) : undefined,
      routeTo(SOMEWHERE),
    ]);
    return [
      checkTables(table),
      rules.some(isBootEniRule)
        ? pass('egress-rule', `rule ${BOOT_ENI_RULE_PRIORITY} sends marked replies by the main table`)
        : fail('egress-rule', 'EGRESS_RULE_MISSING', `rule ${BOOT_ENI_RULE_PRIORITY} is missing`, { rules }),
      ...(present6 === undefined ? [] : [checkRules6(present6)]),
      checkRoute(boot, route),
      ...checkSysctls(bootDevice.name, isDualStack(boot)),
      checkPublicAddress(boot),
      checkServiceCidrs(boot),
    ];
  },
};

function checkTables(table: TableState): Check {
  const id = 'egress-table';
  const { intact, present, ofVersion } = table;
  const evidence = { intact, present, ofVersion };
  if (table.intact) return pass(id, 'tables inet and netdev eniboot are as planned');
  // Just after an update, until repair has run.
  if (table.ofVersion !== undefined)
    return warn(
      id,
      `tables inet and netdev eniboot are as version ${table.ofVersion} loaded them; repair replaces them`,
      evidence,
    );
  const what = table.present
    ? 'tables inet and netdev eniboot are not as planned'
    : 'table inet or netdev eniboot is missing';
  return fail(id, 'EGRESS_TABLE_DIFFERS', what, evidence);
}

/** Renders the tables for a pool of these prefixes and addresses, and loads them where they differ. */
export async function refreshTables(boot: Boot, owned: Owned[]): Promise<void> {
  const tables = tablesOf(boot, owned);
  const state = await compareTables(tables);
  if (!state.intact) await replaceTables(tables, state);
}

function tablesOf(boot: Boot, owned: Owned[] = listOwned()): string {
  const { bootDevice, bootEni } = nodeOf(boot);
  return renderTables({
    device: bootDevice.name,
    nodeAddress: bootEni.addresses[0] ?? '',
    vpcCidrs: bootEni.vpcCidrs,
    poolCidrs: owned.map((one) => one.cidr),
    poolPrefixes6: isDualStack(boot) ? prefixes6Of(boot) : undefined,
    enis: guardedEnis(boot, owned),
    config: boot.config,
  });
}

/**
 * Those whose pods may live, though this run has not looked for ENIs yet, and those it has found. Where node.json is lost,
 * IMDS knows the ENIs that the pool's addresses are on.
 */
function guardedEnis(boot: Boot, owned: Owned[]): GuardedEni[] {
  const known = new Map<string, Omit<GuardedEni, 'device' | 'cidrs'>>();
  for (const { eniId, mac, addresses, ipv6Prefixes } of nodeOf(boot).otherEnis) {
    if (!owned.some((one) => one.eniId === eniId)) continue;
    known.set(eniId, { eniId, mac, primaryAddress: addresses[0], ipv6Prefix: [...ipv6Prefixes].sort()[0] });
  }
  for (const eni of [...(earlierNodeFile()?.podEnis ?? []), ...boot.pods]) {
    const { eniId, mac, ipv6Prefix } = eni;
    const primaryAddress = eni.primaryAddress || known.get(eniId)?.primaryAddress;
    known.set(eniId, { eniId, mac, primaryAddress, ipv6Prefix });
  }
  // In one order, whoever names them first: the same ENIs are the same text.
  const inOrder = [...known.values()].sort((a, b) => (a.eniId < b.eniId ? -1 : 1));
  return inOrder.flatMap((eni) => {
    const device = deviceOf(eni.mac);
    if (device === undefined) return [];
    const cidrs = owned.filter((one) => one.eniId === eni.eniId).map((one) => one.cidr);
    return [{ ...eni, device, cidrs, ipv6Prefix: isDualStack(boot) ? eni.ipv6Prefix : undefined }];
  });
}

/** Of ENIs whose pods may live, though this run has not looked for ENIs yet, and of those it has found. */
function prefixes6Of(boot: Boot): string[] {
  return [...new Set([...toldPrefixes6(), ...boot.pods.flatMap((pod) => pod.ipv6Prefix ?? [])])];
}

function toldPrefixes6(): string[] {
  return earlierNodeFile()?.podEnis.flatMap((eni) => eni.ipv6Prefix ?? []) ?? [];
}

/**
 * All CIDR blocks of the VPC. EC2 is asked because IMDS omits secondary blocks on some instance families;
 * a VPC may be given another while nodes live, so each boot and refill asks. When EC2 does not answer, what it said
 * earlier in this boot or what IMDS says is used, unless neither says anything: a node that would send VPC traffic to
 * the Internet is worse than no node. Repair asks nobody.
 */
async function confirmVpcCidrs(boot: Boot): Promise<{ cidrs: string[]; fromEc2?: string[] }> {
  const { bootEni } = nodeOf(boot);
  const fromImds = bootEni.vpcCidrs;
  const known = readVpcCidrs();
  const withImds = (cidrs: string[]) => [...new Set([...cidrs, ...fromImds])].sort();
  if (boot.localOnly) return { cidrs: withImds(known ?? routedSoFar(boot)) };
  const ask = async () => {
    const ec2 = await boot.ec2();
    const fromEc2 = await boot.waiting(ec2.describeVpcCidrs(bootEni.vpcId));
    if (fromEc2.length === 0) {
      // Every VPC has one: that is no answer.
      throw new Failure('EC2_UNAVAILABLE', `EC2 names no CIDR of ${bootEni.vpcId}`, {
        action: 'DescribeVpcs',
        vpcId: bootEni.vpcId,
      });
    }
    return { cidrs: withImds(fromEc2), fromEc2 };
  };
  try {
    if (fromImds.length > 0 || known !== undefined) boot.limitPatience(silenceMs(boot));
    return await ask();
  } catch (error) {
    // Thousands of nodes boot at once: one that needs EC2 for its first pod ENI anyway waits here for its turn.
    if (known === undefined && isFailure(error, 'EC2_THROTTLED') && nodeOf(boot).otherEnis.length === 0) {
      boot.limitPatience(undefined);
      return await ask();
    }
    if (known !== undefined && isSilence(error)) return { cidrs: withImds(known) };
    if (fromImds.length === 0 || !isSilence(error)) throw error;
    boot.ec2Silent = true;
    boot.degradations.push(`VPC CIDRs are IMDS's: ${error.message}`);
    return { cidrs: [...fromImds].sort() };
  } finally {
    boot.limitPatience(undefined);
  }
}

/** What pods were told lies in the VPC, for a repair without EC2's answer: an empty one of IMDS takes nothing away. */
function routedSoFar(boot: Boot): string[] {
  const configured = boot.config.pods.routes;
  return earlierNodeFile()?.podRoutes.filter((cidr) => !configured.includes(cidr)) ?? [];
}

/** EC2's last answer in this boot. */
const VPC_FILE = `${RUN_DIR}/vpc-cidrs.json`;

function readVpcCidrs(): string[] | undefined {
  const value = readJsonIfPresent(VPC_FILE);
  const isKnown = Array.isArray(value) && value.length > 0;
  return isKnown && value.every((one) => typeof one === 'string' && isCidr(one)) ? value : undefined;
}

/** How long EC2 may stay silent where the boot can go on without it; a short deadline leaves less. Milliseconds. */
export function silenceMs(boot: Boot): number {
  return Math.max(0, Math.min(12_000, (boot.until() - boot.clock.bootMs()) / 4));
}

/** EC2 has not said no: it has not answered, or cannot be asked. */
export function isSilence(error: unknown): error is Failure {
  return isFailure(error, ...CLOUD_SILENT);
}

/** How long IMDS may lag behind with the address of an instance that has one. Milliseconds. */
const PUBLIC_ADDRESS_LAG_MS = 5_000;

/** What IMDS says by then; undefined when it still shows none. */
async function publicAddressWithin(boot: Boot, ms: number): Promise<string | undefined> {
  const { clock, imds } = boot;
  const { mac } = nodeOf(boot).bootEni;
  const endsAt = Math.min(boot.until(), clock.bootMs() + ms);
  for (let pause = 250; ; pause = Math.min(4_000, pause * 2)) {
    const seen = await boot.waiting(readPublicAddress(imds, mac));
    if (seen !== undefined) return seen;
    if (clock.bootMs() + pause >= endsAt) return undefined;
    await boot.waiting(clock.sleep(pause));
  }
}

async function requestPublicAddress(boot: Boot, eniId: string): Promise<void> {
  const { bootEni } = nodeOf(boot);
  const ec2 = await boot.ec2();
  await boot.waiting(ec2.requestPublicAddress(eniId));
  bootEni.publicAddress = await publicAddressWithin(boot, Number.POSITIVE_INFINITY);
  if (bootEni.publicAddress !== undefined) return;
  throw new Failure('NO_PUBLIC_ADDRESS', 'EC2 accepted the request, but IMDS shows no public IPv4 address', {
    eniId,
  });
}

/**
 * systemd-sysctl, and `sysctl --system` in a package's scriptlet, set all that sysctl.d says: our own `*.rp_filter = 1` too. The
 * last name wins (sysctl.d(5)).
 */
const SYSCTL_FILE = '/run/sysctl.d/zz-eniboot.conf';

function sysctlText(wanted: Record<string, string>): string {
  const lines = Object.entries(wanted).map(([path, value]) => `${path} = ${value}\n`);
  return `# Written by eniboot at boot: settings of this node's devices.\n${lines.join('')}`;
}

/** Settings of the node that egress and NodePort need, as paths below /proc/sys. */
export function wantedSysctls(device: string, ipv6: boolean): Record<string, string> {
  return {
    'net/ipv4/ip_forward': '1',
    // Loose, on the boot ENI alone: replies to NodePort connections may come back by another device.
    [`net/ipv4/conf/${device}/rp_filter`]: '2',
    ...(ipv6 ? wantedSysctls6(device) : {}),
  };
}

/**
 * A machine that forwards ignores router advertisements, and drops the default route it has of one, unless told
 * otherwise first. Where the kernel does not take them, NetworkManager does.
 */
function wantedSysctls6(device: string): Record<string, string> {
  const advertisements = `net/ipv6/conf/${device}/accept_ra`;
  return {
    ...(readSysctl(advertisements) === '0' ? {} : { [advertisements]: '2' }),
    'net/ipv6/conf/all/forwarding': '1',
  };
}

function checkSysctls(device: string, ipv6: boolean): Check[] {
  return Object.entries(wantedSysctls(device, ipv6)).map(([path, wanted]) => {
    const actual = readSysctl(path);
    return actual === wanted
      ? pass(`sysctl-${path.split('/').at(-1)}`, `${path} is ${wanted}`)
      : fail(`sysctl-${path.split('/').at(-1)}`, 'SYSCTL_DIFFERS', `${path} is ${actual}, not ${wanted}`, {
          path,
          actual,
          wanted,
        });
  });
}

function checkRoute(boot: Boot, route: { device: string; source: string } | undefined): Check {
  const { bootDevice, bootEni } = nodeOf(boot);
  const evidence = {
    destination: SOMEWHERE,
    ...route,
    expected: { device: bootDevice.name, source: bootEni.addresses[0] },
  };
  return route?.device === bootDevice.name && route.source === bootEni.addresses[0]
    ? pass('egress-route', `the Internet is reached by ${route.device} from ${route.source}`, evidence)
    : fail(
        'egress-route',
        'NO_DEFAULT_ROUTE',
        'the Internet is not reached by the boot ENI from its primary address',
        evidence,
      );
}

function checkPublicAddress(boot: Boot): Check {
  const { publicAddress, eniId } = nodeOf(boot).bootEni;
  if (publicAddress !== undefined)
    return pass('public-address', `the boot ENI has public address ${publicAddress}`, { publicAddress });
  if (boot.config.egress.publicAddress === 'ignore') {
    return pass(
      'public-address',
      'the boot ENI has no public IPv4 address: egress is private (NAT gateway or none)',
    );
  }
  return fail(
    'public-address',
    'NO_PUBLIC_ADDRESS',
    'egress needs a public IPv4 address and the boot ENI has none',
    { eniId },
  );
}
