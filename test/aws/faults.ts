// The faults of the simulated AWS. A rule applies until its `times` are used up or it is removed.

export interface Ec2Fault {
  /** Action name, or `*`. */
  action: string;
  /** Only calls made by this instance. */
  instanceId?: string;
  /** Answers with this AWS error code and does nothing. */
  error?: string;
  message?: string;
  /** HTTP status of that error, where it must differ from AWS's own. */
  status?: number;
  /** Never answers and does nothing. */
  unanswered?: boolean;
  /** Closes the connection and does nothing. */
  close?: boolean;
  /** Carries out the call, and then loses the response: the connection closes, or no answer comes. */
  lost?: 'close' | 'hang';
  /** Milliseconds until the request is looked at. */
  delayMs?: number;
  /** Changes the answer (in the shapes of @aws-sdk/client-ec2) before it is sent. */
  edit?: (answer: never) => object;
  /** Changes the text on the wire: half an answer, the page of another server. */
  rewrite?: (text: string) => string;
  /** After a good beginning this text comes again and again, for ever. */
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
  /** After the good answer this text comes again and again, for ever. */
  endless?: string;
  /** Tokens given out while this rule stands expire after so many milliseconds, whatever their TTL is. */
  tokenLifeMs?: number;
}

/** A fault of the device of the next ENI that is attached. */
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
  /** The device gets this name some time after it came. */
  renameTo?: string;
  renameAfterMs?: number;
  /** The device comes up by itself with this address (CIDR notation), as if a DHCP client ran on it. */
  address?: string;
  /** The device comes up with a default route through this router. Needs `address`. */
  defaultRouteVia?: string;
}

export interface AttachmentFault {
  instanceId?: string;
  stuck?: boolean;
  deviceIndex?: number;
  delayMs?: number;
}

/** A fault that names an instance applies to that instance only. */
export function isFor(fault: { instanceId?: string }, instanceId: string): boolean {
  return fault.instanceId === undefined || fault.instanceId === instanceId;
}

interface Limits {
  /** How often it applies; without it, until it is removed. */
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
  /** The first rule that matches and has times left; this use counts. */
  take(matches: (fault: F) => boolean): F | undefined;
  /** The same without counting the use. */
  find(matches: (fault: F) => boolean): F | undefined;
  clear(): void;
}

export interface Faults {
  ec2: Rules<Ec2Fault>;
  ssm: Rules<Ec2Fault>;
  cloudwatch: Rules<Ec2Fault>;
  imds: Rules<ImdsFault>;
  attach: Rules<AttachmentFault>;
  device: Rules<DeviceFault>;
  /** Actions that the instances' role does not have. */
  denied: Set<string>;
  clear(): void;
}

export function createFaults(): Faults {
  const denied = new Set<string>();
  const faults = {
    ec2: createRules<Ec2Fault>(),
    ssm: createRules<Ec2Fault>(),
    cloudwatch: createRules<Ec2Fault>(),
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
