// Witnesses in every pod, on the nodes, in the VPC and in the Internet: their preparation, and what they have seen.
import type { Place, Sign } from './attempt.ts';
import { linkLocalServices } from './attempts/ordinary.ts';
import { FOLDER, type Ground, hostOf, places, within } from './ground.ts';

export async function prepare(ground: Ground): Promise<void> {
  const field = await ground.field();
  const { local, far, internet } = field;
  const ipv6 = field.a.ip6 !== undefined;
  const families = ipv6 ? (['ip4', 'ip6'] as const) : (['ip4'] as const);
  for (const host of ['one', 'two', 'vpc'] as const)
    await ground.sh(host, `rm -rf ${FOLDER}; mkdir -p ${FOLDER}`);
  await ground.sh(
    'one',
    families.map((key) => `ip address replace ${local[key]}/${key === 'ip4' ? 32 : 128} dev lo`).join('\n'),
  );
  const services = linkLocalServices(ipv6);
  const addresses = [...new Set(services.map(([address]) => address))];
  const narrow = families.map(
    (key) => `device=$(ip -o route get ${far[key]} | sed 's/.* dev \\([^ ]*\\).*/\\1/')
    way=$(ip -o route get ${far[key]} | sed -n 's/.* \\(via [^ ]*\\) .*/\\1/p')
    ip route replace ${far[key]} $way dev $device mtu lock 1300`,
  );
  await ground.sh(
    'vpc',
    `${addresses.map((one) => `ip address replace ${one}/${one.includes(':') ? '128 nodad' : 32} dev lo`).join('\n')}
    ${narrow.join('\n')}
    ip route replace ${internet.ip4} dev igw0 mtu lock 1300
    # The error about a packet that is too big comes from a router in the Internet, not from the subnet's.
    device=$(ip -o route get ${field.one.ip4} | sed 's/.* dev \\([^ ]*\\).*/\\1/')
    ip route replace ${field.one.ip4} dev $device src 203.0.113.1
    setsid python3 ${ground.program.vpc} answer ${services.flat().join(' ')} >${FOLDER}/answers 2>&1 &
    echo $! >>${FOLDER}/pids
    ${until(`grep -q up ${FOLDER}/answers`, `${FOLDER}/answers`)}`,
  );
  const peersOf = (place: Place): (string | undefined)[] => {
    if (place === 'one') return [field.c.ip4, field.c.ip6];
    return place === 'far' ? [field.b.ip4] : [];
  };
  for (const place of places)
    await watch(
      ground,
      place,
      peersOf(place).filter((peer) => peer !== undefined),
    );
}

/** @param peers addresses that the witness talks to all the time. */
export async function watch(ground: Ground, place: Place, peers: string[]): Promise<void> {
  const host = hostOf(place);
  const file = `${FOLDER}/${place}`;
  await ground.sh(
    host,
    `: >${file}
    setsid ${within(place, ground.internetPid)} python3 ${ground.program[host]} watch ${file} ${peers.join(' ')} >${file}.log 2>&1 &
    echo $! >>${FOLDER}/pids
    ${until(`grep -q '"up"' ${file}`, `${file}.log`)}`,
  );
}

/** Shell lines that wait for a condition, up to a minute, and then show a log. */
function until(condition: string, log: string): string {
  return `i=0; until ${condition}; do
      i=$((i + 1)); [ $i -lt 300 ] || { cat ${log} >&2; exit 1; }; sleep 0.2; done`;
}

/** Ends the witnesses on this host; those on nodes end with their node. */
export async function dismiss(ground: Ground): Promise<void> {
  await ground.sh('vpc', `xargs -r kill <${FOLDER}/pids; rm -r ${FOLDER}`);
}

interface Witnessed {
  n: number;
  how: 'heard' | 'frame' | 'left' | 'neighbour' | 'up';
  sender?: string;
  device?: string;
  src?: string;
  dst?: string;
  entry?: string;
}

/** All signs that were seen so far. */
export async function testimony(ground: Ground): Promise<Map<Place, Witnessed[]>> {
  const found = new Map<Place, Witnessed[]>();
  for (const place of places)
    found.set(place, parse(await ground.sh(hostOf(place), `cat ${FOLDER}/${place}`)));
  return found;
}

/** The evidence of a sign, in words; empty when it was not seen. */
export function evidenceOf(
  sign: Sign,
  n: number,
  answer: string,
  witnessed: ReadonlyMap<Place, Witnessed[]>,
): string[] {
  if (sign === 'answer' || 'changed' in sign) return answer === '' ? [] : [answer];
  const place = 'heard' in sign ? sign.heard : 'frame' in sign ? sign.frame : sign.neighbour;
  const notes = (witnessed.get(place) ?? []).filter((note) => note.n === n);
  if ('heard' in sign) {
    const found = notes.find(
      ({ how, sender }) => how === 'heard' && sign.not?.includes(sender ?? '') !== true,
    );
    return found === undefined ? [] : [`${place} heard ${found.sender}`];
  }
  if ('neighbour' in sign) {
    const found = notes.find(({ how }) => how === 'neighbour');
    return found === undefined ? [] : [`${place} has ${found.entry?.split(' ').slice(0, 5).join(' ')}`];
  }
  const found = notes.find(
    ({ how, src, dst, device = '' }) =>
      how === 'frame' &&
      (sign.to === undefined || dst === sign.to) &&
      sign.not?.includes(src ?? '') !== true &&
      // Bridges and the devices behind them show the same frame again.
      (place !== 'vpc' || !/^(sub|igw|lo)/.test(device)),
  );
  if (found === undefined) return [];
  return [
    `${place === 'vpc' ? 'left the node' : `a frame at ${place}`}${found.src === undefined ? '' : ` as ${found.src}`}`,
  ];
}

function parse(text: string): Witnessed[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Witnessed);
}
