// The kernel model: links, rules, routes, neighbours and namespaces as far as the plugin and collect use them, told
// in the words of `ip -batch` and answering in iproute2's. A line takes effect or fails; a batch whose caller is
// killed goes on without it.
import { toNumber } from '../../agent/host/ipv4.ts';

interface Link {
  /** The namespace and name of the other end of a veth. */
  peer: { space: Space; name: string } | undefined;
  mac: string;
  group: number;
  /** Device an ipvlan sits on. */
  parent: string | undefined;
  addresses: string[];
}

export interface Space {
  links: Map<string, Link>;
  rules: string[];
  /** By table, then destination: the device, and whose address it goes by. */
  routes: Map<string, Map<string, string>>;
  /** `<device> <address>` to MAC. */
  neighbours: Map<string, string>;
  /** Text of table ip eniboot. */
  table: string | undefined;
}

export interface Kernel {
  host: Space;
  /** Named namespaces by path. */
  spaces: Map<string, Space>;
  addSpace(path: string): void;
  endSpace(path: string): void;
  /** Makes a plain device with a MAC, as an ENI does. */
  plug(name: string, mac: string): void;
  unplug(name: string): void;
  /** One line in a namespace. @returns what `ip` complains of, or nothing. */
  line(space: Space, text: string): string | undefined;
}

function newSpace(): Space {
  return { links: new Map(), rules: [], routes: new Map(), neighbours: new Map(), table: undefined };
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
    // What sits on a device goes with it, in whatever namespace.
    for (const other of [host, ...spaces.values()])
      for (const [upper, { parent }] of other.links)
        if (space === host && parent === name) removeLink(other, upper);
  }

  function line(space: Space, text: string): string | undefined {
    const words = text.split(/\s+/);
    const after = (word: string) => words[words.indexOf(word) + 1] ?? '';
    const has = (word: string) => words.includes(word);
    const device = after('dev');
    const isThere = (name: string) =>
      space.links.has(name) || name === 'lo' ? undefined : `Cannot find device "${name}"`;
    switch (`${words[0]} ${words[1]}`) {
      case 'link add': {
        const name = after('name');
        const into = after('netns');
        const target = spaces.get(into);
        if (target === undefined) return `Error: argument "${into}" is wrong: Invalid "netns" value`;
        if (after('type') === 'ipvlan') {
          const parent = words[3] ?? '';
          const below = space.links.get(parent);
          if (below === undefined) return isThere(parent);
          if (target.links.has(name)) return 'RTNETLINK answers: File exists';
          const group = Number(after('group'));
          target.links.set(name, { peer: undefined, mac: below.mac, group, parent, addresses: [] });
          return undefined;
        }
        const peer = words[words.lastIndexOf('name') + 1] ?? '';
        if (space.links.has(name) || target.links.has(peer)) return 'RTNETLINK answers: File exists';
        const end = { group: 0, parent: undefined, addresses: [] };
        const macs = words.flatMap((word, at) => (word === 'address' ? [words[at + 1] ?? ''] : []));
        space.links.set(name, { ...end, mac: macs[0] ?? '', peer: { space: target, name: peer } });
        target.links.set(peer, { ...end, addresses: [], mac: macs[1] ?? '', peer: { space, name } });
        return undefined;
      }
      case 'link set':
        return isThere(device);
      case 'link del': {
        if (has('group')) {
          const group = Number(after('group'));
          const found = [...space.links].filter(([, link]) => link.group === group);
          if (found.length === 0) return 'RTNETLINK answers: No such device';
          for (const [name] of found) removeLink(space, name);
          return undefined;
        }
        if (isThere(device) !== undefined) return isThere(device);
        removeLink(space, device);
        return undefined;
      }
      case 'address add':
      case 'address replace': {
        const link = space.links.get(device);
        if (link === undefined) return isThere(device);
        const address = words[2] ?? '';
        const sharers = [host, ...spaces.values()].flatMap((one) => [...one.links.values()]);
        const taken = sharers.some(
          (one) => one !== link && one.parent === link.parent && one.addresses.includes(address),
        );
        if (link.parent !== undefined && taken)
          return 'Error: ipvlan: Address already assigned to an ipvlan device.';
        if (!link.addresses.includes(address)) link.addresses.push(address);
        return undefined;
      }
      case 'neigh replace':
        if (isThere(device) !== undefined) return isThere(device);
        space.neighbours.set(`${device} ${words[2]}`, after('lladdr'));
        return undefined;
      case 'route replace': {
        const kind = ['throw', 'unreachable'].find((one) => words[2] === one);
        const to = (kind === undefined ? words[2] : words[3]) ?? '';
        const table = has('table') ? after('table') : 'main';
        if (kind === undefined && isThere(device) !== undefined) return isThere(device);
        const routes = space.routes.get(table) ?? new Map<string, string>();
        routes.set(kind === undefined ? to : `${kind} ${to}`, device);
        space.routes.set(table, routes);
        return undefined;
      }
      case 'route flush': {
        if (has('type')) {
          const routes = space.routes.get(after('table'));
          for (const to of routes?.keys() ?? []) if (to.startsWith(`${after('type')} `)) routes?.delete(to);
          return undefined;
        }
        const there = space.routes.delete(after('table'));
        return there ? undefined : 'Error: ipv4: FIB table does not exist.\nFlush terminated';
      }
      case 'rule add': {
        const rule = words.slice(2).join(' ');
        if (space.rules.includes(rule)) return 'RTNETLINK answers: File exists';
        space.rules.push(rule);
        return undefined;
      }
      case 'rule del': {
        // What is said of a rule selects it.
        const said = words.slice(2).join(' ');
        const fits = (rule: string) =>
          rule === said ||
          (rule.includes(`${after('priority') === '' ? '' : `priority ${after('priority')} `}`) &&
            rule.includes(` lookup ${after('table') || after('lookup')} `) &&
            !has('iif') &&
            !has('from') &&
            !has('fwmark'));
        const at = space.rules.findIndex(fits);
        if (at === -1) return 'RTNETLINK answers: No such file or directory';
        space.rules.splice(at, 1);
        return undefined;
      }
      default:
        throw new Error(`the kernel model does not know: ${text}`);
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
    line,
  };
}

/** The node's side as `ip -j` shows it: what collect asks for. */
export function showJson(space: Space, what: 'link' | 'rule'): string {
  if (what === 'link')
    return JSON.stringify(
      [...space.links].filter(([, link]) => link.peer !== undefined).map(([ifname]) => ({ ifname })),
    );
  return JSON.stringify(
    space.rules.map((rule) => {
      const after = (word: string) => new RegExp(` ?${word} (\\S+)`).exec(rule)?.[1];
      return {
        priority: Number(after('priority')),
        table: after('lookup'),
        protocol: after('protocol'),
      };
    }),
  );
}

/** Names of what stands on the node's side for each address, as look.ts names them. */
export function tracesOf(space: Space, addressOf: (link: string) => string | undefined): [string, string][] {
  const byTable = (table: string | undefined) =>
    table === undefined || Number(table) < 2 ** 24 ? undefined : dotted(Number(table));
  const found: [string | undefined, string][] = [];
  for (const name of space.links.keys()) found.push([addressOf(name), 'link']);
  for (const rule of space.rules)
    found.push([
      byTable(/ lookup (\d+)/.exec(rule)?.[1]),
      rule.startsWith('priority 1024') ? 'rule' : 'mark rule',
    ]);
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
