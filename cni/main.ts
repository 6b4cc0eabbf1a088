// The plugin: one call, one result or one error, on standard output and nowhere else.
import { Failure, type FailureCode, isFailure } from '../agent/messages/failure.ts';
import { hasCode } from '../agent/port/fs.ts';
import { environment, readInput } from '../agent/port/runtime.ts';
import { add } from './add.ts';
import {
  type Command,
  newestVersion,
  readCommand,
  readConfiguration,
  readVariables,
  refuseRequests,
  supportedVersions,
} from './call.ts';
import { check } from './check.ts';
import { del } from './del.ts';
import { collectGarbage } from './gc.ts';
import { status } from './status.ts';

/** A network configuration is a few kilobytes; with prevResult and 1,000 valid attachments some hundred. */
const INPUT_LIMIT = 16 * 1024 * 1024;

/** The specification's codes, and from 100 on our own. Listed in README.md. */
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
  KERNEL_CHANGE: 100,
  NFT_FAILED: 100,
  TOOL_MISSING: 100,
  ADDRESS_IN_USE: 11,
  ALREADY_ATTACHED: 101,
  ATTACHMENT_DIFFERS: 102,
};
const DEFECT = 199;

/** Runs the call the environment describes. Resolves to the exit code, never rejects. */
export function runPlugin(stdout: (text: string) => void): number {
  let version: string = newestVersion;
  try {
    const command = readCommand(environment('CNI_COMMAND') ?? '');
    const variables = readVariables(command, environment);
    if (command === 'VERSION') {
      stdout(`${JSON.stringify({ cniVersion: newestVersion, supportedVersions })}\n`);
      return 0;
    }
    const configuration = readConfiguration(command, readInput(INPUT_LIMIT));
    version = configuration.cniVersion;
    const result = runCommand(command, variables, configuration);
    if (result !== undefined) stdout(`${JSON.stringify(result)}\n`);
    return 0;
  } catch (error) {
    const failure = toFailure(error);
    stdout(`${JSON.stringify({ cniVersion: version, ...cniError(failure) })}\n`);
    return 1;
  }
}

function runCommand(
  command: Exclude<Command, 'VERSION'>,
  variables: ReturnType<typeof readVariables>,
  configuration: ReturnType<typeof readConfiguration>,
): Record<string, unknown> | undefined {
  if (command === 'ADD') {
    refuseRequests(configuration, environment('CNI_ARGS') ?? '');
    return add(variables, configuration);
  }
  if (command === 'DEL') del(variables);
  else if (command === 'CHECK') check(variables, configuration);
  else if (command === 'GC') collectGarbage(configuration);
  else status();
  return undefined;
}

function cniError(failure: Failure): { code: number; msg: string; details: string } {
  const own = failure.facts['cniCode'];
  const code = typeof own === 'number' ? own : (codes[failure.code] ?? DEFECT);
  return { code, msg: `eniboot: ${failure.code}: ${failure.message}`, details: failure.remedy };
}

function toFailure(error: unknown): Failure {
  if (isFailure(error)) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (hasCode(error, 'ENOSPC', 'EROFS', 'EACCES', 'EPERM', 'EDQUOT', 'EIO', 'ENOTDIR', 'EISDIR', 'ENOENT')) {
    return new Failure('FILE_WRITE', message, {}, error);
  }
  return new Failure('INTERNAL', message, {}, error);
}
