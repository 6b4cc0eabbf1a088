// Operations as the commands that a person would type for them. No code reads these texts.
import { ROUTE_PROTOCOL } from '../host/names.ts';
import { prefixOf } from './bytes.ts';
import type {
  AddressSet,
  Chain,
  JumpedTo,
  KernelObject,
  LinkEnd,
  Neighbour,
  Operation,
  RangeSet,
  Route,
  Rule,
  Statement,
  Table,
  Tables,
} from './operation.ts';

/** The command, behind an `nsenter` when the operation is the pod's. @param netns path of the pod's namespace. */
export function commandOf(operation: Operation, netns: string): string {
  const entering = operation.on === 'pod' ? `nsenter --net=${netns} ` : '';
  return `${entering}${render(operation, netns)}`;
}

/** @param netns path of the pod's namespace; operations on the node do not need it. */
export function render(operation: Operation, netns = ''): string {
  switch (operation.do) {
    case 'make':
      return rendered(operation.what, operation.ifThere === 'replace' ? 'replace' : 'add', netns);
    case 'set': {
      const { device, mtu, up, generatesAddress, ipvlan } = operation;
      return words(
        `ip link set dev ${device}`,
        generatesAddress === false && 'addrgenmode none',
        mtu !== undefined && `mtu ${mtu}`,
        ipvlan !== undefined && `type ipvlan mode ${ipvlan}`,
        up && 'up',
      );
    }
    case 'remove': {
      const { what } = operation;
      if (what.kind === 'device') return `ip link del dev ${what.device}`;
      if (what.kind === 'group') return `ip link del group ${what.group}`;
      if (what.kind === 'rule') return ruleCommand(what, 'del');
      if (what.kind === 'route') return `ip route del ${routeText(what)} proto ${ROUTE_PROTOCOL}`;
      if (what.kind === 'found route') return `ip route del ${what.to} proto ${ROUTE_PROTOCOL}`;
      return `nft delete table ${what.family} ${what.name}`;
    }
    case 'flush': {
      const { what } = operation;
      if (what.kind === 'addresses')
        return words(`ip address flush dev ${what.device}`, what.scope === 'link' && 'scope link');
      const flushing = `ip${what.family === 6 ? ' -6' : ''} route flush`;
      if ('device' in what) return `${flushing} dev ${what.device}`;
      return words(
        `${flushing} table ${what.table}`,
        what.type !== undefined && `type ${what.type}`,
        `proto ${ROUTE_PROTOCOL}`,
      );
    }
    case 'program':
      return `${operation.file} ${operation.args.join(' ')}`;
  }
}

/** The object in the words of the command that makes it. */
function rendered(what: KernelObject, verb: 'add' | 'replace', netns: string): string {
  switch (what.kind) {
    case 'ipvlan':
      return `ip link ${verb} link ${what.parent} ${endText(what.end, netns)} type ipvlan mode l2`;
    case 'veth':
      return `ip link ${verb} ${endText(what.end, netns)} type veth peer ${endText(what.peer, netns)}`;
    case 'address':
      return words(
        `ip address ${verb} ${what.address}/${what.prefixLength} dev ${what.device}`,
        what.unchecked && 'nodad',
      );
    case 'neighbour':
      return `ip neigh ${verb} ${neighbourText(what)} nud permanent`;
    case 'route':
      return `ip route ${verb} ${routeText(what, true)} proto ${ROUTE_PROTOCOL}`;
    case 'rule':
      return ruleCommand(what, verb);
    case 'tables':
      return `nft '${tablesText(what)}'`;
    case 'setting':
      return `sysctl -w ${what.path}=${what.value}`;
  }
}

/** The object without the command that makes it. */
export function objectText(what: Exclude<KernelObject, { kind: 'ipvlan' | 'veth' | 'tables' }>): string {
  switch (what.kind) {
    case 'address':
      return `${what.address}/${what.prefixLength} dev ${what.device}`;
    case 'neighbour':
      return neighbourText(what);
    case 'route':
      return routeText(what);
    case 'rule':
      return ruleText(what);
    case 'setting':
      return `${what.path} = ${what.value}`;
  }
}

function neighbourText({ address, mac, device }: Neighbour): string {
  return `${address} lladdr ${mac} dev ${device}`;
}

/** A route's fields without its protocol. @param scoped adds the scope that follows from the other fields. */
export function routeText(
  { to, type, from, via, onlink, device, source, table }: Omit<Route, 'kind'>,
  scoped = false,
): string {
  const onLink = via === undefined && type === undefined && !to.includes(':');
  return words(
    type,
    to,
    from !== undefined && `from ${from}`,
    via !== undefined && `via ${via}`,
    device !== undefined && `dev ${device}`,
    onlink && 'onlink',
    scoped && onLink && 'scope link',
    source !== undefined && `src ${source}`,
    table !== undefined && `table ${table}`,
  );
}

