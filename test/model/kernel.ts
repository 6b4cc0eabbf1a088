// The kernel model: links, rules, routes, neighbours and namespaces, as far as the plugin and collect use them. An operation
// takes effect or is refused with the kernel's errno.
import { toNumber } from '../../agent/host/ipv4.ts';
import type { KernelObject, KernelOperation, Rule } from '../../agent/kernel/operation.ts';

interface Link {
  /** The namespace and name of the other end of a veth. */
  peer: { space: Space; name: string } | undefined;
  mac: string;
  group: number;
  /** The parent device of an ipvlan. */
  parent: string | undefined;
  addresses: string[];
}

export interface Space {
  links: Map<string, Link>;
  rules: Rule[];
  /** Table → destination → the device of the route, and the address that the route belongs to. */
  routes: Map<number | 'main', Map<string, string>>;
  /** `<device> <address>` → MAC. */
  neighbours: Map<string, string>;
  /** The namespace has eniboot's nftables tables. */
  tables: boolean;
}

/** The kernel's answer; undefined when the operation is done. */
export type Answer = { errno: number; words: string } | undefined;

export interface Kernel {
  host: Space;
  /** Named namespaces by path. */
  spaces: Map<string, Space>;
  addSpace(path: string): void;
  endSpace(path: string): void;
  /** Makes a plain device with a MAC, as an ENI does. */
  plug(name: string, mac: string): void;
  unplug(name: string): void;
  /** Performs an operation, of the host or of that pod. Removing an absent object succeeds, as with the executor. */
  perform(operation: KernelOperation, pod: Space | undefined): Answer;
}

const EEXIST: Answer = { errno: 17, words: 'File exists' };
const EADDRINUSE: Answer = { errno: 98, words: 'Address already assigned to an ipvlan device' };
const none = (device: string): Answer => ({ errno: 19, words: `there is no device ${device}` });

function newSpace(): Space {
  return { links: new Map(), rules: [], routes: new Map(), neighbours: new Map(), tables: false };
}

