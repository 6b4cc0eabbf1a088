// Lays files over the root image without mounting it. They exist before systemd reads its first unit, as in an AMI.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { must } from './must.ts';

export interface LayerEntry {
  /** A file or a folder on this machine; a folder is merged into the guest's folder of that name. */
  from: string;
  /** Absolute path in the guest. */
  to: string;
}

export interface LayerLink {
  path: string;
  target: string;
}

/**
 * Collects files into `staging` as the guest will see them, and enables their units by their presets. Unit files and presets
 * must be part of the layer; units that the image itself enables stay as they are.
 */
export function stage(staging: string, entries: LayerEntry[], links: LayerLink[]): void {
  for (const { from, to } of entries) {
    const target = join(staging, to);
    mkdirSync(dirname(target), { recursive: true });
    cpSync(realpathSync(from), target, { recursive: true, verbatimSymlinks: true });
  }
  for (const { path, target } of links) {
    const link = join(staging, path);
    mkdirSync(dirname(link), { recursive: true });
    must(['ln', '-sfn', target, link]);
  }
  must(['systemctl', `--root=${staging}`, 'preset-all']);
}

/** Copies the image `base` to `image` and lays the staged files over it, owned by root. */
export function layOver(base: string, image: string, staging: string): void {
  must(['cp', '--reflink=auto', '--sparse=always', base, image]);
  const script = `${image}.debugfs`;
  writeFileSync(script, [...commands(staging, '/'), ''].join('\n'));
  // debugfs goes on after an error and exits with 0, so its messages decide. Directories that exist, and old files that do not,
  // are no errors here.
  const result = spawnSync('debugfs', ['-w', '-f', script, image], { encoding: 'utf8', timeout: 120_000 });
  const complaints = `${result.stderr ?? ''}`
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('debugfs 1.'))
    .filter((line) => !/directory already exists|File not found by ext2_lookup/.test(line));
  if (result.status !== 0 || complaints.length > 0) {
    throw new Error(`debugfs could not lay the files over ${image}:\n${complaints.join('\n')}`);
  }
}

/** Names in a folder of an image that no machine uses; empty also when the folder does not exist. */
export function namesOn(image: string, folder: string): string[] {
  const listed = must(['debugfs', '-R', `ls -p ${folder}`, image]);
  // Each line is /INODE/MODE/UID/GID/NAME/SIZE/.
  return [...listed.matchAll(/^(?:\/\d+){4}\/([^/]+)\//gm)]
    .map(([, name = '']) => name)
    .filter((name) => name !== '.' && name !== '..');
}

function commands(staging: string, directory: string): string[] {
  return readdirSync(join(staging, directory))
    .sort()
    .flatMap((name) => {
      const path = join(directory, name);
      const source = join(staging, path);
      const status = lstatSync(source);
      // debugfs makes a folder of the root in the current directory, which is the last file's.
      if (status.isDirectory()) return ['cd "/"', `mkdir "${path}"`, ...commands(staging, path)];
      const clear = [`rm "${path}"`];
      if (status.isSymbolicLink()) return [...clear, `symlink "${path}" "${readlinkSync(source)}"`];
      // `write` makes a name in the current directory, also with slashes in the name.
      return [
        ...clear,
        `cd "${directory}"`,
        `write "${source}" "${name}"`,
        ...['uid', 'gid'].map((field) => `set_inode_field "${path}" ${field} 0`),
      ];
    });
}
