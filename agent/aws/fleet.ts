// EC2, Systems Manager and CloudWatch for a rollout: few calls, plain data, every error a Failure. fleet-sdk.ts sends requests
// over the SDK; tests send them to the simulated AWS.
import type * as ec2 from '@aws-sdk/client-ec2';
import type * as ssm from '@aws-sdk/client-ssm';
import { isFailure } from '../messages/failure.ts';
import { type AlarmReads, alarmReads } from './alarms.ts';
import { fieldsOf } from './fields.ts';
import { fromTags, type MachineImages, machineImages } from './machine-images.ts';
import { type Actions, operatorCalls, type Send, type ServiceName } from './operator-calls.ts';
import { allPages, partsOf } from './paging.ts';
import { type ParameterVersions, parameterVersions } from './parameter-versions.ts';
import type { PatienceOptions } from './patience.ts';

const ec2Fields = fieldsOf('EC2');
const ssmFields = fieldsOf('SSM');

export interface FleetInstance {
  instanceId: string;
  /** undefined when EC2's answer has none: a rollout cannot begin with such a node. */
  zoneId: string | undefined;
  /** The CPU by its name in bundles; undefined for any other CPU. */
  arch: 'x64' | 'arm64' | undefined;
  imageId: string | undefined;
  instanceType: string | undefined;
  tags: Record<string, string>;
  launchedMs: number;
  /** EC2's name of the state, such as `running`. */
  state: string;
  /** EC2's own text, for an instance that does not run. */
  stateReason: string | undefined;
}

export interface StoredParameter {
  name: string;
  value: string;
  version: number;
}

export interface StoredDocument {
  version: string;
  /** SHA-256 in hexadecimal. */
  hash: string;
}

export interface DescribedDocument extends StoredDocument {
  /** Creating or Updating, then Active: only then it can be run; or Failed, or Deleting. */
  status: string;
  /** Why the document is Failed; else empty. */
  reason: string;
}

export interface CommandRequest {
  document: StoredDocument & { name: string };
  /** At most 50. */
  instanceIds: string[];
  parameters: Record<string, string>;
  /** At most 100 characters. */
  comment: string;
  /** Seconds in which a node has to begin the command, 30 or more. */
  deliverySeconds: number;
  /** Number of errors after which Run Command sends the command to no further nodes. */
  maxErrors: number;
  /** Name of a CloudWatch alarm that makes Run Command cancel the command. */
  alarm: string | undefined;
}

export interface SentCommand {
  commandId: string;
  comment: string;
  /** Run Command's Status: Pending, InProgress, Success, Cancelled, Failed, TimedOut, Cancelling. */
  status: string;
  /** StatusDetails, such as RateExceeded. */
  details: string;
  alarms: string[];
  /** TargetCount: the number of nodes that the command has an invocation for; undefined where AWS gives none. */
  targets?: number | undefined;
}

export interface Invocation {
  instanceId: string;
  status: string;
  /** StatusDetails, such as Undeliverable or ExecutionTimedOut. */
  details: string;
  exitCode: number;
  /** The first 2,500 characters of the node's output. */
  output: string;
}

