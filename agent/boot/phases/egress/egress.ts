// egress: pods reach the Internet from the boot ENI's primary address, through one nftables table that is replaced whole. It
// also makes replies to NodePort and hostPort connections leave the way they came.
import { deviceName } from '../../../host/devices.ts';
import type { TableState } from '../../../host/nft.ts';
import { listRules, type Rule, routeTo } from '../../../host/routes.ts';
import { readSysctl } from '../../../host/sysctl.ts';
import { make } from '../../../kernel/operation.ts';
import { readIfPresent } from '../../../port/fs.ts';
import { type Change, planFiles, type WantedFile } from '../../change.ts';
import type { Context } from '../../context.ts';
import { isDualStack, type NodeFacts, type PodEni, type Vpc } from '../../facts/facts.ts';
import { checkRules, planRules } from '../../node-rules/ip-rules.ts';
import { observeTables, planTables, type TablesSeen, tablesState } from '../../node-rules/nft-tables.ts';
import { checkServiceCidrs, readResolvers } from '../../node-rules/service-cidrs.ts';
import { type Check, fail, type Phase, pass, row } from '../../phase.ts';
import { observePublicAddress } from './public-address.ts';
import { observeVpc, type VpcSeen } from './vpc.ts';

interface Observed {
  vpc: Vpc;
  vpcSeen: VpcSeen;
  /** Name of the boot ENI's device. */
  device: string;
  tables: TablesSeen;
  rules: Rule[];
  /** IPv6 rules; undefined when pods have only IPv4. */
  rules6: Rule[] | undefined;
  /** How the kernel would reach the Internet. */
  route: { device: string; source: string } | undefined;
  /** By path below /proc/sys: the present value and the wanted one. */
  settings: Setting[];
  /** The file from which systemd-sysctl sets all settings again. */
  settingsFile: WantedFile;
  /** The node's DNS servers. */
  resolvers: string[];
}

interface Setting {
  path: string;
  wanted: string;
  actual: string | undefined;
}

/** A destination to ask the kernel for its route to the Internet: documentation space, never answered, never sent to. */
const SOMEWHERE = '198.51.100.1';

/** @param pods the pod ENIs that this run has found; none before attach */
export function egress(context: Context, node: NodeFacts, pods: readonly PodEni[] = []): Phase<Observed> {
  const tablesInput = ({ device, vpc }: Observed) => ({ device, vpcCidrs: vpc.cidrs, pods });
  return {
    name: 'egress',

    async observe() {
      const ipv6 = isDualStack(node);
      const device = deviceName(node.bootDevice);
      const vpcSeen = await observeVpc(context, node);
      const publicAddress = await observePublicAddress(context, node);
      const [tables, rules, ofIpv6, route] = await Promise.all([
        observeTables(context, node, pods),
        listRules(),
        ipv6 ? listRules(6) : undefined,
        routeTo(SOMEWHERE),
      ]);
      const wanted = wantedSysctls(device, ipv6);
      const vpc = { cidrs: vpcSeen.cidrs, publicAddress };
      return {
        ...{ vpc, vpcSeen, device, tables, rules, rules6: ofIpv6, route },
        settings: Object.entries(wanted).map(([path, value]) => ({
          path,
          wanted: value,
          actual: readSysctl(path),
        })),
        settingsFile: { path: SYSCTL_FILE, text: sysctlText(wanted), found: readIfPresent(SYSCTL_FILE) },
        resolvers: readResolvers(),
      };
    },

    plan: (observed) => [
      ...planFiles([...observed.vpcSeen.note, observed.settingsFile]),
      ...observed.settings
        .filter(({ wanted, actual }) => actual !== wanted)
        .map(
          ({ path, wanted: value }): Change => ({
            do: 'kernel',
            operations: [make('node', { kind: 'setting', path, value })],
            summary: `set ${path} to ${value}`,
          }),
        ),
      ...planTables(observed.tables, node, tablesInput(observed)),
      ...planRules(4, observed.rules),
      ...(observed.rules6 === undefined ? [] : planRules(6, observed.rules6)),
      ...planPublicAddress(context, node, observed.vpc),
    ],

    judge: (observed) => [
      checkTables(tablesState(observed.tables, node, tablesInput(observed))),
      checkRules(4, observed.rules),
      ...(observed.rules6 === undefined ? [] : [checkRules(6, observed.rules6)]),
      checkRoute(node, observed),
      ...observed.settings.map(checkSetting),
      checkPublicAddress(node, observed.vpc),
      checkServiceCidrs(node, {
        ...{ vpcCidrs: observed.vpc.cidrs, pods, resolvers: observed.resolvers },
        owned: observed.tables.owned,
      }),
    ],

    degradations: ({ vpcSeen }) => vpcSeen.degraded,

    forget() {
      context.cloud.vpcCidrs = undefined;
    },
  };
}

