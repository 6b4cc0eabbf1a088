// Run Command as documented. One unknown instance ID fails a whole call. A command that was never delivered is no error.
// MaxErrors stops the sending, not the scripts that run. Success means only that a script ended with 0. Output is cut.
// A command expires when its delivery and execution time-outs are over together: an invocation that has no end by then is
// DeliveryTimedOut, also one in progress. Source: SSM API reference (Command, ExpiresAfter), "Understanding command
// statuses", "Understanding command timeout values", "Using concurrency and error controls".
import { createHash } from 'node:crypto';
import type {
  CancelCommandRequest,
  CancelCommandResult,
  Command,
  CommandInvocation,
  GetCommandInvocationRequest,
  GetCommandInvocationResult,
  ListCommandInvocationsRequest,
  ListCommandInvocationsResult,
  ListCommandsRequest,
  ListCommandsResult,
  SendCommandRequest,
  SendCommandResult,
  Target,
} from '@aws-sdk/client-ssm';
import { AwsError } from '../ec2/errors.ts';
import type { Documents, DocumentVersion } from './documents.ts';
import type { Managed, ManagedNode, ScriptResult } from './managed.ts';
import { seconds } from './parameters.ts';
import { type Handlers, paged, type Region } from './region.ts';
import { shortOutput, withFailure } from './short-output.ts';

type Status = NonNullable<CommandInvocation['Status']>;

interface Invocation {
  instanceId: string;
  status: Status;
  details: string;
  at: number;
  result: ScriptResult | undefined;
  /** Ends all that still waits for this node. */
  stop: () => void;
}

interface Run {
  id: string;
  request: SendCommandRequest;
  document: DocumentVersion;
  script: string;
  executionMs: number;
  deliveryMs: number;
  at: number;
  invocations: Invocation[];
  /** Index of the first invocation that was not sent. */
  next: number;
  inFlight: number;
  errors: number;
  maxConcurrency: number;
  maxErrors: number;
  status: NonNullable<Command['Status']>;
  details: string;
  /** Cancels the timer of the command's expiry. */
  stopExpiry: () => void;
  triggeredAlarm: string | undefined;
}

export interface Commands {
  handlers: Handlers;
}

const DEFAULT_EXECUTION_S = 3600;
/** Milliseconds between two attempts to reach an agent that does not answer. An assumption: AWS publishes none. */
const RETRY_MS = 10_000;
/** Statuses of an invocation that has not ended. */
const OPEN: ReadonlySet<string> = new Set(['Pending', 'Delayed', 'InProgress', 'Cancelling']);
const RUNNING: ReadonlySet<string> = new Set(['InProgress', 'Cancelling']);
const CHARACTERS = { stdout: 24_000, stderr: 8_000 };

