// The attackers at work: which of them run together, and their reports.
import { gzipSync } from 'node:zlib';
import type { Attacker, Attempt, Place } from './attempt.ts';
import { FOLDER, type Ground, type Host, hostOf, isPod, pods, within } from './ground.ts';

export type Numbered = Attempt & { n: number };

export interface Report {
  answer: string;
  said: string;
  mended?: boolean;
}

const REPAIR = '/usr/libexec/eniboot/current/eniboot repair';
const RUNTIME_CAPABILITIES = [
  ...['chown', 'dac_override', 'fsetid', 'fowner', 'mknod', 'net_raw', 'setgid', 'setuid', 'setfcap'],
  ...['setpcap', 'net_bind_service', 'sys_chroot', 'kill', 'audit_write'],
];

/** CapEff of each kind, capabilities(7). */
export const CAPABILITIES: Record<Attacker, string> = {
  process: '0000000000000000',
  // containerd, pkg/oci/spec_opts: defaultUnixCaps.
  net_raw: '00000000a80425fb',
  net_admin: '00000000a80435fb',
};

/**
 * Carries attempts of one stage out: first those that change nothing, then those that change their pod, then those that poison
 * neighbour tables, and last, one by one, those whose sign is a change on the node.
 *
 * @param repairs whether `eniboot repair` runs after an attempt that it has to undo.
 * @param found the report of each, by its number.
 * @param capabilities CapEff of each kind.
 */
export async function attack(
  ground: Ground,
  list: readonly Numbered[],
  repairs: boolean,
  found: Map<number, Report>,
  capabilities: Record<string, string>,
): Promise<void> {
  const together = async (some: readonly Numbered[]) => {
    for (const line of await carryOut(ground, some))
      if ('capabilities' in line) capabilities[line.as] = line.capabilities;
      else found.set(line.n, line);
  };
  const turns = ['first', 'changes its pod', 'poisons'] as const;
  for (const turn of turns) await together(list.filter((one) => turnOf(one) === turn));
  for (const one of list) {
    const look = changeOf(one);
    if (look === undefined) continue;
    const before = await ground.sh('one', look);
    await together([one]);
    const after = await ground.sh('one', look);
    const report: Report = {
      said: '',
      ...found.get(one.n),
      answer: after === before ? '' : `${lineOf(before)} became ${lineOf(after)}`,
    };
    found.set(one.n, report);
    // Not after the guard was taken away: repair would restore the guard as well.
    if (one.expected === 'mended' && repairs) {
      await ground.sh('one', `${REPAIR} >/dev/null || :`);
      report.mended = (await ground.sh('one', look)) === before;
    }
    if (one.undo !== undefined) await ground.sh('one', one.undo);
  }
}

function changeOf({ signs }: Attempt): string | undefined {
  for (const sign of signs) if (typeof sign === 'object' && 'changed' in sign) return sign.script;
  return undefined;
}

function turnOf(one: Attempt): 'first' | 'changes its pod' | 'poisons' | 'alone' {
  if (changeOf(one) !== undefined) return 'alone';
  if (one.signs.some((sign) => typeof sign === 'object' && 'neighbour' in sign)) return 'poisons';
  return one.before === undefined ? 'first' : 'changes its pod';
}

function lineOf(text: string): string {
  return text.trim().replaceAll(/\s+/g, ' ') || 'nothing';
}

/** A poisoned neighbour table must not decide about later attempts. */
const forget = `for pod in ${pods.join(' ')}; do for way in -4 -6; do ip $way -n $pod neigh flush dev eth0 2>/dev/null || :; done; done
    for link in /sys/class/net/enb*; do ip neigh flush dev \${link##*/}; done`;

type Line = ({ n: number } & Report) | { as: string; capabilities: string };

/** One program for each place and kind of attacker, all at once. */
async function carryOut(ground: Ground, list: readonly Numbered[]): Promise<Line[]> {
  const crews = new Map<string, Numbered[]>();
  for (const one of list) {
    const key = `${one.from ?? 'a'} ${one.as}`;
    crews.set(key, [...(crews.get(key) ?? []), one]);
  }
  const scripts = new Map<Host, string[]>();
  for (const [key, crew] of crews) {
    const [from, as] = key.split(' ') as [Place, Attacker];
    const host = hostOf(from);
    const drop = isPod(from) ? dropping(as) : '';
    const file = `${FOLDER}/crew-${key.replace(' ', '-')}`;
    const lines = scripts.get(host) ?? [];
    lines.push(`base64 -d <<'EOF' | gunzip >${file}\n${batchOf(ground, isPod(from) ? as : 'node', crew)}\nEOF
      ${within(from)} ${drop} python3 ${ground.program[host]} attack <${file} >${file}.out 2>${file}.err &`);
    scripts.set(host, lines);
  }
  const said = await Promise.all(
    [...scripts].map(([host, lines]) =>
      ground.sh(
        host,
        `rm -f ${FOLDER}/crew-*
        ${lines.join('\n')}
        wait; sleep 0.5
        cat ${FOLDER}/crew-*.err >&2; [ -z "$(cat ${FOLDER}/crew-*.err)" ]
        cat ${FOLDER}/crew-*.out
        ${host === 'one' ? forget : ''}`,
      ),
    ),
  );
  return said
    .join('')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
}

/** Compressed, because a line to a guest is read byte by byte. */
function batchOf(ground: Ground, as: string, crew: readonly Numbered[]): string {
  const batch = {
    as,
    wait: ground.wait,
    attempts: crew.map(({ n, before, after, operation }) => ({
      n,
      ...(before === undefined ? {} : { before }),
      ...(after === undefined ? {} : { after }),
      ...operation(`hostile#${String(n).padStart(4, '0')}`, n),
    })),
  };
  const hex = (_: string, value: unknown) =>
    isBuffer(value) ? Buffer.from(value.data).toString('hex') : value;
  const text = JSON.stringify(batch, hex).replaceAll('"dev":"ENI"', `"dev":"${ground.eniPort}"`);
  return gzipSync(text).toString('base64');
}

function isBuffer(value: unknown): value is { data: number[] } {
  return typeof value === 'object' && value !== null && (value as { type?: string }).type === 'Buffer';
}

/** Where user 65534 does not exist (a user namespace with one user), root without any capability has the same rights. */
function dropping(as: Attacker): string {
  if (as === 'process')
    return '$(setpriv --reuid 65534 true 2>/dev/null && echo setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs || echo setpriv --inh-caps=-all --bounding-set=-all --no-new-privs)';
  const kept = [...RUNTIME_CAPABILITIES, ...(as === 'net_admin' ? ['net_admin'] : [])];
  return `setpriv --inh-caps=-all --bounding-set=-all,${kept.map((name) => `+${name}`).join(',')}`;
}
