import type { CommandIo } from '../command.ts';
import { table } from '../table.ts';
import { connect, parsed } from './arguments.ts';

export async function list(args: string[], io: CommandIo): Promise<number> {
  const { values } = parsed('list', args);
  const { listImages } = await import('../../image/release-image.ts');
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
