// Faults at system calls of the shipped executable, and of its child programs: strace(1) makes one call fail, or ends the caller
// instead of the call. The calls of an operation are read from a run without a fault.

/** Folder of an instance for the wrappers of its programs. */
const HOME = '/run/faults';
const TRACE = `${HOME}/trace`;
const BIN = `${HOME}/bin`;
const PATH = '/run/model/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** One fault, which is also its text: `main rename#2 ENOSPC`, `main openat@/run/eniboot/node.json#1 EIO`, `nft#1 start#1 HANG`. */
export interface Fault {
  /**
   * `main`: the executable's first thread, which makes nearly all calls. `any`: every thread and every child, each with a count of
   * its own; HTTP has a thread of its own. Otherwise one start of a program: `nft#2` is the second nft.
   */
  who: string;
  /** The system call. `start` is the start of a program, before its first action. */
  call: string;
  /** Only calls that name this path count. For `main` only. */
  path?: string | undefined;
  /** The number of the call among these calls. */
  nth: number;
  /** Name of an error. KILL: SIGKILL instead of the call. HANG: the program hangs for ever. */
  what: string;
}

export function textOf({ who, call, path, nth, what }: Fault): string {
  return `${who} ${call}${path === undefined ? '' : `@${path}`}#${nth} ${what}`;
}

export function parseFault(text: string): Fault {
  const [, who = '', call = '', path, nth, what = ''] =
    /^(\S+) (\w+)(?:@(\S+))?#(\d+) ([A-Z0-9]+)$/.exec(text) ?? [];
  if (who === '') throw new Error(`not a fault: ${text}`);
  return { who, call, path, nth: Number(nth), what };
}

const FILES = ['EIO', 'EACCES', 'ENOMEM', 'ELOOP'];
const CHANGES = ['EIO', 'ENOSPC', 'EROFS', 'EACCES', 'ENOMEM'];
const DESCRIPTORS = ['EMFILE', 'ENFILE', 'ENOMEM'];
/**
 * The errors of each call, by its manual page (section 2, ERRORS) and netlink(7). Calls that only the runtime's event loop makes
 * are left out, and so is close(2): fsync(2) has reported a write's error before.
 */
const errors: Record<string, readonly string[]> = {
  openat: [...FILES, 'EMFILE', 'ENFILE'],
  read: ['EIO', 'ENOMEM'],
  pread64: ['EIO', 'ENOMEM'],
  getdents64: ['EIO', 'ENOMEM'],
  statx: FILES,
  newfstatat: FILES,
  access: ['EIO', 'EACCES', 'ENOMEM', 'ELOOP'],
  faccessat2: ['EIO', 'EACCES', 'ENOMEM', 'ELOOP'],
  readlink: ['EIO', 'EACCES', 'ENOMEM'],
  readlinkat: ['EIO', 'EACCES', 'ENOMEM'],
  rename: CHANGES,
  renameat2: CHANGES,
  link: CHANGES,
  linkat: CHANGES,
  symlink: CHANGES,
  symlinkat: CHANGES,
  unlink: CHANGES,
  unlinkat: CHANGES,
  rmdir: CHANGES,
  mkdir: CHANGES,
  mkdirat: CHANGES,
  fchmod: ['EIO', 'EROFS', 'EPERM'],
  chmod: ['EIO', 'EROFS', 'EPERM'],
  write: ['EIO', 'ENOSPC'],
  pwrite64: ['EIO', 'ENOSPC'],
  fsync: ['EIO', 'ENOSPC'],
  fdatasync: ['EIO', 'ENOSPC'],
  ftruncate: ['EIO', 'EROFS'],
  socket: [...DESCRIPTORS, 'ENOBUFS'],
  socketpair: DESCRIPTORS,
  pipe2: DESCRIPTORS,
  memfd_create: DESCRIPTORS,
  setsockopt: ['ENOMEM', 'ENOBUFS'],
  bind: ['ENOMEM'],
  connect: ['ETIMEDOUT', 'ENETUNREACH', 'ECONNREFUSED', 'EADDRNOTAVAIL', 'ENOMEM'],
  sendto: ['ENOBUFS', 'ENOMEM', 'EINTR'],
  sendmsg: ['ENOBUFS', 'ENOMEM', 'EINTR'],
  recvfrom: ['ENOBUFS', 'ENOMEM', 'EINTR'],
  recvmsg: ['ENOBUFS', 'ENOMEM', 'EINTR'],
  setns: ['EPERM', 'ENOMEM'],
  vfork: ['EAGAIN', 'ENOMEM'],
  clone: ['EAGAIN', 'ENOMEM'],
  flock: ['EINTR', 'ENOLCK'],
};
/** Errors of reading from and writing to a connection. */
const OF_CONNECTIONS = ['ECONNRESET', 'ETIMEDOUT', 'ENOBUFS'];

