// The driver for the VM: a real kernel with ipvlan, the executable as plugin, refill, collect and repair as their units, real
// reboots. Rest times pass in a time namespace, as in native.ts; the units get a drop-in that enters it.
import { startCloud } from '../aws/index.ts';
import { bootPodNode, type PodNode } from '../pods/node.ts';
import type { Bench } from '../vm/bench.ts';
import type { Called, Machine } from './machine.ts';
import { marks } from './model.ts';
import { type Operation, operations } from './operations.ts';
import { type Played, play } from './play.ts';
import { type CallOptions, throughShell } from './shell.ts';

const TIME = '/run/model/time';
const ENTER = `nsenter --no-fork --time=${TIME} --`;
const UNITS = ['refill', 'collect', 'repair'];
const OPERATIONS_PER_REBOOT = 100;

/** Plays the operations of a seed on a machine of its own. Reboots cost minutes under emulation: one in every hundred, at least one. */
export async function playInVm(
  bench: Bench,
  ops: number,
  seed: number,
  onStep?: (done: number, last: string) => void,
): Promise<Played> {
  const cloud = await startCloud();
  const { target, lowWater, surplus } = marks;
  const options = { type: 't3.small', config: { pool: { target, lowWater, surplus } } };
  // eniboot-refill.path would start refill between two operations.
  const node = await bootPodNode(bench, cloud, 'model', options, ['systemd.mask=eniboot-refill.path']);
  try {
    const machine = await vmMachine(bench, node);
    return await play(withReboots(operations(ops, seed)), machine, onStep);
  } finally {
    await node.node.end();
    await cloud.stop();
  }
}

/** Makes every hundredth operation a reboot, and no other. The first boot after the second reboot is killed. */
function withReboots(drawn: Operation[]): Operation[] {
  const every = Math.min(OPERATIONS_PER_REBOOT, drawn.length);
  return drawn
    .filter((operation) => operation.kind !== 'reboot')
    .flatMap((operation, at): Operation[] => {
      if (at % every !== Math.floor(every / 2)) return [operation];
      const second = Math.floor(at / every) === 1;
      return [{ kind: 'reboot', kill: second ? 300 : undefined }, operation];
    });
}

