import { writeFileSync } from 'node:fs';
import { configMarker } from '../config/source.ts';
import { Failure } from '../messages/failure.ts';
import { systemClock } from '../port/clock.ts';
import { statIfPresent } from '../port/fs.ts';
import { INTERRUPTED, interruption, requireRoot } from '../port/runtime.ts';
import { formed, parse, parseVerb, verbOf } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';
import { readInputFile, requireWritable } from './named-files.ts';
import type { Errand } from './operator.ts';
import { table } from './table.ts';

const help = `Usage: eniboot image check [--booted] [--root FOLDER] [--expect PACKAGE=VERSION]...
                           [--allow PATH]... [--report FILE] [--json]
       eniboot image boot-test AMI --subnet ID (--pod-subnet ID | --user-data FILE) [options]
       eniboot image publish AMI --zone ID...       as candidate of these zones
       eniboot image promote AMI --zone ID...       the candidate becomes what they launch
       eniboot image rollback --arch ARCH --zone ID...   they launch again what they launched before
       eniboot image list                           images, boot tests, and who launches which
       eniboot image base --fedora N --lock FILE [--no-copy]   Fedora's newest images, copied, for the next build
       eniboot image deprecate AMI --at DATE        no zone may launch it, or go back to it

check      whether this machine is fit to become an AMI, or an instance of one is what it should be: kernel modules, unit
           graph, SELinux, swap, listening ports, sysctls, capabilities, digests, versions, disk, NetworkManager, what
           a build must not leave behind. Loads the modules and makes a pair of devices for a moment; changes nothing
           else. Needs root.
boot-test  launches the image, waits for the node's own verdict (instance tag, or console), tags the image with it, and
           always terminates the instance, also on Ctrl-C. If SSM reaches the node, the report has its status
           JSON, and check --booted runs there and must not fail.
base       looks up Fedora's newest AMI of a release for x86_64 and arm64 (account 125523088429), makes encrypted
           copies in this account, and writes them to a variables file of packer/. Existing copies are reused. With
           --no-copy it writes Fedora's own IDs, for an account that may not copy them.
publish    a version of /eniboot/image/ARCH/ZONE, of type aws:ec2:image. Refuses an image whose boot test has not passed.
promote    moves the label stable, and previous to what was stable. Launch templates resolve
           resolve:ssm:/eniboot/image/ARCH/ZONE:stable.

  --booted         check: it has booted from the finished image: looks at the boot's verdict, jobs, denials and failed units
  --root FOLDER    check: a mounted image instead of this machine; what only a running one shows is n/a (skip) then
  --expect PACKAGE=VERSION  check: this RPM must have this version; may be given several times
  --allow PATH     check: a file below /etc, /root or /var/lib that no package has and your build adds; * is anything
                   within a name, ** anything below; may be given several times
  --fedora N       base: the release, the one before Fedora's newest
  --lock FILE      base: the variables file that names both copies; written when both can be launched, else unchanged
  --no-copy        base: the variables file names Fedora's own images
  --report FILE    check: writes what --json prints to FILE, whatever the outcome
  --subnet ID      boot-test: of the boot ENI
  --pod-subnet ID  boot-test: of pod ENIs, in the same zone; the node's configuration is cluster boot-test and this subnet
  --user-data FILE boot-test: the node's configuration instead
  --profile NAME   boot-test: instance profile with the policy of \`eniboot iam-policy node\`
  --security-group ID  boot-test: of the boot ENI; default: the VPC's own
  --instance-type TYPE boot-test: default m6i.large, m6g.large for arm64
  --timeout SECONDS    boot-test: from launch to verdict, 60 to 3600; default 600
  --zone ID        a zone's ID, such as euw1-az1; several are done in the order given
  --arch ARCH      x86_64 or arm64
  --at DATE        2027-01-31, or with time, UTC
  --region REGION  default: AWS_REGION or the profile's
  --json           one object; for check { "fit": true, "checks": [ { "id", "result", "summary", "evidence", "code"? } ] }

The policy for all this: \`eniboot iam-policy image\`. docs/images.md explains each.

Exit codes: 0 fit, or done; 1 not, with a code; 2 wrong usage; ${INTERRUPTED} interrupted, the instance is terminated.
`;

const options = {
  json: { type: 'boolean' },
  region: { type: 'string' },
  zone: { type: 'string', multiple: true },
  arch: { type: 'string' },
  at: { type: 'string' },
  fedora: { type: 'string' },
  lock: { type: 'string' },
  'no-copy': { type: 'boolean' },
  subnet: { type: 'string' },
  'pod-subnet': { type: 'string' },
  'user-data': { type: 'string' },
  profile: { type: 'string' },
  'security-group': { type: 'string' },
  'instance-type': { type: 'string' },
  timeout: { type: 'string' },
} as const;

