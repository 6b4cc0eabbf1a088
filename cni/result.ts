// The result of an ADD in the form of each version of the specification.
import { type Attachment, POD_VETH } from '../agent/host/attachment.ts';
import type { Version } from './call.ts';

interface ResultInput {
  attachment: Attachment;
  /** MAC of the pod ENI, which an ipvlan shares. */
  eniMac: string;
  netns: string;
  /** MTU of the ENI's device. */
  eniMtu: number;
  /** The configuration's `dns`, handed through. */
  dns: unknown;
}

export function renderResult(version: Version, input: ResultInput): Record<string, unknown> {
  const { attachment: a } = input;
  const address = `${a.address}/${a.prefixLength}`;
  const dns = input.dns === undefined ? {} : { dns: input.dns };
  const routes = [
    ...a.routes.map((dst) => ({ dst, gw: a.router })),
    { dst: '0.0.0.0/0', gw: a.nodeAddresses[0] },
  ];
  if (version === '0.1.0' || version === '0.2.0') {
    return { cniVersion: version, ip4: { ip: address, gateway: a.router, routes }, ...dns };
  }
  const withMtu = (mtu: number) => (version === '1.1.0' ? { mtu } : {});
  const family = version === '1.0.0' || version === '1.1.0' ? {} : { version: '4' };
  return {
    cniVersion: version,
    interfaces: [
      { name: a.ifName, mac: input.eniMac, ...withMtu(input.eniMtu), sandbox: input.netns },
      { name: POD_VETH, mac: a.podMac, ...withMtu(a.mtu), sandbox: input.netns },
      { name: a.hostLink, mac: a.hostMac, ...withMtu(a.mtu) },
    ],
    ips: [{ ...family, address, gateway: a.router, interface: 0 }],
    routes,
    ...dns,
  };
}
