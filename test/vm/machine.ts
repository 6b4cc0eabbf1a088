// One QEMU machine in the current network namespace: a PCIe PC with a disk, a serial console, NICs on taps that come and go as
// ENIs do, and a command channel that needs no network.
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Arm64Tools } from './image/arm64-tools.ts';
import { connectLines } from './lines.ts';
import { connectQmp } from './qmp.ts';

/** The firmware tables of EC2, which cloud-init reads before it asks IMDS. */
export interface Firmware {
  instanceId: string;
  instanceType: string;
}

export interface Nic {
  /** Name of the device inside QEMU, such as `eni0123`. */
  id: string;
  /** Name of a tap in this network namespace. */
  tap: string;
  mac: string;
  /** Announced to the guest, as ENA does: 9001 in a VPC. */
  mtu: number;
}

export interface MachineOptions {
  /** Empty folder for sockets and the console log of this power-on. */
  work: string;
  /** Path of a qcow2 image, which the machine writes to. */
  disk: string;
  kernel: string;
  initrd: string;
  firmware: Firmware;
  /** Present at power-on, in PCI order. */
  nics: Nic[];
  /** Added to the kernel's command line. */
  kernelArguments?: string[];
  accelerator: Accelerator;
  /** For an arm64 machine; without it the machine is x86-64. */
  arm64?: Arm64Tools;
  memoryMiB?: number;
  /** Name of a snapshot on the disk to go on from, instead of a boot. */
  from?: string;
}

export type Accelerator = 'kvm' | 'tcg';

export interface GuestResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export interface Machine {
  /** Runs a shell script as root in the guest; one at a time, in order. Default time-out 60 s. */
  run(script: string, timeoutMs?: number): Promise<GuestResult>;
  /** Resolves with the boot ID when the guest's command channel answers in the present boot. */
  ready(timeoutMs: number): Promise<string>;
  /** Reboots the guest as an operator would; resolves with its new boot ID. */
  reboot(timeoutMs: number): Promise<string>;
  plug(nic: Nic): Promise<void>;
  unplug(id: string): Promise<void>;
  /** All that the serial console printed since power-on. */
  console(): string;
  /** Resolves when the console has printed a match after position `from`; an error has its last lines. */
  consoleShows(pattern: RegExp, timeoutMs: number, from?: number): Promise<string>;
  /** Host milliseconds since power-on. */
  elapsedMs(): number;
  /** Saves memory and disk in a copy of the disk, under a name in it; the machine goes on. */
  snapshot(name: string, copy: string): Promise<void>;
  /** Presses the power button, as EC2 does to stop an instance, and waits until the guest has powered off. */
  powerOff(timeoutMs: number): Promise<void>;
  /** Ends QEMU at once. */
  kill(): Promise<void>;
}

/** ENIs that can be attached beside the boot ENI, one PCIe slot each: as for an instance type with eight ENIs. */
const slots = 7;
const usualMemoryMiB = 1024;

