// Stand-ins for the phases that make no EC2 call. identify tells the phases that do what IMDS would have told.
import { limitsOf } from '../../../agent/aws/limits/limits.ts';
import { type Boot, type Phase, type PhaseName, pass } from '../../../agent/boot/phase.ts';
import type { Config } from '../../../agent/config/schema.ts';
import { currentLife } from './life.ts';
import { BOOT_DEVICE, listLinks } from './machine.ts';
import { metadataOf } from './region.ts';

let config: Config | undefined;

/** The configuration of every node. */
export function useConfig(value: Config): void {
  config = value;
}

export function configOfFiles(): Config | undefined {
  return config;
}

function quiet(name: PhaseName, observe: (boot: Boot) => Promise<void> = async () => {}): Phase {
  return {
    name,
    budgetSeconds: 60,
    observe,
    plan: () => [],
    apply: async () => {},
    verify: async () => [pass(name, 'a stand-in')],
  };
}

export const identify = quiet('identify', async (boot) => {
  if (config === undefined) throw new Error('no configuration');
  const { node, region } = currentLife();
  const { boot: eni, instance, vpc, subnet } = metadataOf(region, node.instanceId);
  const [bootDevice] = await listLinks();
  const limits = await limitsOf(instance.type);
  if (bootDevice?.name !== BOOT_DEVICE || limits === undefined) throw new Error('the model lacks a device');
  boot.config = config;
  boot.identity = {
    instanceId: instance.id,
    instanceType: instance.type,
    imageId: instance.imageId,
    region: region.ec2.world.region,
    zone: instance.zone,
    zoneId: instance.zoneId,
    accountId: region.ec2.world.accountId,
    mac: eni.mac,
  };
  boot.node = {
    identity: boot.identity,
    bootEni: {
      mac: eni.mac,
      eniId: eni.id,
      deviceNumber: 0,
      subnetId: eni.subnetId,
      subnetCidr: subnet?.cidr ?? '',
      addresses: [eni.primaryIp],
      prefixes: [],
      vpcId: vpc.id,
      vpcCidrs: vpc.cidrs,
      ipv6Addresses: [],
      ipv6Prefixes: [],
      publicAddress: '203.0.113.1',
    },
    bootDevice,
    ownAddresses: { ipv4: [eni.primaryIp], ipv6: [] },
    otherEnis: [],
    limits,
    lifecycleTarget: undefined,
  };
});
export const reserve = quiet('reserve');
export const install = quiet('install');
export const kubelet = quiet('kubelet');
export const verify = quiet('verify');
export const ready = quiet('ready');
