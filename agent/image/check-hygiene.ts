// Files of the build machine that an instance would use as its own, or that tell a reader about that machine.
import { lstatSync } from 'node:fs';
import { type Check, fail, pass, warn } from '../boot/phase.ts';
import { EXPECTED_FILES, type ExpectedFile, isExpected, mayHold } from './expected-files.ts';
import { filesIn, linkOf, type Machine, namesIn, textOf } from './machine.ts';

/** Folders in which a boot keeps its files. */
const FOLDERS = ['/etc', '/root', '/var/lib'];

/** Logs that the machine still writes after the build's last step, which empties them. */
const GROWING_LOGS = /^\/var\/log\/(audit\/|[wb]tmp$|lastlog$)/;

/** Files that are in an image but empty: each instance fills its own at the first boot. */
const EMPTY = /^\/etc\/machine-id$|^\/var\/lib\/lastlog\//;

/** Never allowed, whatever list names them: an instance would use them as its own. */
const NEVER = /^\/etc\/(hostname|ssh\/ssh_host_.*)$|^\/var\/lib\/systemd\/(random-seed|credential\.secret)$/;

/** @param allowed files that the operator's build adds: globs, as in expected-files.ts. */
export async function checkHygiene(machine: Machine, allowed: readonly string[]): Promise<Check> {
  const packaged = await packagedFiles(machine);
  if (packaged === undefined)
    return fail('hygiene', 'IMAGE_UNFIT', 'rpm does not say which files packages have: install rpm');
  const list = [...EXPECTED_FILES, ...allowed.map((path) => ({ path, why: '--allow' }))];
  const strangers = FOLDERS.flatMap((folder) => strangersIn(machine, folder, packaged, list));
  const left = strangers.filter(({ old }) => !old).map(({ path }) => path);
  const old = strangers.filter((one) => one.old).map(({ path }) => path);
  const homes = namesIn(machine, '/home').map((name) => `/home/${name}`);
  const has = (folder: string, form: RegExp) =>
    namesIn(machine, folder)
      .filter((name) => form.test(name))
      .map((name) => `${folder}/${name}`);
  left.push(
    ...homes.flatMap((home) => has(home, /^\.(\w*_history|lesshst|viminfo|gnupg)$/)),
    ...homes.flatMap((home) => has(`${home}/.ssh`, /^(authorized_keys|id_\w+)$/)),
    ...filesIn(machine, '/var/log').filter((path) => !GROWING_LOGS.test(path)),
  );
  const evidence = { left, old: old.slice(0, 200), packagedFiles: packaged.size };
  if (left.length === 0)
    return old.length === 0
      ? pass('hygiene', 'nothing of the machine that built it', evidence)
      : warn(
          'hygiene',
          `nothing of the machine that built it; ${old.length} files of the base image are in no package and no list: ${few(old)}`,
          evidence,
        );
  return fail(
    'hygiene',
    'IMAGE_UNFIT',
    `the image would carry ${few(left)}: no package has it; remove it last of all, or allow it (extra_files)`,
    evidence,
  );
}

const few = (paths: string[]) =>
  `${paths.slice(0, 20).join(', ')}${paths.length > 20 ? ` and ${paths.length - 20} more` : ''}`;

/**
 * Paths whose contents come from packages. Of a %ghost the package only owns the name: its contents are made on the machine.
 * Source: rpm, docs/man/rpm-queryformat.7.scd (fflags: `g` is %ghost).
 */
async function packagedFiles(machine: Machine): Promise<Set<string> | undefined> {
  const { stdout, exitCode } = await machine.run('rpm', [
    ...(machine.root === '' ? [] : [`--root=${machine.root}`]),
    '--query',
    '--all',
    '--queryformat',
    '[%{FILEFLAGS:fflags}\\t%{FILENAMES}\\n]',
  ]);
  if (exitCode !== 0) return undefined;
  const files = new Set<string>();
  for (const line of stdout.split('\n')) {
    const at = line.indexOf('\t');
    if (at !== -1 && !line.slice(0, at).includes('g')) files.add(line.slice(at + 1));
  }
  return files;
}

interface Stranger {
  path: string;
  /** Unchanged since before the machine started: a file of the base image, the same for all users of it. */
  old: boolean;
}

/** Files and links that neither a package nor the list explains. A folder with only such files is reported by its own name. */
function strangersIn(
  machine: Machine,
  folder: string,
  packaged: ReadonlySet<string>,
  list: readonly ExpectedFile[],
): Stranger[] {
  return namesIn(machine, folder).flatMap((name) => {
    const path = `${folder}/${name}`;
    const status = lstatSync(`${machine.root}${path}`);
    if (status.isDirectory()) {
      const found = strangersIn(machine, path, packaged, list);
      const old = found.every((one) => one.old);
      return found.length > 1 && !packaged.has(path) && !mayHold(list, path)
        ? [{ path: `${path}/`, old }]
        : found;
    }
    // A program cannot set the change time: it is right even for a file that was copied with an older date.
    const stranger = [{ path, old: status.ctimeMs < machine.since }];
    const isLink = status.isSymbolicLink();
    // Sockets and pipes are made by running programs.
    if (!isLink && !status.isFile()) return [];
    if (!isLink && EMPTY.test(path)) {
      const text = textOf(machine, path) ?? '';
      return /^(uninitialized)?\s*$/.test(text) ? [] : [{ path, old: false }];
    }
    if (NEVER.test(path)) return [{ path, old: false }];
    return packaged.has(path) || isExpected(list, path, isLink ? linkOf(machine, path) : undefined)
      ? []
      : stranger;
  });
}
