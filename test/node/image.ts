// Container images of the tests, made without a registry: one layer, and for each image the program that it runs from
// the layer.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, linkSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Name of the image in kubelet, containerd and cri-o. Its default command is that of a pause container. */
export const IMAGE = 'localhost/e2e:1';

/** Writes an image with one static program below `work`. @returns the archive. */
export function makeImage(work: string, program: string): string {
  const folder = join(work, 'image');
  mkdirSync(join(folder, 'root'), { recursive: true });
  copyFileSync(program, join(folder, 'root', 'pod'));
  // cri-o starts a pause container with this name, whatever its image says.
  linkSync(join(folder, 'root', 'pod'), join(folder, 'root', 'pause'));
  return makeArchive(folder, ['pause', 'pod'], [{ names: [IMAGE], config: { Entrypoint: ['/pod'] } }]);
}

/**
 * Packs the entries of `folder`/root as the one layer of all images, in Docker's archive format, which the tools of
 * both runtimes import.
 *
 * @returns the archive.
 */
export function makeArchive(
  folder: string,
  entries: string[],
  images: { names: string[]; config: object }[],
): string {
  // The same bytes give the same image at any time and for any user.
  const tar = (name: string, files: string[], from = folder) =>
    execFileSync(
      'tar',
      [
        '--sort=name',
        '--mtime=@0',
        '--owner=0',
        '--group=0',
        '--numeric-owner',
        '-cf',
        join(folder, name),
        ...files,
      ],
      { cwd: from },
    );
  tar('layer.tar', entries, join(folder, 'root'));
  const sum = createHash('sha256')
    .update(readFileSync(join(folder, 'layer.tar')))
    .digest('hex');
  const configs = images.map(({ config }, at) => {
    const rootfs = { type: 'layers', diff_ids: [`sha256:${sum}`] };
    writeFileSync(
      join(folder, `config-${at}.json`),
      JSON.stringify({ architecture: 'amd64', os: 'linux', config, rootfs }),
    );
    return `config-${at}.json`;
  });
  const manifest = images.map(({ names }, at) => ({
    Config: configs[at],
    RepoTags: names,
    Layers: ['layer.tar'],
  }));
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(manifest));
  tar('images.tar', ['manifest.json', ...configs, 'layer.tar']);
  return join(folder, 'images.tar');
}