/** A rule's fields without its family and protocol. */
export function ruleText({ priority, iif, from, mark, table }: Rule): string {
  return words(
    `priority ${priority}`,
    iif !== undefined && `iif ${iif}`,
    from !== undefined && `from ${from}`,
    mark !== undefined && `fwmark ${hex(mark)}/${hex(mark)}`,
    `lookup ${table}`,
  );
}

/** The family of a rule is an option of `ip` itself. */
function ruleCommand(rule: Rule, verb: string): string {
  const family = rule.family === 6 ? ' -6' : '';
  return `ip${family} rule ${verb} ${ruleText(rule)} protocol ${ROUTE_PROTOCOL}`;
}

function endText({ name, mac, mtu, group, inPod }: LinkEnd, netns: string): string {
  return words(
    `name ${name}`,
    mac !== undefined && `address ${mac}`,
    mtu !== undefined && `mtu ${mtu}`,
    group !== undefined && `group ${group}`,
    inPod && `netns ${netns}`,
  );
}

/** The tables as a file for `nft -f`. */
export function tablesText({ tables }: Tables): string {
  return tables.map(tableText).join('');
}

function tableText({ family, name, sets = [], chains }: Table): string {
  return `table ${family} ${name} {\n${sets.map(setText).join('')}${chains.map(chainText).join('')}}\n`;
}

function setText(set: AddressSet | RangeSet): string {
  const texts = 'ranges' in set ? set.ranges.map(({ first, last }) => `${first}-${last}`) : set.addresses;
  const elements = texts.length === 0 ? '' : `    elements = { ${texts.join(', ')} }\n`;
  const flags = 'ranges' in set ? '    flags interval\n' : '';
  return `  set ${set.name} {\n    type ${set.family === 6 ? 'ipv6_addr' : 'ipv4_addr'}\n${flags}${elements}  }\n`;
}

function chainText({ name, rules, ...base }: Chain | JumpedTo): string {
  const lines = rules.map((rule) => `    ${rule.map(statementText).join(' ')}\n`);
  return `  chain ${name} {\n${base.hook === undefined ? '' : hookText(base)}${lines.join('')}  }\n`;
}

function hookText({ type, hook, device, priority, policy }: Omit<Chain, 'name' | 'rules'>): string {
  const on = device === undefined ? '' : ` device "${device}"`;
  return `    type ${type} hook ${hook}${on} priority ${priority}; policy ${policy};\n`;
}

function statementText(one: Statement): string {
  if ('add' in one) return `${one.add} set ${one.add} or ${hex(one.bit)}`;
  if ('snat' in one) return `snat ${familyOf(one.snat)} to ${one.snat} fully-random`;
  if ('verdict' in one) return one.verdict;
  if ('reject' in one) return `reject with icmpx type ${one.reject}`;
  if ('jump' in one) return `jump ${one.jump}`;
  if ('count' in one) return 'counter';
  if ('log' in one) return `log prefix "${one.prefix}" group ${one.log}`;
  switch (one.match) {
    case 'iifname':
    case 'oifname':
      return `${one.match} ${one.not ? '!= ' : ''}"${one.is}"`;
    case 'saddr':
    case 'daddr': {
      if ('in' in one) return `${one.family === 6 ? 'ip6' : 'ip'} ${one.match} @${one.in}`;
      const of = typeof one.of === 'string' ? one.of : `{ ${one.of.join(', ')} }`;
      return `${familyOf(typeof one.of === 'string' ? one.of : one.of[0])} ${one.match} ${one.not ? '!= ' : ''}${of}`;
    }
    case 'direction':
    case 'state':
      return `ct ${one.match} ${one.is}`;
    case 'ct mark':
      return `ct mark and ${hex(one.has)} == ${hex(one.has)}`;
    case 'nfproto':
    case 'protocol':
      return `meta ${one.match} ${one.is}`;
    case 'l4proto':
      return `meta l4proto != ${one.not}`;
    case 'frame':
      return `ether saddr ${one.from} ether type ${one.type}`;
    case 'arp':
      return `arp saddr ether ${one.mac} arp saddr ip ${one.address}`;
    case 'icmpv6':
      return `icmpv6 type ${one.below ? '< ' : ''}${one.type}${one.upTo === undefined ? '' : `-${one.upTo}`}`;
    case 'ports':
      return `${one.protocol} dport ${one.first === one.last ? one.first : `${one.first}-${one.last}`}`;
    case 'advertised':
      return `@nh,384,128 0x${Buffer.from(prefixOf(one.is).bytes).toString('hex')}`;
    case 'rate':
      return `limit rate ${one.perSecond}/second burst ${one.perSecond} packets`;
    case 'over':
      return `limit rate over ${one.bytesPerSecond} bytes/second burst ${one.burstBytes} bytes`;
  }
}

function familyOf(address = ''): string {
  return address.includes(':') ? 'ip6' : 'ip';
}

function hex(mark: number): string {
  return `0x${mark.toString(16)}`;
}

function words(...some: (string | false | undefined)[]): string {
  return some.filter((word) => word !== false && word !== undefined).join(' ');
}