/** Reads follow pagination; each page is a separate call with its own retries. */
export interface FleetAws extends ParameterVersions, MachineImages, AlarmReads {
  /**
   * Running instances that carry all these tags, of one zone or of all. With `sinceMs`: launched since then (milliseconds since
   * the epoch) or some time before. With an AMI: in every state, and terminated ones for as long as EC2 returns them.
   */
  describeInstances(
    tags: Record<string, string>,
    only?: { imageId?: string; zoneId?: string | undefined; sinceMs?: number },
  ): Promise<FleetInstance[]>;
  /** Those of the given instances that EC2 has, and has not begun to end. */
  findLiving(instanceIds: readonly string[]): Promise<string[]>;
  /** Those of the given instances whose SSM agent answers. */
  findOnline(instanceIds: readonly string[]): Promise<string[]>;
  /** Of the managed nodes that carry all these tags, those whose SSM agent answers. */
  describeOnline(tags: Record<string, string>): Promise<string[]>;
  /** The parameter by `name`, `name:version` or `name:label`; undefined when there is none. */
  readParameter(reference: string): Promise<StoredParameter | undefined>;
  /**
   * All parameters directly below a path, or on all levels below it. The right to list a path includes these levels. Source:
   * SSM API reference, GetParametersByPath, Recursive.
   */
  listParameters(path: string, depth?: 'all levels'): Promise<StoredParameter[]>;
  /**
   * Writes a new version of a String parameter of up to 8 KB, and creates the parameter when it is missing. Returns the
   * version's number.
   */
  writeParameter(name: string, value: string): Promise<number>;
  unlabel(name: string, version: number, label: string): Promise<void>;
  /** At most 10 names. A parameter that does not exist is no error. */
  deleteParameters(names: string[]): Promise<void>;
  /** A version of a document, by default the latest; undefined when there is none. */
  describeDocument(name: string, version?: string): Promise<DescribedDocument | undefined>;
  /** The contents of a version of a document, as JSON text. */
  readDocument(name: string, version: string): Promise<string>;
  /** undefined when a document of that name exists already. */
  createDocument(name: string, content: string): Promise<DescribedDocument | undefined>;
  /** Writes a new version; undefined when AWS takes the contents for those of an existing version. */
  updateDocument(name: string, content: string): Promise<DescribedDocument | undefined>;
  sendCommand(request: CommandRequest): Promise<string>;
  /** Commands of a document sent after a time (milliseconds since the epoch), newest first. */
  listCommands(document: string, afterMs: number): Promise<SentCommand[]>;
  describeCommand(commandId: string): Promise<SentCommand | undefined>;
  listInvocations(commandId: string): Promise<Invocation[]>;
  cancelCommand(commandId: string): Promise<void>;
}

/** Every API action that a rollout uses, and its service. */
export const fleetActions = {
  DescribeInstances: 'ec2',
  DescribeImages: 'ec2',
  DescribeInstanceInformation: 'ssm',
  GetParameter: 'ssm',
  GetParameterHistory: 'ssm',
  GetParametersByPath: 'ssm',
  PutParameter: 'ssm',
  LabelParameterVersion: 'ssm',
  UnlabelParameterVersion: 'ssm',
  DeleteParameters: 'ssm',
  DescribeDocument: 'ssm',
  GetDocument: 'ssm',
  CreateDocument: 'ssm',
  UpdateDocument: 'ssm',
  SendCommand: 'ssm',
  ListCommands: 'ssm',
  ListCommandInvocations: 'ssm',
  CancelCommand: 'ssm',
  DescribeAlarms: 'cloudwatch',
  DescribeAlarmHistory: 'cloudwatch',
} as const satisfies Record<string, ServiceName>;

/** EC2's names of the CPUs for which there are bundles. */
const ARCHES: Record<string, 'x64' | 'arm64'> = { x86_64: 'x64', arm64: 'arm64' };

/**
 * Milliseconds between two pages of managed nodes; a large fleet has hundreds of pages. AWS publishes no limit: five a second
 * are few.
 */
const PAGE_PAUSE_MS = 200;
/**
 * EC2 returns kilobytes for each instance: with its 1,000 a page, one answer and its parsed form would take tens of megabytes.
 */
const INSTANCES_PER_PAGE = 200;
/** Values of one filter. Source: EC2 API reference, "Filtering": at most 200. */
const FILTER_VALUES = 200;
/** Values of one filter of DescribeInstanceInformation. Source: SSM API reference, InstanceInformationStringFilter. */
const NODES_PER_FILTER = 100;
/** States on the way to an instance's end. A stopped instance may start again. */
const ENDING: ReadonlySet<string> = new Set(['shutting-down', 'terminated', '']);

export type FleetAction = keyof typeof fleetActions;

const actions: Actions<FleetAction> = {
  services: fleetActions,
  // A command that is sent twice runs twice: the caller looks for it first.
  notRepeatable: ['SendCommand'],
  unanswered: 'SSM_FAILED',
};

