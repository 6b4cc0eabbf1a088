// A stand-in for the reference plugin `ipvlan` where the kernel has no ipvlan. Configuration (master or a single interface of
// prevResult; ipam or the addresses of prevResult), delegation and result are the same, but the link is a veth, as in
// stand-in/execute.ts. Run by a runtime: variables in the environment, configuration on standard input.
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
  // In the order of the reference plugin: first the delegate, then its own link.
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

/** Does the same as test/cni/stand-in/execute.ts, by programs. */
function makeLink(master: string, cidr: string, routes: { dst: string; gw: string }[]): void {
  const [address = ''] = cidr.split('/');
  const number = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const port = `ipv${(number % 2 ** 31).toString(16).padStart(8, '0')}`;
  const shown = (what: string) => readFileSync(`/sys/class/net/${master}/${what}`, 'utf8').trim();
  const [mac, mtu] = [shown('address'), shown('mtu')];
  const inPod = ['nsenter', `--net=${netns}`, '--'];
  if (existsSync('/run/stand-in/ipvlan'))
    ip([], [`link add link ${master} name ${ifName} netns ${netns} type ipvlan mode l2`]);
  else
    ip(
      [],
      [
        `link add name ${port} mtu ${mtu} type veth peer name ${ifName} address ${mac} mtu ${mtu} netns ${netns}`,
        `link set dev ${port} addrgenmode none up`,
      ],
    );
  ip(inPod, [
    `link set dev ${ifName} up`,
    `address add ${cidr} dev ${ifName}`,
    ...routes.map((route) => `route add ${route.dst} via ${route.gw} dev ${ifName}`),
  ]);
  if (existsSync(`/sys/class/net/${port}`))
    execFileSync('sh', ['/run/stand-in/switch', master, port, address], { stdio: 'ignore' });
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
