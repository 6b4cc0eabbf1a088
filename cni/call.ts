// A call of the plugin as the CNI specification 1.1.0 defines it: variables and configuration, which are checked before
// any change. https://github.com/containernetworking/cni/blob/spec-v1.1.0/SPEC.md
import { Failure, messageOf } from '../agent/messages/failure.ts';
import type { Owner } from '../agent/pool/entry.ts';
import type { PodName } from '../agent/pool/lease-note.ts';
import { statIfPresent } from '../agent/port/fs.ts';

/** Versions of the specification, oldest first; a result has the form of the configuration's version. */
export const supportedVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type Version = (typeof supportedVersions)[number];
export const newestVersion: Version = '1.1.0';

export type Command = 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS' | 'VERSION';

/** The variables of a call. The specification says which ones each command requires. */
export interface Variables {
  containerId: string;
  netns: string;
  ifName: string;
  /** From CNI_ARGS, when the runtime is a kubelet's. It is only a note for people. */
  pod: PodName | undefined;
}

export interface Configuration {
  cniVersion: Version;
  name: string;
  /** The value of each key, unchecked. */
  raw: Record<string, unknown>;
}

const required: Record<Command, readonly string[]> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME', 'CNI_PATH'],
  GC: ['CNI_PATH'],
  STATUS: ['CNI_PATH'],
  VERSION: [],
};

/** Commands that are newer than specification 0.1.0, with the version that introduced each. */
const since: Partial<Record<Command, Version>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' };

/** @throws CNI_ENVIRONMENT */
export function readCommand(value: string): Command {
  if (Object.hasOwn(required, value)) return value as Command;
  throw new Failure('CNI_ENVIRONMENT', `unknown CNI_COMMAND: ${quoted(value)}`);
}

/** Names all variables that are missing or wrong, not only the first. @throws CNI_ENVIRONMENT */
export function readVariables(
  command: Command,
  environment: (name: string) => string | undefined,
): Variables {
  const missing = required[command].filter((name) => (environment(name) ?? '') === '');
  if (missing.length > 0) {
    const message = `required variables are missing: ${missing.join(', ')}`;
    throw new Failure('CNI_ENVIRONMENT', message, { missing });
  }
  const variables = {
    containerId: environment('CNI_CONTAINERID') ?? '',
    netns: environment('CNI_NETNS') ?? '',
    ifName: environment('CNI_IFNAME') ?? '',
    pod: podOf(environment('CNI_ARGS') ?? ''),
  };
  if (command === 'ADD' || command === 'CHECK' || command === 'DEL') {
    const problems = problemsOf(variables, environment('CNI_ARGS') ?? '');
    // An ADD has never accepted such a path, so there is nothing to remove. A DEL that fails would keep the container
    // for ever.
    if (command === 'DEL') variables.netns = isPlainPath(variables.netns) ? variables.netns : '';
    else problems.push(...unusable(variables));
    if (problems.length > 0) throw new Failure('CNI_ENVIRONMENT', problems.join('; '), { problems });
  }
  return variables;
}

/**
 * The pod's name and UID from the runtime (cri-o and containerd set all three variables); undefined for a name that Kubernetes
 * does not allow.
 */
function podOf(args: string): PodName | undefined {
  const of = (key: string) => {
    const value = args
      .split(';')
      .find((pair) => pair.startsWith(`${key}=`))
      ?.slice(key.length + 1);
    return value !== undefined && /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/.test(value) ? value : undefined;
  };
  const [namespace, name] = [of('K8S_POD_NAMESPACE'), of('K8S_POD_NAME')];
  if (namespace === undefined || name === undefined) return undefined;
  const uid = of('K8S_POD_UID');
  return { namespace, name, ...(uid !== undefined && { uid }) };
}

export function ownerOf(variables: Variables): Owner {
  return { containerId: variables.containerId, ifName: variables.ifName };
}

