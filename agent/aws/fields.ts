// The forms that values of AWS may have. An answer with any other value is refused as a whole. Code beyond this check puts
// values into commands, paths and tables as they are.
import ipaddr from 'ipaddr.js';
import { Failure } from '../messages/failure.ts';
import { codeOfKind, type Service } from '../messages/kinds.ts';

const forms = {
  // Of an ID only the beginning is checked: AWS has changed the length before.
  eniId: /^eni-[0-9A-Za-z-]{1,60}$/,
  instanceId: /^i-[0-9A-Za-z-]{1,60}$/,
  subnetId: /^subnet-[0-9A-Za-z-]{1,60}$/,
  vpcId: /^vpc-[0-9A-Za-z-]{1,60}$/,
  groupId: /^sg-[0-9A-Za-z-]{1,60}$/,
  imageId: /^ami-[0-9A-Za-z-]{1,60}$/,
  /** IDs of attachments and commands. */
  id: /^[\w-]{1,80}$/,
  mac: /^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$/,
  accountId: /^\d{12}$/,
  /** Regions and zones, by name or ID. */
  place: /^[a-z0-9-]{1,40}$/,
  instanceType: /^[a-z0-9][a-z0-9.-]{1,40}$/,
  roleName: /^[\w+=,.@-]{1,128}$/,
  /** Parts of credentials: they are sent in a header. */
  secret: /^[!-~]{1,16384}$/,
  date: (text: string) => Number.isFinite(Date.parse(text)),
  address: isAddress,
  /** CIDR of a VPC or a subnet: from /16 to /28. Source: VPC user guide, "VPC CIDR blocks". */
  cidr: (text: string) => isNetwork(text, 16, 28),
  /** A prefix that EC2 assigns to an ENI. Source: EC2 user guide, "Assigning prefixes". */
  prefix: (text: string) => isNetwork(text, 28, 28),
  ipv6Address: (text: string) => ipaddr.IPv6.isValid(text),
  ipv6Prefix: (text: string) => ipaddr.IPv6.isValidCIDR(text) && text.endsWith('/80'),
  /** A parameter's value: free text, which may be secret. */
  parameter: () => true,
  /** Free text, and values that eniboot only passes on. */
  text: () => true,
} satisfies Record<string, RegExp | ((text: string) => boolean)>;

export type Form = keyof typeof forms;

function kindOf(value: object): string {
  return Array.isArray(value) ? `a list of ${value.length}` : 'an object';
}

function scalar(value: unknown): string {
  return `${JSON.stringify(value) ?? 'nothing'}`.slice(0, 100);
}

/** Functions that read one service's values; each throws that service's failure for a value that makes no sense. */
export function fieldsOf(service: Service) {
  function senseless(name: string, value: unknown): Failure {
    // What is inside an object may be secret.
    const shown = typeof value === 'object' && value !== null ? kindOf(value) : scalar(value);
    return new Failure(
      codeOfKind[service].senseless,
      `an answer of ${service} makes no sense: ${name} is ${shown}`,
      { field: name, value: shown },
    );
  }
  function field(name: string, value: unknown, form: Form): string {
    if (typeof value === 'string' && fits(value, form)) return value;
    // A secret is never shown, even when it has the wrong form.
    throw senseless(name, form === 'secret' || form === 'parameter' ? '…' : value);
  }
  return {
    senseless,
    field,
    /** undefined where AWS leaves the value out: the caller decides what that means. */
    optional: (name: string, value: unknown, form: Form): string | undefined =>
      value === undefined ? undefined : field(name, value, form),
    count(name: string, value: unknown, most: number): number {
      if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= most) return value;
      throw senseless(name, value);
    },
    /** Milliseconds since the epoch. */
    moment(name: string, value: unknown): number {
      if (value instanceof Date && Number.isFinite(value.getTime())) return value.getTime();
      throw senseless(name, value);
    },
    list<Item>(name: string, values: unknown, most: number): Item[] {
      if (values === undefined) return [];
      if (!Array.isArray(values)) throw senseless(name, values);
      if (values.length <= most) return values as Item[];
      throw senseless(name, `a list of ${values.length}`);
    },
  };
}

function fits(text: string, form: Form): boolean {
  const rule: RegExp | ((text: string) => boolean) = forms[form];
  return typeof rule === 'function' ? rule(text) : rule.test(text);
}

/** An address that a machine can have. */
function isAddress(text: string): boolean {
  if (!ipaddr.IPv4.isValidFourPartDecimal(text)) return false;
  const range = ipaddr.IPv4.parse(text).range();
  return !['unspecified', 'loopback', 'multicast', 'broadcast', 'linkLocal'].includes(range);
}

function isNetwork(text: string, shortest: number, longest: number): boolean {
  const [address = '', length = ''] = text.split('/');
  if (!isAddress(address) || text !== `${address}/${length}` || !/^\d\d?$/.test(length)) return false;
  if (Number(length) < shortest || Number(length) > longest) return false;
  return ipaddr.IPv4.networkAddressFromCIDR(text).toString() === address;
}

/** Whether the address is in the CIDR. Both must have the forms above. */
export function isWithin(cidr: string, address: string): boolean {
  return ipaddr.IPv4.parse(address).match(ipaddr.IPv4.parseCIDR(cidr));
}
