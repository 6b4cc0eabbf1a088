// The simulated SSM against what AWS documents, on virtual time.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { AwsError } from './ec2/errors.ts';
import { virtualScheduler } from './ec2/scheduler.ts';
import type { ManagedNode, ScriptResult } from './ssm/managed.ts';
import { shortOutput } from './ssm/short-output.ts';
import { createSsm } from './ssm/ssm.ts';

const good: ScriptResult = { exitCode: 0, stdout: 'done\n', stderr: '' };
const bad: ScriptResult = { exitCode: 1, stdout: '', stderr: 'no\n' };
/** Longer than any test. */
const NEVER = undefined;

/** An instance ID in the form that SSM requires. */
const idOf = (at: number): string => `i-${String(at).padStart(17, '0')}`;

function region(results: (ScriptResult | typeof NEVER | 'offline')[] = []) {
  const scheduler = virtualScheduler();
  const instances = new Map(
    results.map((_, at) => [idOf(at), new Map([['zone', at % 2 === 0 ? 'even' : 'odd']])]),
  );
  /** CloudWatch alarms that are in ALARM. */
  const alarms = new Set<string>();
  const ssm = createSsm({
    scheduler,
    calls: [],
    denied: new Set(),
    arnPrefix: 'arn:aws:ssm:eu-west-1:123456789012',
    accountId: '123456789012',
    tagsOf: (id) => instances.get(id),
    imageExists: (id) => id === 'ami-0123456789abcdef0',
    isInAlarm: (name) => alarms.has(name),
    bucketOf: () => ({ capacity: 1000, refill: 1000 }),
  });
  const ran: string[] = [];
  for (const [at, result] of results.entries()) {
    const node: ManagedNode = {
      instanceId: idOf(at),
      online: result !== 'offline',
      lastPingAt: 0,
      run(script, ended) {
        ran.push(`${node.instanceId} ${script}`);
        return result === NEVER || result === 'offline'
          ? () => {}
          : scheduler.after(10_000, () => ended(result));
      },
    };
    ssm.nodes.set(node.instanceId, node);
  }
  const send = (action: string, request: object): any => ssm.send(action, request);
  return { scheduler, ssm, instances, alarms, ran, send };
}

const content = (command: string) =>
  JSON.stringify({
    schemaVersion: '2.2',
    parameters: { word: { type: 'String', allowedPattern: '^\\w+$', default: 'none' } },
    mainSteps: [
      { action: 'aws:runShellScript', name: 'run', inputs: { runCommand: [command], timeoutSeconds: '60' } },
    ],
  });

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    return error instanceof AwsError ? error.code : String(error);
  }
  return 'none';
}

function commandRegion(results: Parameters<typeof region>[0]) {
  const all = region(results);
  all.send('CreateDocument', { Name: 'doc', Content: content('echo {{ word }}'), DocumentType: 'Command' });
  all.scheduler.advance(1_000);
  const start = (request: object) => {
    const { Command } = all.send('SendCommand', { DocumentName: 'doc', ...request });
    return Command;
  };
  const details = (CommandId: string) => {
    const { CommandInvocations } = all.send('ListCommandInvocations', { CommandId });
    return CommandInvocations.map((one: { StatusDetails: string }) => one.StatusDetails);
  };
  const command = (CommandId: string) => all.send('ListCommands', { CommandId }).Commands[0];
  return { ...all, start, details, command };
}

test('a SecureString is read with WithDecryption alone', () => {
  const { send } = region();
  for (const [Name, Type] of [
    ['/secret', 'SecureString'],
    ['/open', 'String'],
  ])
    send('PutParameter', { Name, Value: 'value', Type });
  const Names = ['/secret', '/open'];
  const valuesOf = (request: object) =>
    send('GetParameters', request).Parameters.map(({ Value }: { Value: string }) => Value);
  assert.equal(valuesOf({ Names, WithDecryption: true }), ['value', 'value']);
  for (const request of [{ Names }, { Names, WithDecryption: false }]) {
    const [secret, open] = valuesOf(request);
    assert.is(open, 'value');
    assert.not.match(secret, 'value');
  }
  assert.not.match(send('GetParameter', { Name: '/secret' }).Parameter.Value, 'value');
});

