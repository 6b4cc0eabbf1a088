import { systemClock } from '../../port/clock.ts';
import { formed } from '../arguments.ts';
import type { CommandIo } from '../command.ts';
import { requireWritable } from '../named-files.ts';
import { connect, parsed, usage } from './arguments.ts';

export async function base(args: string[], io: CommandIo): Promise<number> {
  const { values } = parsed('base', args);
  const release = Number(
    formed('image base', '--fedora', values.fedora, /^\d{2,3}$/, 'a release, such as 44'),
  );
  if (Number.isNaN(release))
    throw usage('base: --fedora is missing: the release before the newest, such as 44');
  if (values.lock === undefined)
    throw usage('base: --lock is missing: a file such as packer/base.pkrvars.json');
  requireWritable(values.lock);
  const { refreshBaseImages } = await import('../../image/base-image.ts');
  const { operatorRegion } = await import('../../aws/operator-clients.ts');
  const lock = await refreshBaseImages(
    await connect(values.region, 'work', io),
    systemClock,
    release,
    await operatorRegion(values.region),
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
