// A stand-in for the reference plugin `ipvlan` where the kernel has no ipvlan: the same configuration (master or a
// single interface of prevResult; ipam or the addresses of prevResult), delegation and result, but the link is made by
// the stand-in for `ip` beside it. Run by a runtime: variables in the environment, configuration on standard input.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

const {
  CNI_COMMAND: command,
  CNI_NETNS: netns = '',
  CNI_IFNAME: ifName = '',
  CNI_PATH: path = '',
} = process.env;
const input = readFileSync(0, 'utf8');
const conf = JSON.parse(input || '{}');

try {
  const answer = answerTo();
  if (answer !== undefined) process.stdout.write(`${JSON.stringify(answer)}\n`);
} catch (error) {
  const code = (error as { cni?: { code: number; msg: string } }).cni ?? { code: 999, msg: String(error) };
  process.stdout.write(`${JSON.stringify({ cniVersion: conf.cniVersion, ...code })}\n`);
  process.exitCode = 1;
}

function answerTo(): unknown {
  if (command === 'VERSION')
    return { cniVersion: '1.1.0', supportedVersions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] };
  if (command === 'ADD') return add();
  if (conf.ipam !== undefined && command !== 'GC') delegate(command ?? '');
  // As the reference plugin: the delegate first, then its own link.
  if (command === 'DEL' && existsSync(netns))
    spawnSync('nsenter', [`--net=${netns}`, '--', 'ip', 'link', 'del', ifName]);
  return undefined;
}

function add(): unknown {
  const { prevResult } = conf;
  const master =
    conf.master ?? (prevResult?.interfaces?.length === 1 ? prevResult.interfaces[0].name : undefined);
  if (master === undefined)
    throw new Error('chained master failure: prevResult lacks a single named interface');
  const result = conf.ipam === undefined ? prevResult : JSON.parse(delegate('ADD'));
  try {
    for (const ip of result.ips) makeLink(master, ip.address, result.routes ?? []);
  } catch (error) {
    if (conf.ipam !== undefined) delegate('DEL');
    throw error;
  }
  const mac = readFileSync(`/sys/class/net/${master}/address`, 'utf8').trim();
  return {
    ...result,
    cniVersion: conf.cniVersion,
    interfaces: [{ name: ifName, mac, sandbox: netns }],
    ips: result.ips.map((ip: object) => ({ ...ip, interface: 0 })),
    dns: conf.dns ?? {},
  };
}

/** The stand-in for `ip` finds the pod's place by the group, and its address by the neighbour in the same batch. */
function makeLink(master: string, cidr: string, routes: { dst: string; gw: string }[]): void {
  const [address = ''] = cidr.split('/');
  const number = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const neighbour = `${address} dev ${master}`;
  ip(
    [],
    [
      `link add link ${master} name ${ifName} group ${number % 2 ** 31} netns ${netns} type ipvlan mode l2`,
      `neigh replace ${address} lladdr 02:00:00:00:00:01 dev ${master} nud permanent`,
      `neigh del ${neighbour}`,
    ],
  );
  ip(
    ['nsenter', `--net=${netns}`, '--'],
    [
      `link set dev ${ifName} group 0`,
      `link set dev ${ifName} up`,
      `address add ${cidr} dev ${ifName}`,
      ...routes.map((route) => `route add ${route.dst} via ${route.gw} dev ${ifName}`),
    ],
  );
}

function ip(entering: string[], lines: string[]): void {
  const command = [...entering, 'ip', '-batch', '-'].join(' ');
  execFileSync('sh', ['-c', command], { input: `${lines.join('\n')}\n`, stdio: ['pipe', 'ignore', 'pipe'] });
}

function delegate(what: string): string {
  const file = path
    .split(':')
    .map((folder) => `${folder}/${conf.ipam.type}`)
    .find((one) => existsSync(one));
  if (file === undefined) throw new Error(`no plugin ${conf.ipam.type} in CNI_PATH`);
  const result = spawnSync(file, [], { input, encoding: 'utf8', env: { ...process.env, CNI_COMMAND: what } });
  if (result.status === 0) return result.stdout;
  throw Object.assign(new Error(result.stdout), { cni: JSON.parse(result.stdout) });
}