test('documents have immutable versions with digests; a command is pinned to one', () => {
  const { scheduler, send, start } = commandRegion([good]);
  const second = send('UpdateDocument', {
    Name: 'doc',
    Content: content('echo two'),
    DocumentVersion: '$LATEST',
  }).DocumentDescription;
  assert.is(second.DocumentVersion, '2');
  assert.is(second.DefaultVersion, '1');
  assert.is(second.Status, 'Updating');
  scheduler.advance(1_000);
  assert.match(second.Hash, /^[0-9a-f]{64}$/);
  const InstanceIds = [idOf(0)];
  assert.is(
    codeOf(() =>
      send('UpdateDocument', { Name: 'doc', Content: content('echo two'), DocumentVersion: '$LATEST' }),
    ),
    'DuplicateDocumentContent',
  );
  assert.is(
    codeOf(() => start({ InstanceIds, DocumentVersion: '1', DocumentHash: second.Hash })),
    'InvalidDocument',
  );
  assert.is(
    codeOf(() => start({ InstanceIds, DocumentVersion: '7' })),
    'InvalidDocumentVersion',
  );
  assert.is(
    codeOf(() => start({ InstanceIds, DocumentVersion: '2', DocumentHash: second.Hash })),
    'none',
  );
  assert.is(
    codeOf(() => start({ InstanceIds, Parameters: { word: ['a; rm'] } })),
    'InvalidParameters',
  );
  assert.is(
    codeOf(() => start({ InstanceIds, Parameters: { other: ['a'] } })),
    'InvalidParameters',
  );
});

test('parameters stand in the script, and output comes back cut to 2,500 characters in lists, 24,000 singly', () => {
  const long = { ...good, stdout: 'x'.repeat(30_000) };
  const { scheduler, start, ran, send } = commandRegion([long]);
  const { CommandId } = start({ InstanceIds: [idOf(0)], Parameters: { word: ['hello'] } });
  scheduler.advance(20_000);
  assert.equal(ran, [`${idOf(0)} echo hello`]);
  const [row] = send('ListCommandInvocations', { CommandId, Details: true }).CommandInvocations;
  assert.is(row?.CommandPlugins[0]?.Output.length, 2_500);
  const one = send('GetCommandInvocation', {
    CommandId,
    InstanceId: idOf(0),
  });
  assert.is(one.StandardOutputContent.length, 24_000);
});

test('a document is Creating or Updating before it is Active, and is not run until then', () => {
  const { scheduler, send } = region([good]);
  const status = () => send('DescribeDocument', { Name: 'doc', DocumentVersion: '$LATEST' }).Document.Status;
  const run = (DocumentVersion: string) =>
    codeOf(() => send('SendCommand', { DocumentName: 'doc', DocumentVersion, InstanceIds: [idOf(0)] }));
  send('CreateDocument', { Name: 'doc', Content: content('echo one') });
  assert.is(status(), 'Creating');
  assert.is(run('1'), 'InvalidDocument');
  scheduler.advance(1_000);
  assert.is(status(), 'Active');
  send('UpdateDocument', { Name: 'doc', Content: content('echo two'), DocumentVersion: '$LATEST' });
  assert.is(status(), 'Updating');
  assert.is(run('2'), 'InvalidDocument');
  assert.is(run('1'), 'none', 'the earlier version stays active');
  scheduler.advance(1_000);
  assert.is(run('2'), 'none');
});

test('an invocation is not listed at once', () => {
  const { scheduler, send, start } = commandRegion([good]);
  const { CommandId } = start({ InstanceIds: [idOf(0)] });
  const one = () => codeOf(() => send('GetCommandInvocation', { CommandId, InstanceId: idOf(0) }));
  assert.is(one(), 'InvocationDoesNotExist');
  assert.equal(send('ListCommandInvocations', { CommandId }).CommandInvocations, []);
  scheduler.advance(1_000);
  assert.is(one(), 'none');
  assert.is(send('ListCommandInvocations', { CommandId }).CommandInvocations.length, 1);
});

test('output and errors are cut together, as the SSM agent does it', () => {
  const [x, y] = ['x'.repeat(2_000), 'y'.repeat(2_000)];
  const title = '\n----------ERROR-------\n';
  const cut = ['\n---Output truncated---', '\n---Error truncated----'];
  for (const [stdout, stderr, wanted] of [
    ['out', '', 'out'],
    ['out', 'err', `out${title}err`],
    ['', 'err', `${title}err`],
    [x, '', x],
    [`${x}${x}`, '', `${'x'.repeat(2_477)}${cut[0]}`],
    [x, y, `${'x'.repeat(1_215)}${cut[0]}${title}${'y'.repeat(1_215)}${cut[1]}`],
    ['x'.repeat(1_200), y, `${'x'.repeat(1_200)}${title}${'y'.repeat(1_253)}${cut[1]}`],
    [`${x}${x}`, 'err', `${'x'.repeat(2_450)}${cut[0]}${title}err`],
  ] as const) {
    const shown = shortOutput({ stdout, stderr });
    assert.is(shown, wanted, `${stdout.length} and ${stderr.length}`);
    assert.ok(shown.length <= 2_500, 'CommandPluginOutput has at most 2,500 characters');
  }
});

