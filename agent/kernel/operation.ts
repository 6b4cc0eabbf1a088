// Changes of a kernel's network as plain values. A pure function makes them, execute.ts executes them unchanged, and
// render.ts shows them to people. No code reads the rendered text.

export type Side = 'node' | 'pod';

/** What to do when the object exists already. */
export type IfThere =
  /** The existing object is changed to what the operation asks for. */
  | 'replace'
  /** The existing object stays: a killed call of eniboot has made it. */
  | 'keep'
  /**
   * The existing object is removed first. Creation is tried before that, since a removal waits for a grace period of
   * the kernel, longer than all other work.
   */
  | 'remake'
  | 'refuse';

export interface LinkEnd {
  name: string;
  mac?: string;
  mtu?: number;
  /** Device group. */
  group?: number;
  /** The link is made directly inside the pod's namespace. */
  inPod?: true;
}

/** An ipvlan in L2 mode on a device of the side that makes it. It has that device's MAC. */
export interface Ipvlan {
  kind: 'ipvlan';
  parent: string;
  end: LinkEnd;
}

export interface Veth {
  kind: 'veth';
  end: LinkEnd;
  peer: LinkEnd;
}

export interface Address {
  kind: 'address';
  device: string;
  address: string;
  prefixLength: number;
  /** The kernel does not check whether another host has the address (IPv6 duplicate address detection). */
  unchecked?: true;
}

/** A permanent neighbour entry. */
export interface Neighbour {
  kind: 'neighbour';
  device: string;
  address: string;
  mac: string;
}

/** A route of protocol ROUTE_PROTOCOL. */
export interface Route {
  kind: 'route';
  /** A CIDR, or `default` for IPv4. */
  to: string;
  /** Unicast when absent. */
  type?: 'unreachable' | 'throw' | undefined;
  /** The source addresses that the route is for (IPv6). */
  from?: string;
  via?: string | undefined;
  onlink?: true;
  device?: string | undefined;
  source?: string | undefined;
  /** Main when absent. */
  table?: number;
}

/** A rule of protocol ROUTE_PROTOCOL. */
export interface Rule {
  kind: 'rule';
  family: 4 | 6;
  priority: number;
  iif?: string;
  from?: string;
  /** One bit, which is also the mask. */
  mark?: number;
  table: number | 'main';
}

/** Tables that are made in one transaction. */
export interface Tables {
  kind: 'tables';
  tables: readonly Table[];
}

export interface Table {
  family: 'ip' | 'inet' | 'netdev';
  name: string;
  sets?: readonly (AddressSet | RangeSet)[];
  /** A chain comes before the chains that jump to it. */
  chains: readonly (Chain | JumpedTo)[];
}

/** A set that the kernel stores as a hash. */
export interface AddressSet {
  name: string;
  family: 4 | 6;
  addresses: readonly string[];
}

/** A set that the kernel stores as a tree of ranges. */
export interface RangeSet {
  name: string;
  family: 4 | 6;
  /** In ascending order, with gaps between them. */
  ranges: readonly AddressRange[];
}

/** Both ends are included. */
export interface AddressRange {
  first: string;
  last: string;
}

/** Changes of a set that exists: addresses to add, and addresses to remove. */
export interface SetChange {
  name: string;
  joined: readonly string[];
  left: readonly string[];
}

export interface Chain {
  name: string;
  type: 'filter' | 'nat' | 'route';
  hook: 'prerouting' | 'output' | 'forward' | 'postrouting' | 'egress';
  /** For family netdev only. */
  device?: string;
  priority: 'raw' | 'mangle' | 'dstnat - 10' | 'filter' | 'filter + 10' | 'srcnat';
  policy: 'accept' | 'drop';
  rules: readonly (readonly Statement[])[];
}

/** A chain without a hook, which other chains jump to. */
export interface JumpedTo {
  name: string;
  hook?: undefined;
  rules: readonly (readonly Statement[])[];
}

export type EtherType = 'ip' | 'arp' | 'ip6';