function planPublicAddress({ mode }: Context, node: NodeFacts, { publicAddress }: Vpc): Change[] {
  const isWanted = node.config.egress.publicAddress === 'request' && mode.kind !== 'repair';
  if (!isWanted || publicAddress !== undefined) return [];
  const { eniId } = node.bootEni;
  return [{ do: 'public-address', node, summary: `ask EC2 for a public IPv4 address on ${eniId}` }];
}

function checkTables({ intact, present, ofVersion }: TableState): Check {
  const check = row('egress-table', { intact, present, ofVersion });
  const tables = 'tables inet and netdev eniboot are';
  if (intact) return check.pass(`${tables} as planned`);
  // Just after an update, until repair has run.
  if (ofVersion !== undefined)
    return check.warn(`${tables} as version ${ofVersion} loaded them; repair replaces them`);
  const what = present ? `${tables} not as planned` : 'table inet or netdev eniboot is missing';
  return check.fail('EGRESS_TABLE_DIFFERS', what);
}

/**
 * systemd-sysctl, and `sysctl --system` in a package's scriptlet, set everything in sysctl.d, also eniboot's own
 * `*.rp_filter = 1`. The last file name wins (sysctl.d(5)).
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
 * A machine that forwards ignores router advertisements and drops the default route it has from one, unless it is told
 * otherwise before it forwards. Where the kernel ignores advertisements, NetworkManager reads them.
 */
function wantedSysctls6(device: string): Record<string, string> {
  const advertisements = `net/ipv6/conf/${device}/accept_ra`;
  return {
    ...(readSysctl(advertisements) === '0' ? {} : { [advertisements]: '2' }),
    'net/ipv6/conf/all/forwarding': '1',
  };
}

function checkSetting({ path, wanted, actual }: Setting): Check {
  const id = `sysctl-${path.split('/').at(-1)}`;
  return actual === wanted
    ? pass(id, `${path} is ${wanted}`)
    : fail(id, 'SYSCTL_DIFFERS', `${path} is ${actual}, not ${wanted}`, { path, actual, wanted });
}

function checkRoute({ bootEni }: NodeFacts, { device, route }: Observed): Check {
  const [source] = bootEni.addresses;
  const check = row('egress-route', { destination: SOMEWHERE, ...route, expected: { device, source } });
  return route?.device === device && route.source === source
    ? check.pass(`the Internet is reached by ${route.device} from ${route.source}`)
    : check.fail('NO_DEFAULT_ROUTE', 'the Internet is not reached by the boot ENI from its primary address');
}

function checkPublicAddress({ config, bootEni }: NodeFacts, { publicAddress }: Vpc): Check {
  const id = 'public-address';
  if (publicAddress !== undefined)
    return pass(id, `the boot ENI has public address ${publicAddress}`, { publicAddress });
  if (config.egress.publicAddress === 'ignore')
    return pass(id, 'the boot ENI has no public IPv4 address: egress is private (NAT gateway or none)');
  const summary = 'egress needs a public IPv4 address and the boot ENI has none';
  return fail(id, 'NO_PUBLIC_ADDRESS', summary, { eniId: bootEni.eniId });
}