test('the SSM agent adds a line to the errors of a failed script', () => {
  const { scheduler, send, start } = commandRegion([bad]);
  const { CommandId } = start({ InstanceIds: [idOf(0)] });
  scheduler.advance(20_000);
  const { StandardErrorContent } = send('GetCommandInvocation', { CommandId, InstanceId: idOf(0) });
  assert.is(StandardErrorContent, 'no\n\nfailed to run commands: exit status 1');
});

test('the name of a deleted parameter rests for 30 seconds', () => {
  const { scheduler, send, ssm } = region();
  ssm.put('/p', 'one');
  send('DeleteParameters', { Names: ['/p'] });
  assert.is(
    codeOf(() => ssm.put('/p', 'two')),
    'TooManyUpdates',
  );
  scheduler.advance(30_000);
  assert.is(ssm.put('/p', 'two'), 1);
});

test('by ID one unknown instance fails the whole call; a target that does not exist is passed over', () => {
  const { start, instances } = commandRegion([good, good]);
  instances.delete(idOf(1));
  assert.is(
    codeOf(() => start({ InstanceIds: [idOf(0), idOf(1)] })),
    'InvalidInstanceId',
  );
  assert.is(start({ Targets: [{ Key: 'InstanceIds', Values: [idOf(0), idOf(1)] }] }).TargetCount, 1);
  assert.is(start({ Targets: [{ Key: 'tag:zone', Values: ['even'] }] }).TargetCount, 1);
});

test('MaxConcurrency bounds what runs at once; MaxErrors stops the sending, not the scripts that run', () => {
  const { scheduler, start, details, command, ran } = commandRegion([bad, bad, good, good, good]);
  const InstanceIds = [0, 1, 2, 3, 4].map((at) => idOf(at));
  const { CommandId } = start({ InstanceIds, MaxConcurrency: '2', MaxErrors: '1' });
  scheduler.advance(1_000);
  assert.is(ran.length, 2);
  scheduler.advance(60_000);
  assert.equal(details(CommandId), ['Failed', 'Failed', 'Success', 'Terminated', 'Terminated']);
  assert.is(command(CommandId)?.Status, 'Failed');
});

test('a command that was never delivered is no error', () => {
  const { scheduler, start, details, command, instances } = commandRegion(['offline', good, good]);
  const { CommandId } = start({
    InstanceIds: [idOf(0), idOf(1), idOf(2)],
    MaxErrors: '0',
    TimeoutSeconds: 30,
  });
  instances.delete(idOf(2));
  // Delivery time-out and execution time-out together.
  scheduler.advance(89_000);
  assert.equal(details(CommandId), ['Delayed', 'Success', 'Undeliverable']);
  scheduler.advance(2_000);
  assert.equal(details(CommandId), ['DeliveryTimedOut', 'Success', 'Undeliverable']);
  assert.is(command(CommandId)?.ErrorCount, 0);
  assert.is(command(CommandId)?.StatusDetails, 'Incomplete');
});

test('a script that hangs times out and is an error', () => {
  const { scheduler, start, details, command } = commandRegion([NEVER]);
  const { CommandId } = start({ InstanceIds: [idOf(0)] });
  scheduler.advance(59_000);
  assert.equal(details(CommandId), ['InProgress']);
  scheduler.advance(2_000);
  assert.equal(details(CommandId), ['ExecutionTimedOut']);
  assert.is(command(CommandId)?.ErrorCount, 1);
});

test('cancelling ends invocations that were not sent, and asks running scripts to stop', () => {
  const { scheduler, start, details, command, send } = commandRegion([NEVER, good, good]);
  const { CommandId } = start({ InstanceIds: [idOf(0), idOf(1), idOf(2)], MaxConcurrency: '1' });
  scheduler.advance(1_000);
  send('CancelCommand', { CommandId });
  assert.equal(details(CommandId), ['Canceled', 'Canceled', 'Canceled']);
  assert.is(command(CommandId)?.Status, 'Cancelled');
});

