// Frames to an ENI for an address that no pod has: ipvlan gives them to the node itself (ipvlan_core.c), with the pod ENI as
// their input device. And frames from outside in the name of the ENI or of IMDS.
import { type Act, type Attempt, by, type Family, type Field, framesOf, PORT, refused } from '../attempt.ts';
import { ether, tcp, udp } from '../frames.ts';

export function strays(f: Field): Attempt[] {
  return [...ofFamily(f, 4), ...(f.a.ip6 === undefined ? [] : ofFamily(f, 6))];
}

function ofFamily(f: Field, family: Family): Attempt[] {
  const key = family === 6 ? 'ip6' : 'ip4';
  const [own = '', b = '', c = '', far = ''] = [f.a[key], f.b[key], f.c[key], f.far[key]];
  const [node = '', free = ''] = [f.local[key], f.free[key]];
  const { toEni } = framesOf(f);
  const inside = (to: string, port = PORT) => toEni((mark) => udp({ from: own, to }, [4242, port], mark));
  // The VPC delivers only packets for the ENI's addresses: these attempts test any other machine that could write to the ENI.
  const outside =
    (from: string, to: string, mac = f.router.mac): Act =>
    (mark) => ({
      op: 'frames',
      dev: 'ENI',
      frames: [ether({ from: mac, to: f.eniMac }, udp({ from, to }, [4242, PORT], mark))],
    });
  const raw = refused('net_raw', family, { ipvlan: true });
  const vpc = refused('net_raw', family, { from: 'vpc' });
  const imds = f.imds[key];
  const both = (['plain', 'loose'] as const).flatMap((stage) => {
    const how = stage === 'loose' ? ', no reverse-path filter' : '';
    const held = {
      stage,
      ...(family === 4 && stage === 'plain' ? by("the node's reverse-path filter") : {}),
    };
    const away =
      family === 6 && f.one.ip6 === undefined
        ? { ...held, ...by('the node itself has no way out over IPv6') }
        : held;
    // biome-ignore format: one attempt, one line
    return [
      raw(`to its ENI, for a port of the node${how}`, inside(node), [{ heard: 'one' }], held),
      raw(`to its ENI, for an address that no pod has${how}`, inside(free), [{ frame: 'vpc' }], away),
      raw(`to its ENI, for a pod of another ENI${how}`, inside(c), [{ frame: 'c' }], held),
      raw(`to its ENI, for the metadata service${how}`, inside(imds, 80), [{ frame: 'vpc', to: imds }], away),
      vpc(`from outside to the ENI, for a port of the node${how}`, outside(far, node), [{ heard: 'one' }], held),
      vpc(`from outside to the ENI, for an address that no pod has${how}`, outside(far, free), [{ frame: 'vpc' }], { ...away, ipvlan: true }),
      vpc(`from outside to the ENI, for a pod of another ENI${how}`, outside(far, c), [{ frame: 'c' }], held),
    ];
  });
  // biome-ignore format: one attempt, one line
  return [
    ...both,
    ...(family === 6 ? [] : [raw('to its ENI, for a NodePort of the node', toEni((_, n) => tcp({ from: own, to: f.one.ip4 }, [20000 + n, 30013], ['syn'])), [{ frame: 'b' }], { stage: 'nftables', ...by("the node's reverse-path filter") })]),
    vpc("from outside to a pod, with the ENI's own MAC as its source", outside(far, b, f.eniMac), [{ frame: 'b' }]),
    vpc('from outside to a pod, as the metadata service', outside(imds, b), [{ frame: 'b' }]),
  ];
}
