// Every way the simulated AWS can misbehave. A rule applies until its `times` are used up or it is removed.

export interface Ec2Fault {
  /** Action name, or `*`. */
  action: string;
  /** Only calls made by this instance. */
  instanceId?: string;
  /** Answer with this AWS error code, without doing anything. */
  error?: string;
  message?: string;
  /** HTTP status of that error, where AWS's own is not wanted. */
  status?: number;
  /** Never answers, and does nothing. */
  unanswered?: boolean;
  /** Closes the connection, and does nothing. */
  close?: boolean;
  /** Does it, and then loses the response: the connection closes, or nothing comes. */
  lost?: 'close' | 'hang';
  /** Milliseconds until the request is looked at. */
  delayMs?: number;
  /** Lies: changes the answer (in the shapes of @aws-sdk/client-ec2) before it is sent. */
  edit?: (answer: never) => object;
  /** The same with the text on the wire: half an answer, somebody else's page. */
  rewrite?: (text: string) => string;
  /** After a good beginning this comes again and again, for ever. */
  endless?: string;
}

export interface ImdsFault {
  /** A prefix of the path or an expression, such as /latest/meta-data/mac. */
  path?: string | RegExp;
  method?: 'GET' | 'PUT';
  instanceId?: string;
  status?: number;
  unanswered?: boolean;
  close?: boolean;
  delayMs?: number;
  /** Sends only so many bytes of the body, then closes. */
  truncate?: number;
  /** Changes the text of a good answer: an empty or partial list, a wrong device-number. */
  edit?: (text: string, path: string) => string;
  /** After the good answer this comes again and again, for ever. */
  endless?: string;
  /** Tokens given out while this stands die after so many milliseconds, whatever their TTL says. */
  tokenLifeMs?: number;
}

/** What becomes of the device of the next ENI that is attached. */
export interface DeviceFault {
  instanceId?: string;
  never?: boolean;
  /** Milliseconds more than usual. */
  delayMs?: number;
  mtu?: number;
  /** The link never gets a carrier. */
  noCarrier?: boolean;
  /** The device has this name from the start. */
  name?: string;
  /** Renamed to this some time after it came. */
  renameTo?: string;
  renameAfterMs?: number;
  /** Comes up by itself with this address (CIDR notation), as if something ran DHCP on it. */
  address?: string;
  /** Comes up with a default route through this router. Needs `address`. */
  defaultRouteVia?: string;
}

export interface AttachmentFault {
  instanceId?: string;
  stuck?: boolean;
  deviceIndex?: number;
  delayMs?: number;
}

/** A fault that names an instance is for that one only. */
export function isFor(fault: { instanceId?: string }, instanceId: string): boolean {
  return fault.instanceId === undefined || fault.instanceId === instanceId;
}

interface Limits {
  /** How often it applies; without it, until removed. */
  times?: number;
  /** How many matching events pass first. */
  skip?: number;
}

export interface Rule {
  /** How often it applied. */
  readonly hits: number;
  remove(): void;
}

export interface Rules<F extends object> {
  add(fault: F & Limits): Rule;
  /** The first rule that matches and has times left; using it up counts. */
  take(matches: (fault: F) => boolean): F | undefined;
  /** The same without counting. */
  find(matches: (fault: F) => boolean): F | undefined;
  clear(): void;
}

export interface Faults {
  ec2: Rules<Ec2Fault>;
  ssm: Rules<Ec2Fault>;
  imds: Rules<ImdsFault>;
  attach: Rules<AttachmentFault>;
  device: Rules<DeviceFault>;
  /** Actions the instances' role lacks. */
  denied: Set<string>;
  clear(): void;
}

export function createFaults(): Faults {
  const denied = new Set<string>();
  const faults = {
    ec2: createRules<Ec2Fault>(),
    ssm: createRules<Ec2Fault>(),
    imds: createRules<ImdsFault>(),
    attach: createRules<AttachmentFault>(),
    device: createRules<DeviceFault>(),
  };
  return {
    ...faults,
    denied,
    clear: () => {
      for (const rules of Object.values(faults)) rules.clear();
      denied.clear();
    },
  };
}

interface Entry<F> {
  fault: F;
  left: number;
  skip: number;
  hits: number;
}

function createRules<F extends object>(): Rules<F> {
  let entries: Entry<F>[] = [];
  return {
    add: (fault) => {
      const { times, skip, ...rest } = fault;
      const entry: Entry<F> = {
        fault: rest as unknown as F,
        left: times ?? Number.POSITIVE_INFINITY,
        skip: skip ?? 0,
        hits: 0,
      };
      entries.push(entry);
      return {
        get hits() {
          return entry.hits;
        },
        remove: () => {
          entries = entries.filter((one) => one !== entry);
        },
      };
    },
    take: (matches) => {
      for (const entry of entries) {
        if (entry.left <= 0 || !matches(entry.fault)) continue;
        if (entry.skip > 0) {
          entry.skip--;
          continue;
        }
        entry.left--;
        entry.hits++;
        return entry.fault;
      }
      return undefined;
    },
    find: (matches) => entries.find((entry) => entry.left > 0 && matches(entry.fault))?.fault,
    clear: () => {
      entries = [];
    },
  };
}