/** AWS behind `send`: every call is repeated as long as that can help, every error becomes a Failure. */
export function fleetAws(send: Send<FleetAction>, patience: PatienceOptions): FleetAws {
  const { clock } = patience;
  const call = operatorCalls(actions, send, patience);

  async function describe(name: string, DocumentVersion: string): Promise<DescribedDocument> {
    const { Document } = await call<ssm.DescribeDocumentResult>(
      'DescribeDocument',
      { Name: name, DocumentVersion },
      { document: name },
    );
    return described(Document);
  }

  /** Keeps, page by page, only the result of `use`: EC2 returns kilobytes for each instance, and a fleet may have 20,000. */
  function instancesBy<Of>(
    filters: Record<string, readonly string[]>,
    use: (instance: ec2.Instance) => Of,
  ): Promise<Of[]> {
    return allPages(
      'EC2',
      (next) =>
        call<ec2.DescribeInstancesResult>(
          'DescribeInstances',
          {
            MaxResults: INSTANCES_PER_PAGE,
            Filters: Object.entries(filters).map(([Name, Values]) => ({ Name, Values })),
            ...next,
          },
          { filters },
        ),
      (page) => page.Reservations?.flatMap(({ Instances = [] }) => Instances.map(use)),
    );
  }

  async function onlineBy(filters: { Key: string; Values: string[] }[]): Promise<string[]> {
    const managed = await allPages(
      'SSM',
      async (next) => {
        if (next.NextToken !== undefined) await clock.sleep(PAGE_PAUSE_MS);
        return call<ssm.DescribeInstanceInformationResult>(
          'DescribeInstanceInformation',
          { MaxResults: 50, Filters: filters, ...next },
          { filters },
        );
      },
      (page) => page.InstanceInformationList,
    );
    return managed.flatMap(({ PingStatus, InstanceId }) =>
      PingStatus === 'Online' && InstanceId !== undefined ? [InstanceId] : [],
    );
  }

  return {
    ...parameterVersions(call),
    ...machineImages(call),
    ...alarmReads((until) => operatorCalls(actions, send, { ...patience, until }), patience.clock),

    async describeInstances(tags, { imageId, zoneId, sinceMs } = {}) {
      return instancesBy(
        {
          ...(imageId === undefined ? { 'instance-state-name': ['running'] } : { 'image-id': [imageId] }),
          ...(zoneId === undefined ? {} : { 'availability-zone-id': [zoneId] }),
          ...(sinceMs === undefined ? {} : { 'launch-time': launchTimes(sinceMs, clock.now().getTime()) }),
          ...Object.fromEntries(Object.entries(tags).map(([key, value]) => [`tag:${key}`, [value]])),
        },
        (instance) => ({
          instanceId: ec2Fields.field('InstanceId', instance.InstanceId, 'instanceId'),
          zoneId: ec2Fields.optional('AvailabilityZoneId', instance.Placement?.AvailabilityZoneId, 'place'),
          arch: ARCHES[instance.Architecture ?? ''],
          imageId: ec2Fields.optional('ImageId', instance.ImageId, 'text'),
          instanceType: ec2Fields.optional('InstanceType', instance.InstanceType, 'text'),
          tags: fromTags(instance.Tags),
          launchedMs: ec2Fields.moment('LaunchTime', instance.LaunchTime),
          state: ec2Fields.field('State', instance.State?.Name, 'text'),
          stateReason: instance.StateReason?.Message,
        }),
      );
    },

    async findLiving(instanceIds) {
      const living: string[] = [];
      for (const part of partsOf(instanceIds, FILTER_VALUES)) {
        // A filter, since one unknown ID in InstanceIds fails the whole call.
        const found = await instancesBy({ 'instance-id': part }, ({ InstanceId, State }) =>
          InstanceId !== undefined && !ENDING.has(State?.Name ?? '') ? [InstanceId] : [],
        );
        living.push(...found.flat());
      }
      return living;
    },

    async findOnline(instanceIds) {
      const online: string[] = [];
      for (const part of partsOf(instanceIds, NODES_PER_FILTER))
        online.push(...(await onlineBy([{ Key: 'InstanceIds', Values: part }])));
      return online;
    },

    describeOnline: (tags) =>
      onlineBy(Object.entries(tags).map(([key, value]) => ({ Key: `tag:${key}`, Values: [value] }))),

    async readParameter(Name) {
      try {
        const { Parameter } = await call<ssm.GetParameterResult>('GetParameter', { Name }, { name: Name });
        return stored(Parameter);
      } catch (error) {
        if (refusedWith(error, 'ParameterNotFound', 'ParameterVersionNotFound')) return undefined;
        throw error;
      }
    },

    async listParameters(Path, depth) {
      const found = await allPages(
        'SSM',
        (next) =>
          call<ssm.GetParametersByPathResult>(
            'GetParametersByPath',
            { Path, Recursive: depth !== undefined, MaxResults: 10, ...next },
            { path: Path },
          ),
        (page) => page.Parameters,
      );
      return found.map(stored);
    },

    async writeParameter(Name, Value) {
      const { Version } = await call<ssm.PutParameterResult>(
        'PutParameter',
        { Name, Value, Type: 'String', Overwrite: true, Tier: 'Intelligent-Tiering' },
        { name: Name, characters: Value.length },
      );
      return ssmFields.count('Version', Version, Number.MAX_SAFE_INTEGER);
    },

    async unlabel(Name, ParameterVersion, label) {
      await call(
        'UnlabelParameterVersion',
        { Name, ParameterVersion, Labels: [label] },
        { name: Name, version: ParameterVersion, label },
      );
    },

    async deleteParameters(Names) {
      await call('DeleteParameters', { Names }, { names: Names });
    },

    async describeDocument(name, version = '$LATEST') {
      try {
        return await describe(name, version);
      } catch (error) {
        if (refusedWith(error, 'InvalidDocument', 'InvalidDocumentVersion')) return undefined;
        throw error;
      }
    },

    async readDocument(Name, DocumentVersion) {
      const { Content } = await call<ssm.GetDocumentResult>(
        'GetDocument',
        { Name, DocumentVersion, DocumentFormat: 'JSON' },
        { document: Name, version: DocumentVersion },
      );
      return ssmFields.field('Content', Content, 'text');
    },

    async createDocument(Name, Content) {
      try {
        const { DocumentDescription } = await call<ssm.CreateDocumentResult>(
          'CreateDocument',
          {
            Name,
            Content,
            DocumentType: 'Command',
            DocumentFormat: 'JSON',
            TargetType: '/AWS::EC2::Instance',
          },
          { document: Name },
        );
        // Not read again: DescribeDocument right after this may still answer as before.
        return described(DocumentDescription);
      } catch (error) {
        // Another operator was faster, or the first attempt succeeded and its answer was lost.
        if (refusedWith(error, 'DocumentAlreadyExists')) return undefined;
        throw error;
      }
    },

    async updateDocument(Name, Content) {
      try {
        const { DocumentDescription } = await call<ssm.UpdateDocumentResult>(
          'UpdateDocument',
          { Name, Content, DocumentVersion: '$LATEST', DocumentFormat: 'JSON' },
          { document: Name },
        );
        return described(DocumentDescription);
      } catch (error) {
        if (refusedWith(error, 'DuplicateDocumentContent')) return undefined;
        throw error;
      }
    },

    async sendCommand({ document, instanceIds, parameters, comment, deliverySeconds, maxErrors, alarm }) {
      const { Command } = await call<ssm.SendCommandResult>(
        'SendCommand',
        {
          DocumentName: document.name,
          DocumentVersion: document.version,
          DocumentHash: document.hash,
          DocumentHashType: 'Sha256',
          // As Targets, not as InstanceIds: one terminated instance in InstanceIds fails the whole call.
          Targets: [{ Key: 'InstanceIds', Values: instanceIds }],
          Parameters: Object.fromEntries(Object.entries(parameters).map(([key, value]) => [key, [value]])),
          Comment: comment,
          TimeoutSeconds: deliverySeconds,
          MaxConcurrency: String(instanceIds.length),
          MaxErrors: String(maxErrors),
          ...(alarm === undefined
            ? {}
            : { AlarmConfiguration: { IgnorePollAlarmFailure: false, Alarms: [{ Name: alarm }] } }),
        },
        { comment, instances: instanceIds.length },
      );
      return ssmFields.field('CommandId', Command?.CommandId, 'id');
    },

    async listCommands(document, afterMs) {
      const found = await allPages(
        'SSM',
        (next) =>
          call<ssm.ListCommandsResult>(
            'ListCommands',
            {
              MaxResults: 50,
              Filters: [
                { key: 'DocumentName', value: document },
                // Whole seconds, as the API reference writes it.
                { key: 'InvokedAfter', value: `${new Date(afterMs).toISOString().slice(0, 19)}Z` },
              ],
              ...next,
            },
            { document },
          ),
        (page) => page.Commands,
      );
      return found.map(toSent);
    },

    async describeCommand(CommandId) {
      const { Commands } = await call<ssm.ListCommandsResult>(
        'ListCommands',
        { CommandId },
        { commandId: CommandId },
      );
      return Commands?.[0] === undefined ? undefined : toSent(Commands[0]);
    },

    async listInvocations(CommandId) {
      const found = await allPages(
        'SSM',
        (next) =>
          call<ssm.ListCommandInvocationsResult>(
            'ListCommandInvocations',
            { CommandId, Details: true, MaxResults: 50, ...next },
            { commandId: CommandId },
          ),
        (page) => page.CommandInvocations,
      );
      return found.map((one) => ({
        instanceId: ssmFields.field('InstanceId', one.InstanceId, 'instanceId'),
        status: ssmFields.field('Status', one.Status, 'text'),
        details: one.StatusDetails ?? '',
        exitCode: one.CommandPlugins?.[0]?.ResponseCode ?? -1,
        output: ssmFields.optional('Output', one.CommandPlugins?.[0]?.Output, 'text') ?? '',
      }));
    },

    async cancelCommand(CommandId) {
      await call('CancelCommand', { CommandId }, { commandId: CommandId });
    },
  };
}

