// Stand-ins for the phases that make no EC2 call. identify gives the other phases the facts of IMDS.
import { limitsOf } from '../../../agent/aws/limits/limits.ts';
import type { Context } from '../../../agent/boot/context.ts';
import type { NodeFacts } from '../../../agent/boot/facts/facts.ts';
import { type Looked, type Phase, type PhaseName, pass } from '../../../agent/boot/phase.ts';
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

function quiet<Observed>(name: PhaseName, observe: () => Promise<Observed>): Phase<Observed> {
  return { name, observe, plan: () => [], judge: () => [pass(name, 'a stand-in')] };
}

export function identify(context: Context): Phase<{ node: NodeFacts }> {
  return quiet('identify', async () => {
    if (config === undefined) throw new Error('no configuration');
    const { node, region } = currentLife();
    const { boot: eni, instance, vpc, subnet } = metadataOf(region, node.instanceId);
    const [bootDevice] = await listLinks();
    const limits = await limitsOf(instance.type);
    if (bootDevice?.name !== BOOT_DEVICE || limits === undefined)
      throw new Error('the model has no such device');
    const identity = {
      instanceId: instance.id,
      instanceType: instance.type,
      imageId: instance.imageId,
      region: region.ec2.world.region,
      zone: instance.zone,
      zoneId: instance.zoneId,
      accountId: region.ec2.world.accountId,
      mac: eni.mac,
    };
    Object.assign(context.known, { identity, config });
    const bootEni = {
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
    };
    return {
      node: {
        ...{ config, identity, bootEni, bootDevice, limits },
        ownAddresses: { ipv4: [eni.primaryIp], ipv6: [] },
        otherEnis: [],
        limitsFromEc2: false,
        lifecycleTarget: undefined,
      },
    };
  });
}

export async function lookAtBootEni(): Promise<Looked> {
  return { changes: [], checks: [] };
}

export const reserve = () => quiet('reserve', async () => {});
export const install = () => quiet('install', async () => ({ bundle: undefined }));
export const kubelet = () => quiet('kubelet', async () => {});
export const verify = () => quiet('verify', async () => ({ pods: undefined }));
export const ready = () => quiet('ready', async () => {});