export type Statement =
  | { match: 'iifname' | 'oifname'; is: string; not?: true }
  /** The family is that of the addresses. A list becomes a set. */
  | { match: 'saddr' | 'daddr'; of: string | readonly string[]; not?: true }
  | { match: 'direction'; is: 'original' | 'reply' }
  /** Matches a named set of this family. */
  | { match: 'saddr' | 'daddr'; in: string; family: 4 | 6 }
  | { match: 'state'; is: 'new' | 'established' | 'related' }
  /** Destination ports; both ends are included. */
  | { match: 'ports'; protocol: 'tcp' | 'udp' | 'sctp'; first: number; last: number }
  | { match: 'ct mark'; has: number }
  /** The packet's family, in a table of both families. */
  | { match: 'nfproto'; is: 'ipv6' }
  /** The protocol that the socket set for the frame. */
  | { match: 'protocol'; is: EtherType }
  | { match: 'l4proto'; not: 'ipv6-icmp' }
  | { match: 'frame'; from: string; type: EtherType }
  | { match: 'arp'; mac: string; address: string }
  | { match: 'icmpv6'; type: number; below?: true; upTo?: number }
  /** The target of a neighbour advertisement without extension headers. */
  | { match: 'advertised'; is: string }
  | { match: 'over'; bytesPerSecond: number; burstBytes: number }
  /** So many packets per second, with a burst of as many packets. */
  | { match: 'rate'; perSecond: number }
  /** Sends the packet to the listeners of the group in this namespace (nfnetlink_log). */
  | { log: number; prefix: string }
  | { add: 'ct mark' | 'meta mark'; bit: number }
  | { snat: string }
  | { verdict: 'accept' | 'drop' | 'return' }
  | { jump: string }
  | { reject: 'admin-prohibited' }
  | { count: true };

/** `path` is relative to /proc/sys. */
export interface Setting {
  kind: 'setting';
  path: string;
  value: string;
}

export type KernelObject = Ipvlan | Veth | Address | Neighbour | Route | Rule | Tables | Setting;

/** The routes of ROUTE_PROTOCOL in one table, or all routes of the main table by one device, whichever program made them. */
export type FlushedRoutes = { kind: 'routes'; family: 4 | 6 } & (
  | { table: number | 'main'; type?: 'unreachable' }
  | { device: string }
);

/** The addresses of a device, of both families. */
export interface FlushedAddresses {
  kind: 'addresses';
  device: string;
  /** `link`: the addresses that the device gave itself. `any`: all addresses. */
  scope: 'link' | 'any';
}

export type KernelOperation =
  | { on: Side; do: 'make'; what: KernelObject; ifThere: IfThere }
  | {
      on: Side;
      do: 'set';
      device: string;
      up?: true;
      mtu?: number;
      /** The kernel gives the device no IPv6 link-local address by itself. */
      generatesAddress?: false;
      /** Mode and flags of an ipvlan; all ipvlans of its ENI share them. */
      ipvlan?: 'l2 bridge';
    }
  /** An object that is not there counts as removed. */
  | {
      on: Side;
      do: 'remove';
      what:
        | Rule
        | Route
        | FoundRoute
        | { kind: 'device'; device: string }
        | { kind: 'group'; group: number }
        | TableName;
    }
  | { on: Side; do: 'flush'; what: FlushedRoutes | FlushedAddresses };

/** A route in the kernel's listing. */
export interface FoundRoute {
  kind: 'found route';
  /** A CIDR. */
  to: string;
  /** rtmsg with its attributes. */
  bytes: Uint8Array;
}

export type TableName = { kind: 'table' } & Pick<Table, 'family' | 'name'>;

/** A change of the kernel's network that a program makes. The last text is the program's input. */
export interface Program {
  on: Side;
  do: 'program';
  file: 'tc';
  args: readonly string[];
  input: string;
}

export type Operation = KernelOperation | Program;

export function make(on: Side, what: KernelObject, ifThere: IfThere = 'replace'): KernelOperation {
  return { on, do: 'make', what, ifThere };
}
