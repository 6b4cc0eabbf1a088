// Attachments of every form, for tests of plans and messages to the kernel.
import { type Attachment, attachmentOf } from '../../agent/attachment/attachment.ts';
import { limitOf, type PodLimits } from '../../agent/attachment/limits.ts';
import type { NodeFile } from '../../agent/host/node-file.ts';

export const NETNS = '/run/netns/p';

export interface Variant {
  name: string;
  attachment: Attachment;
  /** undefined: another plugin has made the pod's interface. */
  eniDevice: string | undefined;
  /** True: the kernel has IPv6. */
  ipv6: boolean;
}

const base: NodeFile = {
  schema: 1,
  instanceId: 'i-1',
  nodeAddresses: ['10.0.1.5'],
  mtu: 9001,
  podRoutes: ['10.0.0.0/16', '100.64.0.0/16'],
  egressRoutes: [],
  allowImds: false,
  restMs: 0,
  lowWater: 0,
  podEnis: [],
};
const two = { nodeAddresses: ['10.0.1.5', '10.0.1.6'] };
const table = { egressRoutes: ['10.0.7.0/24', '100.64.7.0/24'] };
const dual = { ipv6: { nodeAddresses: [], serviceCidrs: [] } };
const services = {
  ipv6: { nodeAddresses: ['2001:db8:1::5', '2001:db8:1::6'], serviceCidrs: ['fd00:10:96::/108'] },
};
const eni = { mac: '02:00:00:00:00:01', subnetCidr: '10.0.64.0/20', ipv6Prefix: '2001:db8:1:2:3::/80' };
const limits = { ingress: limitOf(40e6), egress: limitOf(20e6) };

/** Each form, by its difference from a pod with IPv4 only and a link of eniboot. */
const forms: Record<
  string,
  { node?: Partial<NodeFile>; limits?: PodLimits; foreign?: true; without6?: true; off?: true }
> = {
  'IPv4 alone': {},
  'two addresses of the node': { node: two },
  'a table of egress routes, IMDS allowed': { node: { ...two, ...table, allowImds: true } },
  'routes beside the subnet only': { node: { podRoutes: ['10.1.0.0/16'] } },
  'no IPv6 in the kernel': { without6: true },
  'the interface of another plugin': { foreign: true },
  'the interface of another plugin, no IPv6 in the kernel': { foreign: true, without6: true },
  'limits both ways': { limits },
  'a limit into the pod': { limits: { ingress: limitOf(100e9, 1e12) } },
  'a limit out of the pod': { limits: { egress: limitOf(1) } },
  'dual stack, a node without addresses': { node: dual },
  'dual stack with all': { node: { ...two, ...table, ...services }, limits },
  'dual stack, the interface of another plugin': { node: services, foreign: true, limits },
  'dual stack, turned off in the pod': { node: services, off: true, limits },
};

export const variants: Variant[] = Object.entries(forms).map(([name, form]) => {
  const made = attachmentOf({ ...base, ...form.node }, '10.0.64.9', eni, 'eth0');
  const limited = form.limits === undefined ? made : { ...made, limits: form.limits };
  return {
    name,
    attachment: form.off === true ? { ...limited, ipv6: undefined } : limited,
    eniDevice: form.foreign === true ? undefined : 'eth1',
    ipv6: form.without6 !== true,
  };
});