test('an alarm that goes off cancels the command and is named', () => {
  const { scheduler, start, alarms, command } = commandRegion([good, good]);
  const { CommandId } = start({
    InstanceIds: [idOf(0), idOf(1)],
    MaxConcurrency: '1',
    AlarmConfiguration: { Alarms: [{ Name: 'errors' }] },
  });
  scheduler.advance(1_000);
  alarms.add('errors');
  scheduler.advance(60_000);
  assert.is(command(CommandId)?.Status, 'Cancelled');
  assert.equal(command(CommandId)?.TriggeredAlarms, [{ Name: 'errors', State: 'ALARM' }]);
});

test('a node that does not answer is shown as ConnectionLost after five minutes', () => {
  const { scheduler, ssm, send } = region([good]);
  const ping = () => send('DescribeInstanceInformation', {}).InstanceInformationList[0]?.PingStatus;
  assert.is(ping(), 'Online');
  const node = ssm.nodes.get(idOf(0));
  if (node !== undefined) node.online = false;
  assert.is(ping(), 'Online');
  scheduler.advance(6 * 60_000);
  assert.is(ping(), 'ConnectionLost');
});

test('a label sits on one version, ten on a version, and keeps the oldest of a hundred versions', () => {
  const { ssm, send } = region();
  for (let version = 1; version <= 3; version += 1) ssm.put('/p', `value ${version}`);
  const label = (version: number, ...Labels: string[]) =>
    send('LabelParameterVersion', {
      Name: '/p',
      ParameterVersion: version,
      Labels,
    });
  label(1, 'stable');
  label(2, 'stable');
  const value = (reference: string) => send('GetParameter', { Name: reference }).Parameter.Value;
  assert.is(value('/p:stable'), 'value 2');
  assert.is(value('/p:1'), 'value 1');
  assert.is(
    codeOf(() => value('/p:none')),
    'ParameterVersionNotFound',
  );
  assert.equal(label(2, 'aws-x', '1x').InvalidLabels, ['aws-x', '1x']);
  const many = Array.from({ length: 10 }, (_, at) => `label-${at}`);
  assert.is(
    codeOf(() => label(2, ...many)),
    'ParameterVersionLabelLimitExceeded',
  );
  label(1, 'oldest');
  for (let version = 4; version <= 100; version += 1) ssm.put('/p', `value ${version}`);
  assert.is(
    codeOf(() => ssm.put('/p', 'value 101')),
    'ParameterMaxVersionLimitExceeded',
  );
  label(100, 'oldest');
  assert.is(ssm.put('/p', 'value 101'), 101);
  assert.is(
    codeOf(() => value('/p:1')),
    'ParameterVersionNotFound',
  );
});

test('values have the size of their tier, an image is validated after PutParameter has returned', () => {
  const { scheduler, send, ssm } = region();
  const put = (Name: string, Value: string, more: object = {}) =>
    send('PutParameter', {
      Name,
      Value,
      Type: 'String',
      Overwrite: true,
      ...more,
    });
  assert.is(
    codeOf(() => put('/p', 'x'.repeat(4_097))),
    'ValidationException',
  );
  assert.is(put('/p', 'x'.repeat(4_097), { Tier: 'Intelligent-Tiering' }).Tier, 'Advanced');
  assert.is(
    codeOf(() => put('/p', 'x'.repeat(8_193))),
    'ValidationException',
  );
  const image = { DataType: 'aws:ec2:image' };
  assert.is(put('/image', 'ami-0123456789abcdef0', image).Version, 1);
  assert.is(
    codeOf(() => send('GetParameter', { Name: '/image' })),
    'ParameterNotFound',
  );
  scheduler.advance(5_000);
  assert.is(put('/image', 'ami-0fffffffffffffff0', image).Version, 2);
  scheduler.advance(5_000);
  assert.is(ssm.parameters.get('/image')?.at(-1)?.version, 1);
  assert.is(put('/image', 'ami-0123456789abcdef0', image).Version, 3);
});

test('too many calls are throttled, each action by its own bucket', () => {
  const scheduler = virtualScheduler();
  const ssm = createSsm({
    scheduler,
    calls: [],
    denied: new Set(),
    arnPrefix: '',
    accountId: '',
    tagsOf: () => undefined,
    imageExists: () => false,
    isInAlarm: () => false,
  });
  const put = () => codeOf(() => ssm.send('PutParameter', { Name: '/p', Value: 'x', Overwrite: true }));
  const codes = Array.from({ length: 8 }, put);
  assert.equal(codes.slice(5), ['none', 'ThrottlingException', 'ThrottlingException']);
  scheduler.advance(1_000);
  assert.is(put(), 'none');
});

test.run();