/** @throws CNI_INPUT, CNI_VERSION or CNI_CONFIG, checked in this order. */
export function readConfiguration(command: Command, text: string): Configuration {
  const raw = parseObject(text);
  const cniVersion = readVersion(raw['cniVersion']);
  const { name } = raw;
  if (typeof name !== 'string' || !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name))
    throw wrongConfig('name', `${quoted(name)} is not the name of a network`);
  const from = since[command];
  if (from !== undefined && supportedVersions.indexOf(cniVersion) < supportedVersions.indexOf(from)) {
    const message = `${command} came with CNI ${from}; the configuration says ${cniVersion}`;
    throw new Failure('CNI_VERSION', message, { command, cniVersion });
  }
  checkDns(raw['dns']);
  return { cniVersion, name, raw };
}

/** Refuses requests that no ADD can fulfil, instead of ignoring them. @throws CNI_FIELD */
export function refuseRequests({ raw }: Configuration, cniArgs: string): void {
  const runtime = objectAt(raw, 'runtimeConfig');
  const args = objectAt(objectAt(raw, 'args'), 'cni');
  refuse({
    'runtimeConfig.ips': runtime['ips'],
    'runtimeConfig.ipRanges': runtime['ipRanges'],
    'runtimeConfig.mac': runtime['mac'],
    'runtimeConfig.infinibandGUID': runtime['infinibandGUID'],
    'runtimeConfig.deviceID': runtime['deviceID'],
    'args.cni.ips': args['ips'],
    'args.cni.mac': args['mac'],
    ipMasq: raw['ipMasq'],
  });
  for (const pair of cniArgs.split(';')) {
    const [key = '', ...value] = pair.split('=');
    if (key === 'IP' || key === 'MAC') refuse({ [`CNI_ARGS ${key}`]: value.join('=') });
  }
}

/** @param fields that must be empty, by path. @throws CNI_FIELD for the first that is not. */
export function refuse(fields: Record<string, unknown>): void {
  for (const [field, value] of Object.entries(fields)) {
    if (isEmpty(value)) continue;
    throw new Failure('CNI_FIELD', `${field}: ${quoted(value)} is not supported`, { field, value });
  }
}

/** The failure for a configuration, or a result in it, that cannot be used. @param path of the key. */
export function wrongConfig(path: string, what: string, facts: Record<string, unknown> = {}): Failure {
  return new Failure('CNI_CONFIG', `${path}: ${what}`, { path, ...facts });
}

/** The previous plugin's result. @throws CNI_CONFIG when it is missing; `why` says for what it is needed. */
export function requirePrevResult({ raw }: Configuration, why: string): Record<string, unknown> {
  const { prevResult } = raw;
  if (typeof prevResult !== 'object' || prevResult === null) throw wrongConfig('prevResult', why);
  return prevResult as Record<string, unknown>;
}

/**
 * Refuses prevResult for a plugin that comes first in a chain.
 *
 * @throws CNI_CONFIG; `why` says why the plugin comes first.
 */
export function refusePrevResult({ raw }: Configuration, why: string): void {
  if (raw['prevResult'] !== undefined)
    throw wrongConfig('prevResult', `${why}, so it comes first in the chain`);
}

/** Any value as text for a message, shortened when it is large or deeply nested. */
export function quoted(value: unknown): string {
  try {
    const text = JSON.stringify(value) ?? 'undefined';
    return text.length <= 200 ? text : `${text.slice(0, 200)}…`;
  } catch {
    return 'a value nested too deeply';
  }
}

/**
 * Whether the path leads to the namespace of this process; undefined when it leads to no namespace.
 *
 * @throws NETNS_UNREADABLE when this cannot be determined: a pod with the address may live there.
 */
export function isOwnNamespace(netns: string): boolean | undefined {
  if (netns === '') return undefined;
  try {
    // Inode numbers of namespaces have 32 bits, so BigInt is not needed; its first use costs more than the whole call.
    const theirs = statIfPresent(netns);
    const own = statIfPresent('/proc/self/ns/net');
    // All namespaces are files of one file system. After an unmount a plain file of another file system is left.
    return theirs !== undefined && theirs.dev === own?.dev ? theirs.ino === own.ino : undefined;
  } catch (error) {
    const { message } = error as Error;
    throw new Failure('NETNS_UNREADABLE', `whether a pod is at ${netns}: ${message}`, { netns }, error);
  }
}

