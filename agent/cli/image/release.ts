// The image that a zone launches: publish, promote, rollback, deprecate.
import { systemClock } from '../../port/clock.ts';
import { formed } from '../arguments.ts';
import type { CommandIo } from '../command.ts';
import { connect, imageOf, parsed, usage, zonesOf } from './arguments.ts';

export async function publish(args: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parsed('publish', args, 1);
  const imageId = imageOf('publish', positionals);
  const zones = zonesOf('publish', values.zone);
  const { publishImage } = await import('../../image/release-image.ts');
  const aws = await connect(values.region, 'work', io);
  return eachZone(zones, 'candidate', values.json, io, (zone) =>
    publishImage(aws, systemClock, imageId, zone),
  );
}

export async function promote(args: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parsed('promote', args, 1);
  const imageId = imageOf('promote', positionals);
  const zones = zonesOf('promote', values.zone);
  const { promoteImage } = await import('../../image/release-image.ts');
  const aws = await connect(values.region, 'work', io);
  return eachZone(zones, 'stable', values.json, io, (zone) => promoteImage(aws, imageId, zone));
}

export async function rollback(args: string[], io: CommandIo): Promise<number> {
  const { values } = parsed('rollback', args);
  const zones = zonesOf('rollback', values.zone);
  const arch = formed('image rollback', '--arch', values.arch, /^(x86_64|arm64)$/, 'x86_64 or arm64');
  if (arch === undefined) throw usage('rollback: --arch is missing: x86_64 or arm64');
  const { rollBackImage } = await import('../../image/release-image.ts');
  const aws = await connect(values.region, 'work', io);
  return eachZone(zones, 'stable', values.json, io, (zone) => rollBackImage(aws, arch, zone));
}

export async function deprecate(args: string[], io: CommandIo): Promise<number> {
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
  // EC2 refuses a time in the past. Source: EC2 API reference, EnableImageDeprecation.
  if (at.getTime() < Date.now()) throw usage('deprecate: --at is in the past; the current day is, too');
  const { deprecateImage } = await import('../../image/release-image.ts');
  await deprecateImage(await connect(values.region, 'work', io), imageId, at);
  const date = at.toISOString();
  io.stdout(
    values.json === true
      ? `${JSON.stringify({ imageId, at: date })}\n`
      : `${imageId} is deprecated from ${date}\n`,
  );
  return 0;
}

/** One zone after another. After a failure the zones before it stay done, and the zones after it are not touched. */
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
