// The plugins: each call has one result or one error, which goes to standard output and nowhere else.
import type { Failure, FailureCode } from '../agent/messages/failure.ts';
import { failureOf } from '../agent/messages/kinds.ts';
import type { Lease } from '../agent/pool/lease.ts';
import { bounds } from '../agent/port/bounds.ts';
import { add, refuseOfWhole } from './add.ts';
import {
  type Configuration,
  newestVersion,
  readCommand,
  readConfiguration,
  readVariables,
  refuseRequests,
  supportedVersions,
  type Variables,
} from './call.ts';
import { check } from './check.ts';
import { del, detach, endLease } from './del.ts';
import { collectGarbage } from './gc.ts';
import { ipamAdd, ipamCheck, ipamStatus, refuseOfIpam } from './ipam.ts';
import { policyAdd } from './policy.ts';
import { ptpAdd, ptpCheck, ptpDel, refuseOfPtp } from './ptp.ts';
import { status } from './status.ts';
import { noteCall, started } from './stopwatch.ts';

/** The specification's error codes, and from 100 on eniboot's. Listed in README.md. */
const codes: Partial<Record<FailureCode, number>> = {
  CNI_VERSION: 1,
  CNI_FIELD: 2,
  NETNS_GONE: 3,
  CNI_ENVIRONMENT: 4,
  FILE_WRITE: 5,
  CNI_INPUT: 6,
  CNI_CONFIG: 7,
  NETNS_OWN: 8,
  POOL_EXHAUSTED: 11,
  NODE_NOT_READY: 11,
  NODE_FILE_DAMAGED: 11,
  POD_ENI_DOWN: 11,
  ADDRESS_IN_USE: 11,
  LEASE_LOST: 11,
  KERNEL_QUERY: 11,
  SYSTEM_EXHAUSTED: 11,
  NETNS_UNREADABLE: 11,
  KERNEL_CHANGE: 100,
  NETLINK_UNAVAILABLE: 100,
  KERNEL_MODULE_MISSING: 100,
  NFT_FAILED: 100,
  IPV6_UNAVAILABLE: 100,
  TOOL_MISSING: 100,
  ALREADY_ATTACHED: 101,
  NETNS_TAKEN: 103,
  ATTACHMENT_DIFFERS: 102,
};
const DEFECT = 199;

/** The inputs of a call and its output. */
export interface Call {
  /** The name by which the executable is called. */
  name: string;
  environment(name: string): string | undefined;
  /** Reads standard input to its end, at most `limit` bytes. */
  input(limit: number): string;
  stdout(text: string): void;
}

/** What a plugin does for each command. */
interface Plugin {
  /** Refuses requests in the configuration that this plugin cannot fulfil. */
  refuse(configuration: Configuration): void;
  add(variables: Variables, configuration: Configuration): Record<string, unknown>;
  check(variables: Variables, configuration: Configuration): void;
  del(variables: Variables): void;
  /** Ends a lease that is not valid any more, for garbage collection. */
  end(lease: Lease): void;
  status(configuration: Configuration): void;
}

const nothing = () => undefined;
const end = (lease: Lease) => endLease(lease, '');

const whole: Plugin = { refuse: refuseOfWhole, add, check, del, end, status };

/** Plugins by the names of the links in /opt/cni/bin; any other name is the whole plugin. */
const plugins: Record<string, Plugin> = {
  eniboot: whole,
  'eniboot-ipam': { refuse: refuseOfIpam, add: ipamAdd, check: ipamCheck, del, end, status: ipamStatus },
  'eniboot-ptp': {
    refuse: refuseOfPtp,
    add: ptpAdd,
    check: ptpCheck,
    del: ptpDel,
    // eniboot-ipam ends the lease.
    end: (lease) => detach(lease, ''),
    status,
  },
  // The kernel removes the table together with the pod's namespace; until then the service keeps the table up to date.
  'eniboot-policy': {
    refuse: refuseOfPtp,
    add: policyAdd,
    check: nothing,
    del: nothing,
    end: nothing,
    status,
  },
};

/** Runs a call to its end and returns its exit code. Never throws. */
export function runPlugin(call: Call): number {
  let version: string = newestVersion;
  const name = Object.hasOwn(plugins, call.name) ? call.name : 'eniboot';
  let counted: 'ADD' | 'DEL' | undefined;
  try {
    const command = readCommand(call.environment('CNI_COMMAND') ?? '');
    const variables = readVariables(command, call.environment);
    if (command === 'VERSION') {
      call.stdout(`${JSON.stringify({ cniVersion: newestVersion, supportedVersions })}\n`);
      return 0;
    }
    const configuration = readConfiguration(command, call.input(bounds.cniInputBytes));
    version = configuration.cniVersion;
    if (command === 'ADD' || command === 'DEL') counted = command;
    started();
    const plugin = plugins[name] ?? whole;
    if (command === 'ADD') {
      refuseRequests(configuration, call.environment('CNI_ARGS') ?? '');
      plugin.refuse(configuration);
      call.stdout(`${JSON.stringify(plugin.add(variables, configuration))}\n`);
    } else if (command === 'DEL') plugin.del(variables);
    else if (command === 'CHECK') plugin.check(variables, configuration);
    else if (command === 'GC') collectGarbage(configuration, plugin.end);
    else plugin.status(configuration);
    if (counted !== undefined) noteCall(name, counted, 'OK');
    return 0;
  } catch (error) {
    const failure = failureOf(error);
    call.stdout(`${JSON.stringify({ cniVersion: version, ...cniError(name, failure) })}\n`);
    if (counted !== undefined) noteCall(name, counted, failure.code);
    return 1;
  }
}

function cniError(name: string, failure: Failure): { code: number; msg: string; details: string } {
  const own = failure.facts['cniCode'];
  const code = typeof own === 'number' ? own : (codes[failure.code] ?? DEFECT);
  // Only a defect has a stack.
  const { stack } = failure.facts;
  const details = typeof stack === 'string' ? `${failure.remedy}\n${stack}` : failure.remedy;
  return { code, msg: `${name}: ${failure.code}: ${failure.message}`, details };
}
