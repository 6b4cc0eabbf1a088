// Runs a command with this machine's own files and another kernel, in QEMU: for suites that need no machine of their own, only
// a kernel that has ipvlan.
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ensureImage } from './image/image.ts';
import { probeAccelerator } from './machine.ts';
import { must } from './must.ts';

const MEMORY_MIB = 6144;
/** Where Debian 12 and later releases have it. */
const VIRTIOFSD = ['/usr/lib/qemu/virtiofsd', '/usr/libexec/virtiofsd'];

export interface OtherKernel {
  exitCode: number;
  /** Emulation is ten to twenty times slower than this machine. */
  isEmulated: boolean;
}

/**
 * What the command writes below `folder` is there afterwards; all else that it writes is gone. Its output goes to `say`, line by
 * line.
 *
 * @param folder empty, and not below /tmp, which the other machine has for itself
 * @param command for sh
 */
export async function underOtherKernel(
  folder: string,
  command: (isEmulated: boolean) => string,
  say: (line: string) => void,
): Promise<OtherKernel> {
  const image = ensureImage('trixie', say);
  const isEmulated = (await probeAccelerator(image.kernel)) === 'tcg';
  must(['debugfs', '-R', `rdump /usr/lib/modules ${folder}`, image.root]);
  writeFileSync(join(folder, 'command'), command(isEmulated));
  const init = join(folder, 'init');
  copyFileSync(join(import.meta.dirname, 'other-kernel.sh'), init);
  must(['chmod', '755', init]);
  const servers = [serve(join(folder, 'root.sock'), '/'), serve(join(folder, 'results.sock'), folder)];
  try {
    await Promise.all(servers.map(({ socket }) => there(socket)));
    await emulate(folder, image.kernel, isEmulated, say);
    const code = join(folder, 'exit-code');
    return { exitCode: existsSync(code) ? Number(readFileSync(code, 'utf8')) : 1, isEmulated };
  } finally {
    for (const { child } of servers) child.kill();
  }
}

function serve(socket: string, source: string): { socket: string; child: ChildProcess } {
  const program = VIRTIOFSD.find((path) => existsSync(path));
  if (program === undefined) throw new Error('virtiofsd is not installed');
  const child = spawn(
    program,
    [`--socket-path=${socket}`, '-o', `source=${source},cache=auto,sandbox=chroot`],
    {
      stdio: 'ignore',
    },
  );
  return { socket, child };
}

async function there(path: string): Promise<void> {
  for (let left = 100; !existsSync(path); left -= 1) {
    if (left === 0) throw new Error(`virtiofsd has not made ${path}`);
    await delay(100);
  }
}

async function emulate(
  folder: string,
  kernel: string,
  isEmulated: boolean,
  say: (line: string) => void,
): Promise<void> {
  const shared = (name: string, tag: string) => [
    ...['-chardev', `socket,id=${name},path=${join(folder, `${name}.sock`)}`],
    ...['-device', `vhost-user-fs-pci,chardev=${name},tag=${tag}`],
  ];
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      ...['-name', 'eniboot-kernel', '-machine', 'q35', '-smp', '2', '-m', `${MEMORY_MIB}`],
      ...(isEmulated
        ? ['-accel', 'tcg,thread=multi', '-cpu', 'max,cx16=off']
        : ['-accel', 'kvm', '-cpu', 'host']),
      // virtiofsd reads and writes the machine's memory.
      ...[
        '-object',
        `memory-backend-memfd,id=memory,size=${MEMORY_MIB}M,share=on`,
        '-numa',
        'node,memdev=memory',
      ],
      ...[...shared('root', 'root'), ...shared('results', 'results')],
      ...['-kernel', kernel, '-append', `${KERNEL_ARGUMENTS} init=${join(folder, 'init')} -- ${folder}`],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let rest = '';
  qemu.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = `${rest}${text}`.split(/\r?\n/);
    rest = lines.pop() ?? '';
    for (const line of lines) say(line);
  });
  await new Promise((resolve) => qemu.once('close', resolve));
}

const KERNEL_ARGUMENTS = 'console=ttyS0 quiet panic=-1 mitigations=off rootfstype=virtiofs root=root ro';