export async function startMachine(options: MachineOptions): Promise<Machine> {
  const paths = {
    console: join(options.work, 'console.log'),
    qmp: join(options.work, 'qmp'),
    control: join(options.work, 'control'),
  };
  // The first NIC is on the bus itself.
  const used = new Map(options.nics.slice(1).map((nic, index) => [nic.id, index]));
  const qemu = spawn(options.arm64?.system ?? 'qemu-system-x86_64', commandLine(options, paths), {
    stdio: ['ignore', 'ignore', openSync(join(options.work, 'qemu.log'), 'w')],
  });
  const gone = new Promise<void>((resolve) => qemu.once('exit', () => resolve()));
  const lost = gone.then(() => {
    throw new Error(`QEMU ended: ${readFileSync(join(options.work, 'qemu.log'), 'utf8').trim()}`);
  });
  // A later race awaits this promise; a machine that ends afterwards, as it should, is no error.
  lost.catch(() => undefined);
  qemu.once('error', () => undefined);

  const ended = () => qemu.exitCode !== null || qemu.signalCode !== null;

  const qmp = await Promise.race([connectQmp(paths.qmp), lost]);
  const guest = await Promise.race([openChannel(paths.control), lost]);
  await qmp.command('cont');
  const poweredOnAt = performance.now();

  return {
    run: (script, timeoutMs = 60_000) => Promise.race([guest.run(script, timeoutMs), lost]),
    ready: (timeoutMs) => Promise.race([guest.ready(timeoutMs), lost]),
    plug: async (nic) => {
      const taken = new Set(used.values());
      const slot = Array.from({ length: slots }, (_, index) => index).find((index) => !taken.has(index));
      if (slot === undefined) throw new Error(`no PCIe slot is free for ${nic.id}`);
      used.set(nic.id, slot);
      await qmp.command('netdev_add', netdev(nic));
      await qmp.command('device_add', { driver: 'virtio-net-pci', ...nicDevice(nic), bus: `slot${slot}` });
    },
    unplug: async (id) => {
      // PCIe asks the guest, which answers after five seconds of blinking.
      const left = qmp.event('DEVICE_DELETED', (data) => data['device'] === id, 30_000);
      await qmp.command('device_del', { id });
      await left;
      await qmp.command('netdev_del', { id: `net-${id}` });
      used.delete(id);
    },
    console: () => readFileSync(paths.console, 'utf8'),
    consoleShows: async (pattern, timeoutMs, from = 0) => {
      const giveUpAt = performance.now() + timeoutMs;
      for (;;) {
        const text = readFileSync(paths.console, 'utf8').slice(from);
        const match = pattern.exec(text);
        if (match !== null) return match[0];
        if (performance.now() > giveUpAt || ended()) {
          const tail = text.split('\n').slice(-25).join('\n');
          throw new Error(
            `the console does not show ${pattern} after ${timeoutMs / 1000} s; it ends:\n${tail}`,
          );
        }
        await delay(100);
      }
    },
    elapsedMs: () => performance.now() - poweredOnAt,
    snapshot: async (name, copy) => {
      await qmp.command('stop');
      await qmp.monitor(`savevm ${name}`);
      copyFileSync(options.disk, copy);
      await qmp.command('cont');
    },
    reboot: async (timeoutMs) => {
      const previous = await guest.ready(timeoutMs);
      guest.post('systemctl reboot --no-block');
      return Promise.race([guest.rebooted(previous, timeoutMs), lost]);
    },
    powerOff: async (timeoutMs) => {
      await qmp.command('system_powerdown');
      await withTimeout(gone, timeoutMs, 'the guest did not power off');
    },
    kill: async () => {
      qmp.close();
      guest.close();
      end(qemu);
      await gone;
    },
  };
}

/**
 * Whether KVM runs this kernel here. A kernel that prints its version is past the point where a broken /dev/kvm hangs or aborts.
 * Takes at most `patienceMs`.
 */
export async function probeAccelerator(kernel: string, patienceMs = 5_000): Promise<Accelerator> {
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      ...['-accel', 'kvm', '-cpu', 'host', '-machine', 'q35', '-m', '256', '-nodefaults', '-display', 'none'],
      ...['-kernel', kernel, '-append', 'console=ttyS0 panic=-1', '-serial', 'stdio', '-no-reboot'],
    ],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  const spoke = new Promise<boolean>((resolve) => {
    let text = '';
    qemu.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (text.includes('Linux version')) resolve(true);
    });
    qemu.once('error', () => resolve(false));
    qemu.once('exit', () => resolve(false));
  });
  const works = await Promise.race([spoke, delay(patienceMs, false, { ref: false })]);
  end(qemu);
  return works ? 'kvm' : 'tcg';
}

function commandLine(
  options: MachineOptions,
  paths: { console: string; qmp: string; control: string },
): string[] {
  const { firmware } = options;
  // EC2's UUIDs are of version 4 and begin with ec2; cloud-init accepts no others for EC2.
  const uuid = `ec2${firmware.instanceId
    .replace(/\W|[g-z]/g, '')
    .padEnd(29, '0')
    .slice(0, 29)}`.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  const kernelArguments = [
    `root=/dev/vda rw console=${options.arm64 === undefined ? 'ttyS0' : 'ttyAMA0'} quiet panic=-1`,
    // Tests read the console's log: no colours, and every unit in it.
    'systemd.show_status=true systemd.log_color=0 mitigations=off',
    ...(options.kernelArguments ?? []),
  ];
  return [
    ...['-name', 'eniboot-e2e', '-m', String(options.memoryMiB ?? usualMemoryMiB), '-smp', '2'],
    ...hardware(options),
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-S'],
    ...['-kernel', options.kernel, '-initrd', options.initrd, '-append', kernelArguments.join(' ')],
    ...['-smbios', 'type=0,vendor=Amazon EC2'],
    ...[
      '-smbios',
      `type=1,manufacturer=Amazon EC2,product=${firmware.instanceType},uuid=${uuid},serial=${uuid}`,
    ],
    ...['-smbios', `type=2,manufacturer=Amazon EC2,asset=${firmware.instanceId}`],
    ...['-chardev', `file,id=console,path=${paths.console}`, '-serial', 'chardev:console'],
    ...['-qmp', `unix:${paths.qmp},server=on,wait=off`],
    ...['-drive', `if=none,id=disk,file=${options.disk},format=qcow2,cache=unsafe,discard=unmap`],
    ...['-device', 'virtio-blk-pci,drive=disk,addr=0x2'],
    ...['-device', 'virtio-serial-pci,addr=0x3'],
    ...['-chardev', `socket,id=control,path=${paths.control},server=on,wait=off`],
    ...['-device', 'virtserialport,chardev=control,name=e2e.control'],
    ...['-device', 'virtio-rng-pci,addr=0x4'],
    ...options.nics.slice(0, 1).flatMap((nic) => nicArguments(nic, 'pcie.0,addr=0x5')),
    ...Array.from({ length: slots }, (_, slot) => [
      '-device',
      `pcie-root-port,id=slot${slot},chassis=${slot + 1},slot=${slot + 1},addr=${(0x10 + slot).toString(16)}`,
    ]).flat(),
    ...options.nics.slice(1).flatMap((nic, slot) => nicArguments(nic, `slot${slot}`)),
    ...(options.from === undefined ? [] : ['-loadvm', options.from]),
  ];
}

