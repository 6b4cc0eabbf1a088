// DHCP and DNS on every subnet, by dnsmasq: an ENI's primary address by its MAC, host names in EC2's form.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseCidr, toAddress } from '../ec2/addresses.ts';
import type { Eni, Subnet } from '../ec2/state.ts';
import type { World } from '../ec2/world.ts';

export interface Resolver {
  /** Leases the ENI's primary address from now on. */
  know(eni: Eni): void;
  forget(eniId: string): void;
  stop(): void;
}

const home = '/run/eniboot-aws/dhcp';

/** undefined when dnsmasq is not installed: instances made of namespaces then cannot resolve names. */
export async function startResolver(
  world: World,
  bridges: Map<string, string>,
  serviceAddress: string,
): Promise<Resolver | undefined> {
  const hosts = join(home, 'hosts');
  mkdirSync(hosts, { recursive: true });
  const subnets = [...world.subnets.values()];
  const child = spawn(
    'dnsmasq',
    [
      // Without this it also changes its user and group, which a user namespace refuses.
      '--no-daemon',
      '--conf-file=/dev/null',
      '--pid-file=',
      '--no-hosts',
      '--no-resolv',
      '--no-ping',
      '--bind-interfaces',
      '--except-interface=lo',
      ...subnets.map((subnet) => `--interface=${bridges.get(subnet.id)}`),
      `--dhcp-hostsdir=${hosts}`,
      `--dhcp-leasefile=${join(home, 'leases')}`,
      '--dhcp-authoritative',
      ...subnets.flatMap((subnet) => subnetOptions(subnet, bridges.get(subnet.id) ?? '')),
      `--dhcp-option=option:domain-name,${world.region}.compute.internal`,
      '--dhcp-option=option:mtu,9001',
      // Other names of this domain do not exist: the answer is NXDOMAIN, not a refusal.
      `--local=/${world.region}.compute.internal/`,
      ...world.vpc.cidrs.map((cidr) => `--synth-domain=${world.region}.compute.internal,${cidr},ip-`),
      `--address=/ec2.${world.region}.amazonaws.com/${serviceAddress}`,
      `--address=/ssm.${world.region}.amazonaws.com/${serviceAddress}`,
      '--address=/instance-data.ec2.internal/169.254.169.254',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  if (!(await started(child))) return undefined;
  child.unref();
  return {
    know: (eni) => writeFileSync(join(hosts, eni.id), `${eni.mac},${eni.primaryIp},1h\n`),
    forget: (eniId) => {
      rmSync(join(hosts, eniId), { force: true });
      child.kill('SIGHUP'); // dnsmasq notices a new file by itself, and a removed file only after SIGHUP
    },
    stop: () => {
      child.kill('SIGKILL');
      rmSync(home, { recursive: true, force: true });
    },
  };
}

function subnetOptions(subnet: Subnet, tag: string): string[] {
  const { first, length } = parseCidr(subnet.cidr);
  const mask = toAddress(2 ** 32 - 2 ** (32 - length));
  return [
    `--dhcp-range=set:${tag},${toAddress(first)},static,${mask},1h`,
    `--dhcp-option=tag:${tag},option:router,${toAddress(first + 1)}`,
    `--dhcp-option=tag:${tag},option:dns-server,${toAddress(first + 2)}`,
  ];
}

/** Resolves to true when dnsmasq says that it listens; to false when the program does not exist. */
async function started(child: ChildProcess): Promise<boolean> {
  let said = '';
  return new Promise((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'ENOENT' ? resolve(false) : reject(error),
    );
    child.once('exit', (code) => reject(new Error(`dnsmasq ended with ${code}: ${said}`)));
    child.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes('started, version')) resolve(true);
    });
  });
}