/** Files of the runtime, of the loader and of the kernel's bookkeeping, and pipes between parent and child: not eniboot's own. */
const NOT_OURS =
  /\/proc\/(?:self|\d+)\/(?:maps|statm|cgroup|exe|stat|fd)|\/sys\/devices\/system|\/sys\/fs\/cgroup|\/sys\/kernel\/mm|\/etc\/localtime|\/proc\/sys\/vm|\/proc\/meminfo|\/etc\/ld\.so|\.so[.\d]*[">]|locale|gconv|<UNIX|<pipe:|<anon_inode|nsswitch/;
/** From this call on the runtime has started, and the program's own code runs. */
const RUNTIME_IS_UP = 'readlink("/proc/self/exe"';

/** Where a fault can strike: the caller, the call and its number, and the errors that it may fail with. */
export type Point = Pick<Fault, 'who' | 'call' | 'nth'> & { errors: readonly string[] };

/**
 * The points of a run without a fault.
 *
 * @param text the output of `strace -f`, or of strace without -f when `who` is a program.
 */
export function pointsOf(text: string, who: string): Point[] {
  const points: Point[] = [];
  const threads = new Set<string>();
  const counts = new Map<string, number>();
  let first: string | undefined;
  let up = who !== 'main';
  for (const line of text.split('\n')) {
    // A process that starts another program: that start is counted for the other program.
    if (who !== 'main' && line.includes(`execve("${BIN}/`)) break;
    const [, thread = '', call = '', rest = ''] = /^(?:(\d+) +)?(\w+)\((.*)$/.exec(line) ?? [];
    const [, made] = /clone3.*CLONE_THREAD.* = (\d+)$|clone3 resumed.* = (\d+)$/.exec(line) ?? [];
    if (made !== undefined) threads.add(made);
    if (call === '') continue;
    first ??= thread;
    if (line.includes(RUNTIME_IS_UP)) up = true;
    const key = `${thread} ${call}`;
    const nth = (counts.get(key) ?? 0) + 1;
    counts.set(key, nth);
    const possible = errorsOf(call, rest);
    if (!up || possible.length === 0) continue;
    if (thread === first) points.push({ who, call, nth, errors: possible });
    else if (threads.has(thread) && /<(?:TCP|UDP)|^AF_INET/.test(rest))
      points.push({ who: 'any', call, nth, errors: possible });
  }
  return points;
}

export function pointsOfPrograms(text: string): Point[] {
  return text
    .split(/^== /m)
    .slice(1)
    .flatMap((part): Point[] => {
      const who = part.split('\n')[0] ?? '';
      return [{ who, call: 'start', nth: 1, errors: [] }, ...pointsOf(part, who)];
    });
}

function errorsOf(call: string, rest: string): readonly string[] {
  const known = errors[call] ?? [];
  // The answer on stdout. A closed reader (EPIPE) is no failure, as for any program in a pipe.
  if (call === 'write' && /^[12]</.test(rest)) return ['EIO', 'ENOSPC'];
  if (NOT_OURS.test(rest)) return [];
  if (/^(?:send|recv)/.test(call) && /^\d+<(?:TCP|UDP)/.test(rest)) return OF_CONNECTIONS;
  if (call === 'openat' && rest.includes('O_CREAT')) return [...known, 'ENOSPC', 'EROFS'];
  // mkdir of an existing folder: the kernel finds it first, so a full or read-only disk is no error here.
  if (call.startsWith('mkdir') && rest.includes('EEXIST')) return ['ENOMEM', 'EACCES'];
  return known;
}

/** The command prefix and environment with which a fault strikes a command. */
export interface Started {
  by: string[];
  env: Record<string, string>;
}

export function traced(): Started {
  return { by: ['strace', '-f', '-q', '-yy', '-o', TRACE], env: { PATH } };
}

export function untouched(): Started {
  return { by: [], env: { PATH } };
}

/** With traced programs, or with one of them struck as `plan` tells. */
export function throughPrograms(): Started {
  // Programs that the test itself starts do not use the wrappers.
  return { by: ['/usr/bin/env', `PATH=${BIN}:${PATH}`], env: { PATH } };
}

export function struckBy(fault: Fault): Started {
  if (isOfProgram(fault)) return throughPrograms();
  const { who, call, path } = fault;
  return {
    by: [
      'strace',
      ...(who === 'any' ? ['-f'] : []),
      ...(path === undefined ? [] : ['-P', path]),
      '-q',
      '-yy',
      '-o',
      TRACE,
      '-e',
      `trace=${call}`,
      '-e',
      injection(fault),
    ],
    env: { PATH },
  };
}

function isOfProgram({ who }: Fault): boolean {
  return who !== 'main' && who !== 'any';
}

function injection({ call, nth, what }: Fault): string {
  return `inject=${call}:${what === 'KILL' ? 'signal=KILL' : `error=${what}`}:when=${nth}`;
}

/** Removes the traces of the run before; `fault` strikes a program of the next run. */
export function prepare(fault: Fault | undefined): string {
  const plan =
    fault === undefined || !isOfProgram(fault)
      ? ''
      : `${fault.who} ${fault.call === 'start' ? fault.what : `${fault.call} ${injection(fault)}`}`;
  return `rm -rf ${HOME}/starts ${TRACE}; mkdir ${HOME}/starts; echo '${plan}' > ${HOME}/plan`;
}

/** Makes the next run trace its programs. */
export const RECORD = `rm -rf ${HOME}/starts ${TRACE}; mkdir ${HOME}/starts; echo record > ${HOME}/plan`;

/** Prints each traced program as `== nft#2` and its trace, for pointsOfPrograms(). */
export const RECORDED = `cd ${HOME}/starts && for one in *.*; do [ ! -s "$one" ] || { echo "== \${one%.*}#\${one##*.}"; cat "$one"; }; done`;

export const READ_TRACE = `cat ${TRACE} 2>/dev/null || :`;

/** The line of the struck call; undefined when the run did not reach it. */
export function struckLine(trace: string): string | undefined {
  return trace
    .split('\n')
    .find((line) => line.includes('(INJECTED)') || line.endsWith(' = ?') || line.startsWith('struck '));
}

/** Programs that the product starts; those that this machine does not have stay missing. */
const PROGRAMS = ['ip', 'nft', 'tc', 'sh', 'cat', 'nsenter', 'flock', 'arping', 'crictl', 'tar', 'sync'];

const wrapper = `#!/bin/sh
n=1
until (set -C; : > "${HOME}/starts/NAME.$n") 2>/dev/null; do n=$((n + 1)); done
read -r who what inject < ${HOME}/plan
[ "$who" != record ] || exec strace -q -yy -o "${HOME}/starts/NAME.$n" REAL "$@"
[ "$who" = "NAME#$n" ] || exec REAL "$@"
case $what in
HANG) echo "struck NAME: hangs" > ${TRACE}; exec sleep 1000 ;;
KILL) echo "struck NAME: killed" > ${TRACE}; kill -KILL $$ ;;
*) exec strace -q -yy -o ${TRACE} -e "trace=$what" -e "$inject" REAL "$@" ;;
esac
`;
/** Puts a wrapper for each program before the real one in PATH: it counts the starts and follows the plan. */
export const wrap = `mkdir -p ${BIN}
cat > ${HOME}/wrapper <<'EOF'
${wrapper}EOF
PATH=${PATH}
for name in ${PROGRAMS.join(' ')}; do
  real=$(command -v "$name") || continue
  sed "s|NAME|$name|g; s|REAL|$real|g" ${HOME}/wrapper > ${BIN}/$name
  chmod +x ${BIN}/$name
done`;