function hardware({ accelerator, arm64 }: MachineOptions): string[] {
  if (arm64 !== undefined)
    return [
      ...['-machine', 'virt,gic-version=3', '-cpu', 'cortex-a72', '-bios', arm64.firmware],
      ...['-accel', 'tcg,thread=multi,tb-size=512'],
    ];
  return [
    ...['-machine', 'q35'],
    ...(accelerator === 'kvm'
      ? ['-accel', 'kvm', '-cpu', 'host']
      : // Kernel 6.12 crashes under emulation with cmpxchg16b.
        ['-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max,cx16=off']),
  ];
}

function netdev(nic: Nic): Record<string, unknown> {
  return { type: 'tap', id: `net-${nic.id}`, ifname: nic.tap, script: 'no', downscript: 'no' };
}

function nicDevice(nic: Nic): Record<string, unknown> {
  return { id: nic.id, netdev: `net-${nic.id}`, mac: nic.mac, host_mtu: nic.mtu, romfile: '' };
}

function nicArguments(nic: Nic, bus: string): string[] {
  const text = (object: Record<string, unknown>) =>
    Object.entries(object)
      .map(([key, value]) => `${key}=${value}`)
      .join(',');
  return [
    ...['-netdev', text(netdev(nic)).replace('type=', '')],
    ...['-device', `virtio-net-pci,${text(nicDevice(nic))},bus=${bus}`],
  ];
}

interface Channel {
  run(script: string, timeoutMs: number): Promise<GuestResult>;
  /** Sends a script without waiting for its answer. */
  post(script: string): void;
  ready(timeoutMs: number): Promise<string>;
  rebooted(previousBootId: string, timeoutMs: number): Promise<string>;
  close(): void;
}

async function openChannel(path: string): Promise<Channel> {
  const answers = new Map<string, (result: GuestResult) => void>();
  let bootId: string | undefined;
  let lastId = 0;
  const listeners = new Set<() => void>();
  const socket = await connectLines(path, (line) => {
    const [id = '', code = '', out = '-', err = '-'] = line.split(' ');
    if (id === 'ready') {
      bootId = code;
      for (const listener of listeners) listener();
      return;
    }
    answers.get(id)?.({ exitCode: Number(code), stdout: decode(out), stderr: decode(err) });
    answers.delete(id);
  });

  function send(script: string, seconds: number): string {
    lastId += 1;
    socket.write(`${lastId} ${seconds} ${Buffer.from(script).toString('base64')}\n`);
    return String(lastId);
  }

  function boot(accept: (id: string) => boolean, timeoutMs: number): Promise<string> {
    const seen = new Promise<string>((resolve) => {
      const listener = () => {
        if (bootId === undefined || !accept(bootId)) return;
        listeners.delete(listener);
        resolve(bootId);
      };
      listeners.add(listener);
      listener();
    });
    return withTimeout(seen, timeoutMs, 'the guest did not come up');
  }

  return {
    run: (script, timeoutMs) => {
      const seconds = Math.ceil(timeoutMs / 1000);
      const answer = new Promise<GuestResult>((resolve) => {
        answers.set(send(script, seconds), resolve);
      });
      return withTimeout(answer, timeoutMs + 10_000, `the guest did not answer to: ${script}`);
    },
    post: (script) => {
      send(script, 10);
    },
    ready: (timeoutMs) => boot(() => true, timeoutMs),
    rebooted: (previous, timeoutMs) => boot((id) => id !== previous, timeoutMs),
    close: () => socket.destroy(),
  };
}

function decode(field: string): string {
  return field === '-' ? '' : Buffer.from(field, 'base64').toString('utf8');
}

function withTimeout<T>(promise: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${what} within ${timeoutMs / 1000} s`)), timeoutMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

function end(child: ChildProcess): void {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
}
