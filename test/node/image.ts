// The container image of the tests, made without a registry: one layer that holds one static program. Its default
// command is a pause container's.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, linkSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What kubelet, containerd and cri-o know it by. */
export const IMAGE = 'localhost/e2e:1';

/** Writes it below `work` in Docker's archive format, which both runtimes' tools import. @returns the archive. */
export function makeImage(work: string, program: string): string {
  const folder = join(work, 'image');
  mkdirSync(join(folder, 'root'), { recursive: true });
  copyFileSync(program, join(folder, 'root', 'pod'));
  // cri-o starts a pause container by this name, whatever its image says.
  linkSync(join(folder, 'root', 'pod'), join(folder, 'root', 'pause'));
  // The same bytes give the same image, whenever and by whomever it is made.
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
  tar('layer.tar', ['pause', 'pod'], join(folder, 'root'));
  const sum = createHash('sha256')
    .update(readFileSync(join(folder, 'layer.tar')))
    .digest('hex');
  const files = {
    'config.json': {
      architecture: 'amd64',
      os: 'linux',
      config: { Entrypoint: ['/pod'] },
      rootfs: { type: 'layers', diff_ids: [`sha256:${sum}`] },
    },
    'manifest.json': [{ Config: 'config.json', RepoTags: [IMAGE], Layers: ['layer.tar'] }],
  };
  for (const [name, content] of Object.entries(files))
    writeFileSync(join(folder, name), JSON.stringify(content));
  tar('e2e.tar', ['manifest.json', 'config.json', 'layer.tar']);
  return join(folder, 'e2e.tar');
}