const actions = { check, 'boot-test': testBoot, publish, promote, rollback, list, deprecate, base };
const verbs = Object.keys(actions) as (keyof typeof actions)[];

/** Which options each verb takes; check has its own. */
const taken = {
  'boot-test': [
    ...(['subnet', 'pod-subnet', 'user-data', 'profile', 'security-group', 'instance-type'] as const),
    ...(['timeout', 'region', 'json'] as const),
  ],
  publish: ['zone', 'region', 'json'],
  promote: ['zone', 'region', 'json'],
  rollback: ['arch', 'zone', 'region', 'json'],
  list: ['region', 'json'],
  deprecate: ['at', 'region', 'json'],
  base: ['fedora', 'lock', 'no-copy', 'region', 'json'],
} as const;

function parsed(verb: keyof typeof taken, args: string[], operands = 0) {
  return parseVerb('image', verb, args, options, taken, operands);
}

export const imageCommand: Command = {
  help,
  async run(args, io) {
    const [verb, ...rest] = args;
    return actions[verbOf('image', verb, verbs)](rest, io);
  },
};

/** EC2's user data limit is 16 KiB. */
const MOST_USER_DATA = 16 * 1024;

async function testBoot(args: string[], io: CommandIo): Promise<number> {
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
  const { bootTest } = await import('../image/boot-test.ts');
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

async function publish(args: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parsed('publish', args, 1);
  const imageId = imageOf('publish', positionals);
  const zones = zonesOf('publish', values.zone);
  const { publishImage } = await import('../image/release-image.ts');
  const aws = await connect(values.region, 'work', io);
  return eachZone(zones, 'candidate', values.json, io, (zone) =>
    publishImage(aws, systemClock, imageId, zone),
  );
}

async function promote(args: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parsed('promote', args, 1);
  const imageId = imageOf('promote', positionals);
  const zones = zonesOf('promote', values.zone);
  const { promoteImage } = await import('../image/release-image.ts');
  const aws = await connect(values.region, 'work', io);
  return eachZone(zones, 'stable', values.json, io, (zone) => promoteImage(aws, imageId, zone));
}

async function rollback(args: string[], io: CommandIo): Promise<number> {
  const { values } = parsed('rollback', args);
  const zones = zonesOf('rollback', values.zone);
  const arch = formed('image rollback', '--arch', values.arch, /^(x86_64|arm64)$/, 'x86_64 or arm64');
  if (arch === undefined) throw usage('rollback: --arch is missing: x86_64 or arm64');
  const { rollBackImage } = await import('../image/release-image.ts');
  const aws = await connect(values.region, 'work', io);
  return eachZone(zones, 'stable', values.json, io, (zone) => rollBackImage(aws, arch, zone));
}

async function list(args: string[], io: CommandIo): Promise<number> {
  const { values } = parsed('list', args);
  const { listImages } = await import('../image/release-image.ts');
  const images = await listImages(await connect(values.region, 'look', io));
  if (values.json === true) io.stdout(`${JSON.stringify({ images })}\n`);
  else if (images.length === 0) io.stdout('there is no image\n');
  else
    io.stdout(
      table([
        ['image', 'arch', 'version', 'state', 'boot test', 'deprecated', 'zones'],
        ...images.map(({ imageId, arch, version, state, bootTest, deprecatedAt, zones }) => [
          imageId,
          arch,
          version === '' ? '–' : version,
          state,
          bootTest ?? '–',
          deprecatedAt?.slice(0, 10) ?? '–',
          zones.map(({ zoneId, labels }) => `${zoneId}: ${labels.join(', ')}`).join('; '),
        ]),
      ]),
    );
  return 0;
}

async function deprecate(args: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parsed('deprecate', args, 1);
  const imageId = imageOf('deprecate', positionals);
  const form = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?Z)?$/;
  const given = formed(
    'image deprecate',
    '--at',
    values.at,
    form,
    'of the form 2027-01-31 or 2027-01-31T12:00Z',
  );
  const at = new Date(given ?? 'missing');
  if (Number.isNaN(at.getTime())) throw usage('deprecate: --at is missing or no date');
  // EC2 refuses it. Source: EC2 API reference, EnableImageDeprecation.
  if (at.getTime() < Date.now()) throw usage('deprecate: --at is in the past; the current day is, too');
  const { deprecateImage } = await import('../image/release-image.ts');
  await deprecateImage(await connect(values.region, 'work', io), imageId, at);
  const date = at.toISOString();
  io.stdout(
    values.json === true
      ? `${JSON.stringify({ imageId, at: date })}\n`
      : `${imageId} is deprecated from ${date}\n`,
  );
  return 0;
}