export function createKernel(): Kernel {
  const host = newSpace();
  const spaces = new Map<string, Space>();

  function removeLink(space: Space, name: string): void {
    const link = space.links.get(name);
    if (link === undefined) return;
    space.links.delete(name);
    for (const [table, routes] of space.routes) {
      for (const [to, device] of routes) if (device === name) routes.delete(to);
      if (routes.size === 0) space.routes.delete(table);
    }
    for (const key of space.neighbours.keys()) if (key.startsWith(`${name} `)) space.neighbours.delete(key);
    if (link.peer !== undefined) removeLink(link.peer.space, link.peer.name);
    // Links whose parent is the device go with it, in any namespace.
    for (const other of [host, ...spaces.values()])
      for (const [upper, { parent }] of other.links)
        if (space === host && parent === name) removeLink(other, upper);
  }

  const absent = (space: Space, name: string) =>
    space.links.has(name) || name === 'lo' ? undefined : none(name);

  function make(space: Space, what: KernelObject, pod: Space | undefined): Answer {
    const target = pod ?? space;
    switch (what.kind) {
      case 'ipvlan': {
        const below = space.links.get(what.parent);
        if (below === undefined) return none(what.parent);
        const { name, group = 0 } = what.end;
        if (target.links.has(name)) return EEXIST;
        const { mac } = below;
        target.links.set(name, { peer: undefined, mac, group, parent: what.parent, addresses: [] });
        return undefined;
      }
      case 'veth': {
        const { end, peer } = what;
        if (space.links.has(end.name) || target.links.has(peer.name)) return EEXIST;
        const link = (of: typeof end) => ({
          ...{ mac: of.mac ?? '', group: of.group ?? 0, parent: undefined },
          addresses: [],
        });
        space.links.set(end.name, { ...link(end), peer: { space: target, name: peer.name } });
        target.links.set(peer.name, { ...link(peer), peer: { space, name: end.name } });
        return undefined;
      }
      case 'address': {
        const link = space.links.get(what.device);
        if (link === undefined) return none(what.device);
        const sharers = [host, ...spaces.values()].flatMap((one) => [...one.links.values()]);
        const address = `${what.address}/${what.prefixLength}`;
        const taken = sharers.some(
          (one) => one !== link && one.parent === link.parent && one.addresses.includes(address),
        );
        if (link.parent !== undefined && taken) return EADDRINUSE;
        if (!link.addresses.includes(address)) link.addresses.push(address);
        return undefined;
      }
      case 'neighbour': {
        const answer = absent(space, what.device);
        if (answer === undefined) space.neighbours.set(`${what.device} ${what.address}`, what.mac);
        return answer;
      }
      case 'route': {
        const { to, type, device = '', table = 'main' } = what;
        const answer = type === undefined ? absent(space, device) : undefined;
        if (answer !== undefined) return answer;
        const routes = space.routes.get(table) ?? new Map<string, string>();
        routes.set(type === undefined ? to : `${type} ${to}`, device);
        space.routes.set(table, routes);
        return undefined;
      }
      case 'rule':
        if (space.rules.some((rule) => isSameRule(rule, what))) return EEXIST;
        space.rules.push(what);
        return undefined;
      case 'tables':
        space.tables = true;
        return undefined;
      case 'setting':
        return undefined;
    }
  }

  function remove(space: Space, what: Extract<KernelOperation, { do: 'remove' }>['what']): void {
    switch (what.kind) {
      case 'device':
        return removeLink(space, what.device);
      case 'group':
        for (const [name, link] of space.links) if (link.group === what.group) removeLink(space, name);
        return;
      case 'rule': {
        const at = space.rules.findIndex((rule) => isMeant(rule, what));
        if (at !== -1) space.rules.splice(at, 1);
        return;
      }
      case 'table':
        space.tables = false;
        return;
      case 'route':
      case 'found route':
        throw new Error('the kernel model removes no single routes');
    }
  }

  function perform(operation: KernelOperation, pod: Space | undefined): Answer {
    const space = operation.on === 'node' ? host : pod;
    if (space === undefined) throw new Error('the kernel model has no such namespace');
    switch (operation.do) {
      case 'make': {
        const { what, ifThere } = operation;
        const answer = make(space, what, pod);
        if (answer !== EEXIST || ifThere === 'refuse') return answer;
        if (ifThere === 'keep') return undefined;
        if (what.kind !== 'veth' || !space.links.has(what.end.name)) return answer;
        removeLink(space, what.end.name);
        return make(space, what, pod);
      }
      case 'set':
        return absent(space, operation.device);
      case 'remove':
        return remove(space, operation.what) as undefined;
      case 'flush': {
        const { what } = operation;
        if ('device' in what) return absent(space, what.device);
        const routes = space.routes.get(what.table);
        for (const to of routes?.keys() ?? [])
          if (what.type === undefined || to.startsWith(`${what.type} `)) routes?.delete(to);
        if (routes?.size === 0) space.routes.delete(what.table);
        return undefined;
      }
    }
  }

  return {
    host,
    spaces,
    addSpace: (path) => void spaces.set(path, newSpace()),
    endSpace(path) {
      const space = spaces.get(path);
      spaces.delete(path);
      if (space !== undefined) for (const name of [...space.links.keys()]) removeLink(space, name);
    },
    plug(name, mac) {
      host.links.set(name, { peer: undefined, mac, group: 0, parent: undefined, addresses: [] });
    },
    unplug: (name) => removeLink(host, name),
    perform,
  };
}

const selectors = ['family', 'priority', 'iif', 'from', 'mark', 'table'] as const;

function isSameRule(one: Rule, other: Rule): boolean {
  return selectors.every((field) => one[field] === other[field]);
}

/** A request to remove a rule matches a rule that has all attributes of the request (fib_nl_delrule in net/core/fib_rules.c). */
function isMeant(one: Rule, asked: Rule): boolean {
  return selectors.every((field) => asked[field] === undefined || one[field] === asked[field]);
}

/** Names of the node's parts for each address, as look.ts names them. */
export function tracesOf(space: Space, addressOf: (link: string) => string | undefined): [string, string][] {
  const byTable = (table: number | 'main') =>
    table === 'main' || table < 2 ** 24 ? undefined : dotted(table);
  const found: [string | undefined, string][] = [];
  for (const name of space.links.keys()) found.push([addressOf(name), 'link']);
  for (const { table, priority } of space.rules)
    found.push([byTable(table), priority === 1024 ? 'rule' : 'mark rule']);
  for (const [table, routes] of space.routes)
    for (const [to, device] of routes) {
      if (table !== 'main') found.push([byTable(table), `table: ${to}`]);
      else if (addressOf(device) !== undefined) found.push([to.replace('/32', ''), 'route']);
    }
  for (const [key, mac] of space.neighbours) found.push([key.split(' ')[1], `neighbour ${mac}`]);
  return found.flatMap(([address, name]): [string, string][] =>
    address === undefined ? [] : [[address, name]],
  );
}

function dotted(value: number): string {
  const text = [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
  if (toNumber(text) !== value) throw new Error(`no address: ${value}`);
  return text;
}
