import { configMarker } from '../../config/source.ts';
import { systemClock } from '../../port/clock.ts';
import { INTERRUPTED, interruption } from '../../port/runtime.ts';
import { formed } from '../arguments.ts';
import type { CommandIo } from '../command.ts';
import { readInputFile } from '../named-files.ts';
import { connect, imageOf, parsed, usage } from './arguments.ts';

/** EC2's user data limit is 16 KiB. */
const MOST_USER_DATA = 16 * 1024;

export async function testBoot(args: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parsed('boot-test', args, 1);
  const imageId = imageOf('boot-test', positionals);
  const podSubnet = subnetOf('--pod-subnet', values['pod-subnet']);
  const file = values['user-data'];
  if ((podSubnet === undefined) === (file === undefined))
    throw usage('boot-test: --pod-subnet or --user-data');
  const userData =
    file === undefined
      ? `${configMarker}\ncluster: boot-test\npods: { subnets: { ids: [${podSubnet}] } }\n`
      : readInputFile(file, MOST_USER_DATA);
  const timeout = Number(values.timeout ?? 600);
  if (!Number.isInteger(timeout) || timeout < 60 || timeout > 3600)
    throw usage(`boot-test: --timeout ${values.timeout} is not a number from 60 to 3600`);
  const subnetId = subnetOf('--subnet', values.subnet);
  if (subnetId === undefined) throw usage('boot-test: --subnet is missing');
  const securityGroupId = formed(
    'image boot-test',
    '--security-group',
    values['security-group'],
    /^sg-[0-9a-f]{8,17}$/,
    'the ID of a security group',
  );
  const instanceType = formed(
    'image boot-test',
    '--instance-type',
    values['instance-type'],
    /^[\w-]+\.[\w-]+$/,
    'an instance type, such as m6i.large',
  );
  const profile = formed(
    'image boot-test',
    '--profile',
    values.profile,
    /^[\w+=,.@-]{1,128}$/,
    'the name of an instance profile',
  );
  const { bootTest } = await import('../../image/boot-test.ts');
  const aws = await connect(values.region, 'work', io);
  const stopped = interruption();
  const result = await bootTest(aws, systemClock, {
    imageId,
    instanceType,
    subnetId,
    securityGroupId,
    profile,
    userData,
    timeoutMs: timeout * 1000,
    stopped,
    tell: (line) => io.stderr(`${line}\n`),
  });
  if (stopped.aborted) return INTERRUPTED;
  io.stdout(
    values.json === true
      ? `${JSON.stringify(result)}\n`
      : `${imageId} passed: READY with ${result.version} in ${result.seconds} s on ${result.instanceType}\n`,
  );
  return 0;
}

function subnetOf(option: string, value: string | undefined): string | undefined {
  return formed('image boot-test', option, value, /^subnet-[0-9a-f]{8,17}$/, 'the ID of a subnet');
}