export function createCommands(region: Region, documents: Documents, managed: Managed): Commands {
  const { scheduler } = region;
  const runs = new Map<string, Run>();
  const { latency } = region;

  function send(request: SendCommandRequest): SendCommandResult {
    const document = documents.findActive(request.DocumentName ?? '', request.DocumentVersion);
    if (request.DocumentHash !== undefined && request.DocumentHash !== document.hash)
      throw new AwsError('InvalidDocument', 'The document hash does not match the content of that version.');
    const { script, executionS } = render(document, request.Parameters ?? {});
    // Source: Systems Manager user guide, "Running commands from the console", of the CloudWatch alarm.
    if (request.AlarmConfiguration !== undefined && !region.may('iam:CreateServiceLinkedRole'))
      throw new AwsError(
        'AccessDeniedException',
        'The role is not authorized to perform: iam:CreateServiceLinkedRole',
      );
    const ids = resolve(request);
    const id = uuid(`${runs.size} ${scheduler.now()}`);
    const run: Run = {
      id,
      request,
      document,
      script,
      executionMs: executionS * 1000,
      deliveryMs: (request.TimeoutSeconds ?? 3600) * 1000,
      at: scheduler.now(),
      invocations: ids.map((instanceId) => ({
        instanceId,
        status: 'Pending',
        details: 'Pending',
        at: scheduler.now(),
        result: undefined,
        stop: () => {},
      })),
      next: 0,
      inFlight: 0,
      errors: 0,
      maxConcurrency: share(request.MaxConcurrency ?? '50', ids.length, 1),
      maxErrors: share(request.MaxErrors ?? '0', ids.length, 0),
      status: 'Pending',
      details: 'Pending',
      stopExpiry: () => {},
      triggeredAlarm: undefined,
    };
    runs.set(id, run);
    const pending = [...runs.values()].reduce(
      (sum, one) => sum + one.invocations.filter(({ status }) => OPEN.has(status)).length,
      0,
    );
    if (ids.length === 0) enter(run, 'Failed', 'NoInstancesInTag');
    else if (pending > managed.limits.mostPending) {
      // "The system has canceled the command before executing it on any managed node": it has no invocations.
      run.invocations = [];
      enter(run, 'Failed', 'RateExceeded');
    } else {
      run.stopExpiry = scheduler.after(run.deliveryMs + run.executionMs, () => expire(run));
      scheduler.after(0, () => pump(run));
    }
    return { Command: describe(run) };
  }

  /** Every instance ID must be valid; a target selects the instances that match it. */
  function resolve(request: SendCommandRequest): string[] {
    const ids = request.InstanceIds ?? [];
    const invalid = ids.filter((id) => !managed.nodes.has(id) || region.tagsOf(id) === undefined);
    if (invalid.length > 0)
      throw new AwsError(
        'InvalidInstanceId',
        `Instances [[${invalid.join(', ')}]] not in a valid state for account ${region.accountId}`,
      );
    if (ids.length > 0) return ids;
    const targets = request.Targets ?? [];
    const byId = targets.find((target) => target.Key === 'InstanceIds');
    const candidates = byId === undefined ? [...managed.nodes.keys()] : [...new Set(byId.Values ?? [])];
    return candidates.filter(
      (id) => managed.nodes.has(id) && targets.every((target) => isTarget(id, target)),
    );
  }

  function isTarget(instanceId: string, { Key = '', Values = [] }: Target): boolean {
    const tags = region.tagsOf(instanceId);
    if (tags === undefined) return false;
    if (Key === 'InstanceIds') return Values.includes(instanceId);
    if (Key === 'tag-key') return Values.some((value) => tags.has(value));
    return Values.includes(tags.get(Key.slice('tag:'.length)) ?? '\0');
  }

  /** Sends to further nodes as far as MaxConcurrency and MaxErrors allow. */
  function pump(run: Run): void {
    if (run.status === 'Pending') enter(run, 'InProgress');
    if (run.status !== 'InProgress') return;
    const alarm = run.request.AlarmConfiguration?.Alarms?.find(({ Name }) => region.isInAlarm(Name ?? ''));
    if (alarm !== undefined) {
      run.triggeredAlarm = alarm.Name;
      return cancelRun(run, undefined);
    }
    while (run.inFlight < run.maxConcurrency && run.next < run.invocations.length) {
      if (run.errors > run.maxErrors) break;
      const invocation = run.invocations[run.next++];
      if (invocation !== undefined && invocation.status === 'Pending') deliver(run, invocation);
    }
    conclude(run);
  }

  function deliver(run: Run, invocation: Invocation): void {
    run.inFlight += 1;
    const node = managed.nodes.get(invocation.instanceId);
    if (node === undefined || region.tagsOf(invocation.instanceId) === undefined)
      return finish(run, invocation, 'Failed', 'Undeliverable');
    if (node.refusal !== undefined) return finish(run, invocation, 'Failed', node.refusal);
    invocation.stop = scheduler.after(latency.deliveryMs, () => {
      if (node.online) return execute(run, invocation, node);
      invocation.status = 'Delayed';
      invocation.details = 'Delayed';
      retry(run, invocation, node);
    });
  }

  /** "The system will try to send the command again", until the delivery time-out; afterwards the command does not run. */
  function retry(run: Run, invocation: Invocation, node: ManagedNode): void {
    const left = run.at + run.deliveryMs - scheduler.now();
    invocation.stop = scheduler.after(Math.min(RETRY_MS, Math.max(0, left)), () => {
      if (node.online) return execute(run, invocation, node);
      if (left > RETRY_MS) retry(run, invocation, node);
    });
  }

  function expire(run: Run): void {
    const sent = run.next;
    run.next = run.invocations.length;
    for (const [at, invocation] of run.invocations.entries()) {
      if (!OPEN.has(invocation.status)) continue;
      // A script that runs on the node goes on: no message reaches its agent.
      if (!RUNNING.has(invocation.status)) invocation.stop();
      invocation.status = 'TimedOut';
      invocation.details = 'DeliveryTimedOut';
      if (at < sent) run.inFlight -= 1;
    }
    if (run.status === 'Cancelling') enter(run, 'Cancelled');
    else conclude(run);
  }

  function execute(run: Run, invocation: Invocation, node: ManagedNode): void {
    invocation.status = 'InProgress';
    invocation.details = 'InProgress';
    let stopScript = () => {};
    // The agent ends a script at its time-out and reports it. While its connection is lost, no report comes.
    const stopTimer = scheduler.after(run.executionMs, () => {
      stopScript();
      if (node.online && OPEN.has(invocation.status))
        finish(run, invocation, 'TimedOut', 'ExecutionTimedOut');
    });
    invocation.stop = () => {
      stopTimer();
      stopScript();
    };
    stopScript = node.run(run.script, (result) => {
      stopTimer();
      if (invocation.status !== 'InProgress' && invocation.status !== 'Cancelling') return;
      if (!node.online) return;
      invocation.result = withFailure(result);
      if (result.exitCode === 0) finish(run, invocation, 'Success', 'Success');
      else finish(run, invocation, 'Failed', 'Failed');
    });
  }

  function finish(run: Run, invocation: Invocation, status: Status, details: string): void {
    invocation.status = status;
    invocation.details = details;
    run.inFlight -= 1;
    if (details === 'Failed' || details === 'ExecutionTimedOut') run.errors += 1;
    if (run.status === 'Cancelling') {
      if (run.inFlight === 0) enter(run, 'Cancelled');
      return;
    }
    pump(run);
  }

  function conclude(run: Run): void {
    if (run.inFlight > 0) return;
    const over = run.errors > run.maxErrors;
    if (!over && run.next < run.invocations.length) return;
    if (!['Pending', 'InProgress'].includes(run.status)) return;
    for (const invocation of run.invocations.slice(run.next)) {
      invocation.status = 'Cancelled';
      invocation.details = 'Terminated';
    }
    const counted = run.invocations.filter((one) => one.details !== 'Undeliverable');
    if (over) enter(run, 'Failed');
    else if (counted.every((one) => one.status === 'Success')) enter(run, 'Success');
    else enter(run, 'Failed', 'Incomplete');
  }

  function enter(run: Run, status: Run['status'], details: string = status): void {
    if (!OPEN.has(status)) run.stopExpiry();
    run.status = status;
    run.details = details;
  }

  function cancel(request: CancelCommandRequest): CancelCommandResult {
    const run = runs.get(request.CommandId ?? '');
    if (run === undefined) throw new AwsError('InvalidCommandId', 'The command ID does not exist.');
    cancelRun(run, request.InstanceIds);
    return {};
  }

  /** Best effort: an invocation that was not sent is cancelled at once, a running script is asked to stop. */
  function cancelRun(run: Run, instanceIds: string[] | undefined): void {
    if (!['Pending', 'InProgress'].includes(run.status)) return;
    enter(run, 'Cancelling');
    for (const invocation of run.invocations) {
      if (instanceIds !== undefined && instanceIds.length > 0 && !instanceIds.includes(invocation.instanceId))
        continue;
      if (invocation.status === 'Pending' && run.invocations.indexOf(invocation) >= run.next) {
        invocation.status = 'Cancelled';
        invocation.details = 'Canceled';
      } else if (
        invocation.status === 'InProgress' &&
        managed.nodes.get(invocation.instanceId)?.online !== true
      ) {
        // The request does not reach the agent.
        invocation.status = 'Cancelling';
        invocation.details = 'Cancelling';
      } else if (OPEN.has(invocation.status)) {
        invocation.stop();
        finish(run, invocation, 'Cancelled', 'Canceled');
      }
    }
    run.next = run.invocations.length;
    if (run.inFlight === 0) enter(run, 'Cancelled');
  }

  function list(request: ListCommandsRequest): ListCommandsResult {
    const filters = request.Filters ?? [];
    const seen = [...runs.values()].filter(
      (run) =>
        scheduler.now() - run.at >= latency.listLagMs &&
        (request.CommandId === undefined || run.id === request.CommandId) &&
        filters.every(({ key, value = '' }) => {
          if (key === 'DocumentName') return run.request.DocumentName === value;
          if (key === 'InvokedAfter') return run.at > Date.parse(value);
          throw new AwsError('InvalidFilterKey', `${key} is not simulated`);
        }),
    );
    const { items, ...rest } = paged(seen.reverse(), request, 50);
    return { Commands: items.map(describe), ...rest };
  }

  /** "The Run Command API follows an eventual consistency model." Source: SSM API reference, GetCommandInvocation. */
  function isShown(run: Run): boolean {
    return scheduler.now() - run.at >= latency.invocationMs;
  }

  function listInvocations(request: ListCommandInvocationsRequest): ListCommandInvocationsResult {
    const run = runs.get(request.CommandId ?? '');
    if (run === undefined) throw new AwsError('InvalidCommandId', 'The command ID does not exist.');
    const shown = isShown(run) ? run.invocations : [];
    const all = shown.filter(
      (one) => request.InstanceId === undefined || one.instanceId === request.InstanceId,
    );
    const { items, ...rest } = paged(all, request, 50);
    return {
      CommandInvocations: items.map((one) => ({
        CommandId: run.id,
        InstanceId: one.instanceId,
        DocumentName: run.request.DocumentName,
        DocumentVersion: String(run.document.version),
        RequestedDateTime: seconds(one.at),
        Status: one.status,
        StatusDetails: one.details,
        CommandPlugins:
          request.Details !== true
            ? []
            : [
                {
                  Name: run.document.parsed.mainSteps[0]?.name,
                  Status: one.status as 'Success',
                  StatusDetails: one.details,
                  ResponseCode: one.result?.exitCode ?? -1,
                  Output: one.result === undefined ? '' : shortOutput(one.result),
                },
              ],
      })),
      ...rest,
    };
  }

  function getInvocation(request: GetCommandInvocationRequest): GetCommandInvocationResult {
    const run = runs.get(request.CommandId ?? '');
    const invocation = run?.invocations.find((one) => one.instanceId === request.InstanceId);
    if (run === undefined || invocation === undefined || !isShown(run))
      throw new AwsError('InvocationDoesNotExist', 'The command ID and instance ID do not match.');
    return {
      CommandId: run.id,
      InstanceId: invocation.instanceId,
      Comment: run.request.Comment,
      DocumentName: run.request.DocumentName,
      Status: invocation.status,
      StatusDetails: invocation.details,
      ResponseCode: invocation.result?.exitCode ?? -1,
      StandardOutputContent: (invocation.result?.stdout ?? '').slice(0, CHARACTERS.stdout),
      StandardErrorContent: (invocation.result?.stderr ?? '').slice(0, CHARACTERS.stderr),
    };
  }

  function describe(run: Run): Command {
    const ended = run.invocations.filter((one) => !OPEN.has(one.status));
    return {
      CommandId: run.id,
      DocumentName: run.request.DocumentName,
      DocumentVersion: String(run.document.version),
      Comment: run.request.Comment,
      Parameters: run.request.Parameters,
      InstanceIds: run.request.InstanceIds ?? [],
      Targets: run.request.Targets ?? [],
      RequestedDateTime: seconds(run.at),
      Status: run.status,
      StatusDetails: run.details,
      MaxConcurrency: run.request.MaxConcurrency ?? '50',
      MaxErrors: run.request.MaxErrors ?? '0',
      TargetCount: run.invocations.length,
      CompletedCount: ended.length,
      ErrorCount: run.errors,
      DeliveryTimedOutCount: run.invocations.filter((one) => one.details === 'DeliveryTimedOut').length,
      TimeoutSeconds: run.request.TimeoutSeconds ?? 3600,
      ...(run.triggeredAlarm === undefined
        ? {}
        : { TriggeredAlarms: [{ Name: run.triggeredAlarm, State: 'ALARM' as const }] }),
    };
  }

  return {
    handlers: {
      readers: {
        ListCommands: list,
        ListCommandInvocations: listInvocations,
        GetCommandInvocation: getInvocation,
      },
      writers: { SendCommand: send, CancelCommand: cancel },
    },
  };
}