async function vmMachine({ accelerator, patience }: Bench, node: PodNode): Promise<Machine> {
  const { instance, cloud } = node.node;
  // How many milliseconds under emulation a native millisecond takes.
  const slower = accelerator === 'kvm' ? 1 : 8;
  const seconds = (ms: number) => ((ms * slower) / 1000).toFixed(3);
  let offset = 0;
  let serial = 0;
  let batch: { script: string; done: (called: Called | Error) => void }[] = [];

  async function setClock(to: number): Promise<void> {
    offset = to;
    await node.sh(`mkdir -p /run/model; umount -q ${TIME} || :; : >${TIME}
      unshare --time=${TIME} --boottime=${offset} true`);
  }

  /** Calls that are made at one moment run at once, in one round trip. */
  function call(
    file: string,
    args: string[],
    { env = {}, input, killAfterMs }: CallOptions,
  ): Promise<Called> {
    const name = `/run/model/call-${(serial += 1)}`;
    const variables = Object.entries(env).map(([key, value]) => `${key}='${value}'`);
    const words = args.map((arg) => `'${arg.replaceAll("'", `'\\''`)}'`);
    const script = `( set +e
      ${variables.join(' ')} ${ENTER} ${file} ${words.join(' ')} <${name}.in >${name}.out 2>${name}.err & pid=$!
      ${killAfterMs === undefined ? '' : `sleep ${seconds(killAfterMs)}; kill -9 $pid 2>/dev/null`}
      wait $pid; echo $? >${name}.code
    ) &`;
    return new Promise((resolve, reject) => {
      if (batch.length === 0) setImmediate(() => void flush());
      batch.push({
        script: `cat >${name}.in <<'EOF'\n${input ?? ''}\nEOF\n${script}`,
        done: (called) => (called instanceof Error ? reject(called) : resolve(called)),
      });
    });

    async function flush(): Promise<void> {
      const calls = batch;
      batch = [];
      const last = serial;
      const names = calls.map((_, at) => `/run/model/call-${last - calls.length + 1 + at}`);
      try {
        const show = names.map(
          (one) => `cat ${one}.code; base64 -w0 ${one}.out; echo; base64 -w0 ${one}.err; echo`,
        );
        const text = await node.sh(
          `${calls.map(({ script }) => script).join('\n')}\nwait\n${show.join('\n')}\nrm /run/model/call-*`,
        );
        const lines = text.split('\n');
        for (const [at, { done }] of calls.entries()) {
          const [code, stdout, stderr] = lines.slice(at * 3);
          done(calledFrom(Number(code), decode(stdout), decode(stderr)));
        }
      } catch (error) {
        for (const { done } of calls) done(error instanceof Error ? error : new Error(String(error)));
      }
    }
  }

  /** Runs one of the units; pods' calls run between the looks that wait for its end. */
  async function unit(args: string[], killAfterMs: number | undefined): Promise<Called> {
    const name = `eniboot-${args.find((word) => UNITS.includes(word))}.service`;
    const kill = `while [ ! -e /run/model/unit.done ]; do
        for pid in $(cat /sys/fs/cgroup/system.slice/${name}/cgroup.procs); do
          read -r comm </proc/$pid/comm || continue
          [ "$comm" = eniboot ] || continue
          sleep ${seconds(killAfterMs ?? 0)}; kill -9 $pid; exit
        done
      done`;
    await node.sh(`rm -f /run/model/unit.done; : >/run/model/unit.out
      ( set +e; systemctl start ${name}; systemctl show -p Result,ExecMainStatus ${name} >/run/model/unit.state
        mv /run/model/unit.state /run/model/unit.done ) >/dev/null 2>/run/model/unit.err &
      ${killAfterMs === undefined ? '' : `( set +e; ${kill} ) >/dev/null 2>&1 &`}`);
    for (;;) {
      const text = await node.sh(
        `for try in 1 2 3 4 5; do [ -e /run/model/unit.done ] && break; sleep 0.2; done
        [ ! -e /run/model/unit.done ] || cat /run/model/unit.done /run/model/unit.out`,
      );
      if (text === '') continue;
      const result = /^Result=(.*)$/m.exec(text)?.[1];
      const status = /^ExecMainStatus=(.*)$/m.exec(text)?.[1];
      const stdout = text.replace(/^(?:Result|ExecMainStatus)=.*\n/gm, '');
      if (result === 'signal') return { exit: null, stdout, stderr: '', killed: true };
      if (result !== 'success' && result !== 'exit-code') throw new Error(`${name}: ${text}`);
      return { exit: Number(status), stdout, stderr: '', killed: false };
    }
  }

  async function afterBoot(): Promise<void> {
    const dropIns = UNITS.map((name) => {
      const folder = `/run/systemd/system/eniboot-${name}.service.d`;
      const command = name === 'repair' ? name : `pool ${name}`;
      return `mkdir -p ${folder}; cat >${folder}/model.conf <<'EOF'
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=
ExecStart=${ENTER} /usr/libexec/eniboot/current/eniboot ${command} --json
StandardOutput=append:/run/model/unit.out
# Needed to enter the time namespace.
RestrictNamespaces=no
CapabilityBoundingSet=CAP_SYS_ADMIN
EOF`;
    });
    await node.sh(`${dropIns.join('\n')}
      systemctl daemon-reload
      printf '#!/bin/sh\\nexec cat /run/model/sandboxes.json\\n' >/usr/local/bin/crictl; chmod +x /usr/local/bin/crictl
      mkdir -p /run/crio; rm -f /run/crio/crio.sock
      python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("/run/crio/crio.sock")'`);
    await setClock(0);
  }

  async function sh(script: string): Promise<string> {
    const { exit, stdout, stderr } = await call('sh', ['-c', script], {});
    if (exit !== 0) throw new Error(`${script}: exit ${exit}: ${stderr}`);
    return stdout;
  }

  await afterBoot();
  return {
    cloud,
    instance,
    lacks: new Set(),
    ...throughShell({ call, sh }, instance),
    eniboot: unit,
    wait: (waited) => setClock(offset + waited),
    async reboot(killBootAfterMs) {
      // The kill ends the boot; systemd starts it again.
      const kill = `for try in $(seq ${600 * patience}); do
          pid=$(systemctl show -p MainPID --value eniboot.service)
          [ "$pid" = 0 ] || { sleep ${seconds(killBootAfterMs ?? 0)}; kill -9 $pid; exit 0; }
          sleep 0.1
        done; exit 1`;
      await node.reboot(killBootAfterMs === undefined ? undefined : kill);
      await afterBoot();
    },
  };
}

function calledFrom(code: number, stdout: string, stderr: string): Called {
  const killed = code === 137;
  return { exit: killed ? null : code, stdout, stderr, killed };
}

function decode(text = ''): string {
  return Buffer.from(text, 'base64').toString('utf8');
}