async function base(args: string[], io: CommandIo): Promise<number> {
  const { values } = parsed('base', args);
  const release = Number(
    formed('image base', '--fedora', values.fedora, /^\d{2,3}$/, 'a release, such as 44'),
  );
  if (Number.isNaN(release))
    throw usage('base: --fedora is missing: the release before the newest, such as 44');
  if (values.lock === undefined)
    throw usage('base: --lock is missing: a file such as packer/base.pkrvars.json');
  requireWritable(values.lock);
  const { refreshBaseImages } = await import('../image/base-image.ts');
  const { imageRegion } = await import('../aws/images-sdk.ts');
  const lock = await refreshBaseImages(
    await connect(values.region, 'work', io),
    systemClock,
    release,
    await imageRegion(values.region),
    values.lock,
    values['no-copy'] !== true,
    (line) => io.stderr(`${line}\n`),
  );
  io.stdout(
    values.json === true
      ? `${JSON.stringify(lock)}\n`
      : Object.entries(lock.base_images)
          .map(([arch, one]) => `${arch}: ${one.id} is ${one.name} of ${one.created.slice(0, 10)}\n`)
          .join(''),
  );
  return 0;
}

/** One zone after the other; a failure leaves those after it alone, and those before it done. */
async function eachZone(
  zones: string[],
  label: string,
  json: boolean | undefined,
  io: CommandIo,
  act: (zone: string) => Promise<{ parameter: string; version: number; imageId: string }>,
): Promise<number> {
  const done: { parameter: string; version: number; imageId: string }[] = [];
  for (const zone of zones) {
    const one = await act(zone);
    done.push(one);
    const line = `${one.parameter}:${one.version} ${one.imageId} is ${label}\n`;
    if (json === true) io.stderr(line);
    else io.stdout(line);
  }
  if (json === true) io.stdout(`${JSON.stringify({ zones: done })}\n`);
  return 0;
}

function imageOf(verb: string, [imageId]: string[]): string {
  if (imageId === undefined) throw usage(`${verb}: the AMI is missing`);
  if (!/^ami-[0-9a-f]{8,17}$/.test(imageId)) throw usage(`${verb}: ${imageId} is not the ID of an AMI`);
  return imageId;
}

function zonesOf(verb: string, zones: string[] | undefined): string[] {
  if (zones === undefined) throw usage(`${verb}: --zone is missing: a zone's ID, such as euw1-az1`);
  const form = /^[a-z0-9]+(-[a-z0-9]+)*-az\d+$/;
  for (const zone of zones) formed(`image ${verb}`, '--zone', zone, form, "a zone's ID, such as euw1-az1");
  return [...new Set(zones)];
}

function subnetOf(option: string, value: string | undefined): string | undefined {
  return formed('image boot-test', option, value, /^subnet-[0-9a-f]{8,17}$/, 'the ID of a subnet');
}

function usage(what: string): Failure {
  return new Failure('USAGE', `eniboot image ${what}`);
}

async function connect(region: string | undefined, errand: Errand, io: CommandIo) {
  const { connectImages } = await import('./operator.ts');
  return connectImages(region, errand, io);
}

async function check(args: string[], io: CommandIo): Promise<number> {
  const { values } = parse('image check', args, {
    booted: { type: 'boolean' },
    root: { type: 'string' },
    expect: { type: 'string', multiple: true },
    allow: { type: 'string', multiple: true },
    report: { type: 'string' },
    json: { type: 'boolean' },
  });
  const expected = new Map((values.expect ?? []).map(expectation));
  const allowed = values.allow ?? [];
  for (const path of allowed)
    formed(
      'image check',
      '--allow',
      path,
      /^\/(etc|root|var\/lib)\/./,
      'a path below /etc, /root or /var/lib',
    );
  const root = folderOf(values.root);
  requireRoot('image check');
  if (values.report !== undefined) requireWritable(values.report);
  const { checkImage } = await import('../image/check.ts');
  const { machineAt } = await import('../image/machine.ts');
  const checks = await checkImage(machineAt(root), {
    booted: values.booted === true,
    ...{ expected, allowed },
  });
  const fit = checks.every((one) => one.result !== 'fail');
  const { checksText } = await import('./checks-text.ts');
  const report = `${JSON.stringify({ fit, checks })}\n`;
  if (values.report !== undefined) writeFileSync(values.report, report);
  io.stdout(values.json === true ? report : checksText(checks, io.isTTY));
  return fit ? 0 : 1;
}

function expectation(text: string): [string, string] {
  const [, name, version] = /^([\w.+-]+)=(\S+)$/.exec(text) ?? [];
  if (name !== undefined && version !== undefined) return [name, version];
  throw new Failure('USAGE', `eniboot image check: --expect ${text} is not PACKAGE=VERSION`);
}

function folderOf(path: string | undefined): string {
  if (path === undefined) return '';
  if (statIfPresent(path)?.isDirectory() !== true)
    throw new Failure('FILE_READ', `eniboot image check: --root ${path} is not a folder`, { path });
  return path;
}