/** Problems with variables that the specification forbids. */
function problemsOf({ containerId, ifName }: Variables, args: string): string[] {
  const problems: string[] = [];
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(containerId)) {
    problems.push(`CNI_CONTAINERID: ${JSON.stringify(containerId)} is not a container ID`);
  }
  if (/[/:\s]/.test(ifName) || Buffer.byteLength(ifName) > 15 || ifName === '.' || ifName === '..') {
    problems.push(`CNI_IFNAME: ${JSON.stringify(ifName)} is not the name of an interface`);
  }
  for (const pair of args === '' ? [] : args.split(';')) {
    if (!/^[^=]+=/.test(pair)) problems.push(`CNI_ARGS: ${JSON.stringify(pair)} is not KEY=VALUE`);
  }
  return problems;
}

/** Problems with variables that the specification allows and eniboot cannot handle. */
function unusable({ containerId, netns, ifName }: Variables): string[] {
  const problems: string[] = [];
  // The container ID becomes part of the lease's file name, beside address, ENI and interface.
  if (containerId.length > 180) problems.push('CNI_CONTAINERID is longer than 180 characters');
  // Stricter than the kernel: quotes, backslash, # and % have a meaning in a line of `tc -batch` and in commands that
  // people are shown.
  if (!/^[\w.@+=,~-]+$/.test(ifName) || ifName === 'veth0') {
    problems.push(`CNI_IFNAME: ${JSON.stringify(ifName)} cannot be the name of a pod's interface`);
  }
  if (netns !== '' && !isPlainPath(netns)) {
    problems.push(`CNI_NETNS: ${JSON.stringify(netns)} is not a plain absolute path`);
  }
  return problems;
}

/**
 * Whether the path needs no quoting in a command that people are shown, and is not too long (PATH_MAX, NAME_MAX:
 * linux/limits.h).
 */
function isPlainPath(path: string): boolean {
  return /^\/[\w./:@+=,~-]{1,4094}$/.test(path) && path.split('/').every((name) => name.length <= 255);
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch (error) {
    throw new Failure('CNI_INPUT', `standard input is not JSON: ${messageOf(error)}`, {}, error);
  }
  throw new Failure('CNI_INPUT', 'standard input is not a JSON object');
}

/** `dns` goes to the runtime unchanged, and the runtime fails when its form is wrong. */
function checkDns(dns: unknown): void {
  if (dns === undefined) return;
  const isList = (value: unknown) => Array.isArray(value) && value.every((one) => typeof one === 'string');
  const { domain = '', ...lists } = (dns ?? {}) as Record<string, unknown>;
  const { nameservers = [], search = [], options = [] } = lists;
  const holds =
    typeof dns === 'object' &&
    !Array.isArray(dns) &&
    typeof domain === 'string' &&
    [nameservers, search, options].every(isList);
  if (!holds) throw wrongConfig('dns', `${quoted(dns)} is not nameservers, domain, search and options`);
}

/**
 * As libcni decodes it (pkg/version/conf.go): absent, null and empty mean 0.1.0, and any other value that is not a text
 * is no valid input.
 */
function readVersion(value: unknown): Version {
  if (value === undefined || value === null || value === '') return '0.1.0';
  if (typeof value !== 'string')
    throw new Failure('CNI_INPUT', `cniVersion: ${quoted(value)} in standard input is not a text`);
  const known = supportedVersions.find((version) => version === value);
  if (known !== undefined) return known;
  const message = `cniVersion: ${quoted(value)} is not one of ${supportedVersions.join(', ')}`;
  throw new Failure('CNI_VERSION', message, { cniVersion: value, supportedVersions });
}

function objectAt(value: Record<string, unknown>, key: string): Record<string, unknown> {
  const inner = value[key];
  return typeof inner === 'object' && inner !== null && !Array.isArray(inner)
    ? (inner as Record<string, unknown>)
    : {};
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === 'object' && Object.keys(value).length === 0;
}