/** Puts the parameters into the script, as the SSM agent does. Throws InvalidParameters. */
function render(
  { parsed }: DocumentVersion,
  given: Record<string, string[]>,
): { script: string; executionS: number } {
  const declared = parsed.parameters ?? {};
  const refuse = (name: string): never => {
    throw new AwsError('InvalidParameters', `The parameter ${name} is not valid.`);
  };
  for (const name of Object.keys(given)) if (declared[name] === undefined) refuse(name);
  const values = new Map<string, string>();
  for (const [name, { default: standard, allowedPattern, allowedValues }] of Object.entries(declared)) {
    const value = given[name]?.[0] ?? standard ?? refuse(name);
    if (allowedPattern !== undefined && !new RegExp(allowedPattern).test(value)) refuse(name);
    if (allowedValues !== undefined && !allowedValues.includes(value)) refuse(name);
    values.set(name, value);
  }
  const fill = (text: string) =>
    text.replace(/\{\{ ?(\w+) ?\}\}/g, (whole, name: string) => values.get(name) ?? whole);
  const inputs = parsed.mainSteps.map((step) => step.inputs);
  return {
    script: inputs.flatMap((one) => one.runCommand.map(fill)).join('\n'),
    executionS: Number(fill(inputs[0]?.timeoutSeconds ?? '') || DEFAULT_EXECUTION_S),
  };
}

/** A number, or a percentage of all: rounded up for concurrency, down for errors. */
function share(text: string, all: number, least: number): number {
  if (!text.endsWith('%')) return Math.max(least, Number(text));
  const exact = (Number(text.slice(0, -1)) / 100) * all;
  return Math.max(least, least === 0 ? Math.floor(exact) : Math.ceil(exact));
}

function uuid(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}