const HOUR_MS = 3_600_000;
/** For a longer time than this, the filter names whole days instead of hours. */
const MOST_HOURS = 48;

/**
 * Values of the filter `launch-time`: each hour from the one before `sinceMs` to the next, or each day. Source: EC2 API reference,
 * DescribeInstances: "You can use a wildcard (*), for example, 2021-09-29T*, which matches an entire day."; a wildcard stands for
 * any characters, "List and filter your resources".
 */
function launchTimes(sinceMs: number, nowMs: number): string[] {
  const [fromMs, toMs] = [sinceMs - HOUR_MS, nowMs + HOUR_MS];
  const [stepMs, characters] =
    toMs - fromMs > MOST_HOURS * HOUR_MS
      ? [24 * HOUR_MS, 'YYYY-MM-DDT'.length]
      : [HOUR_MS, 'YYYY-MM-DDThh:'.length];
  const times = Array.from(
    { length: Math.ceil((toMs - fromMs) / stepMs) + 1 },
    (_, at) => fromMs + at * stepMs,
  );
  return times.map((ms) => `${new Date(ms).toISOString().slice(0, characters)}*`).slice(-FILTER_VALUES);
}

function described(document: ssm.DocumentDescription | undefined): DescribedDocument {
  return {
    version: ssmFields.field('DocumentVersion', document?.DocumentVersion, 'id'),
    hash: ssmFields.field('Hash', document?.Hash, 'id'),
    status: ssmFields.field('Status', document?.Status, 'id'),
    reason: ssmFields.optional('StatusInformation', document?.StatusInformation, 'text') ?? '',
  };
}

function stored(parameter: ssm.Parameter | undefined): StoredParameter {
  return {
    name: ssmFields.field('Name', parameter?.Name, 'text'),
    value: ssmFields.field('Value', parameter?.Value, 'text'),
    version: ssmFields.count('Version', parameter?.Version, Number.MAX_SAFE_INTEGER),
  };
}

function toSent(command: ssm.Command): SentCommand {
  return {
    commandId: ssmFields.field('CommandId', command.CommandId, 'id'),
    comment: ssmFields.optional('Comment', command.Comment, 'text') ?? '',
    status: ssmFields.field('Status', command.Status, 'text'),
    details: command.StatusDetails ?? '',
    alarms: (command.TriggeredAlarms ?? []).map((alarm) => ssmFields.field('Alarm', alarm.Name, 'text')),
    targets: command.TargetCount,
  };
}

function refusedWith(error: unknown, ...codes: string[]): boolean {
  return isFailure(error, 'SSM_REFUSED') && codes.includes(String(error.facts['ssmCode']));
}
