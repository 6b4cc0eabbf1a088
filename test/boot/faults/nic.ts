// Faults of network devices, and other programs that configure them.
import { is, match, ok } from 'uvu/assert';
import { POD_ROLE, ROLE_TAG } from '../../../agent/aws/tags.ts';
import type { DeviceFault } from '../../aws/faults.ts';
import type { Instance } from '../../aws/index.ts';
import type { Bench, Fault } from './fault.ts';
import { HINDERED, kernelThat, STAND_INS_FIRST, standIn } from './stand-in.ts';
import { faultDone, phaseBegun, until, verifyWaitsAt } from './watch.ts';

const DEAD = { deadlineSeconds: 10 } as const;
const SOON = { deadlineSeconds: 14 } as const;
const podEni = { podEnis: [{ prefixes: 7, tags: { [ROLE_TAG]: POD_ROLE } }] };

function onDevice(rule: DeviceFault): (bench: Bench) => void {
  return ({ cloud, instance }) => {
    cloud.faults.device.add({ ...rule, instanceId: instance.id, times: 1 });
  };
}

/** Asserts that the device is up, with the boot ENI's MTU, and without address or route. */
async function provesBareDevice({ instance }: Bench): Promise<void> {
  const device = instance.deviceOf(instance.enis[1]?.id ?? '') ?? '';
  const { stdout } = await instance.run('ip', ['address', 'show', 'dev', device]);
  match(stdout, /mtu 9001 /);
  match(stdout, /[<,]UP[,>]/);
  ok(!/ inet /.test(stdout), `no address: ${stdout}`);
  const routes = await instance.run('ip', ['route', 'show', 'dev', device]);
  is(routes.stdout.trim(), '', 'no route');
}

/** Runs `ip -batch` on the node, as another program does. */
async function configure(instance: Instance, lines: string): Promise<void> {
  const { exitCode, stderr } = await instance.run('ip', ['-batch', '-'], { input: lines });
  if (exitCode !== 0) throw new Error(`fault not made: ${stderr}`);
}

const LET_GO = '/run/eniboot-test-nm-let-go';

/** Stand-ins for NetworkManager's tool, and for a pod ENI on a PCI bus, as NetworkManager would see it. */
function networkManager(answerToSet: string): (bench: Bench) => Promise<void> {
  return async (bench) => {
    const device = bench.instance.deviceOf(bench.instance.enis[1]?.id ?? '') ?? '';
    await standIn(
      bench,
      'ip',
      `/usr/sbin/ip "$@" | sed 's/"ifname":"${device}"/"parentbus":"pci","ifname":"${device}"/g'`,
    );
    await standIn(
      bench,
      'nmcli',
      `case "$*" in
  *'device status'*) if [ -e ${LET_GO} ]; then printf '${device}:unmanaged\\n'; else printf '${device}:connected\\n'; fi ;;
  *'device set'*) ${answerToSet} ;;
esac`,
    );
  };
}

/**
 * NetworkManager on a machine whose boot ENI is not the first card: the pod ENI has a lease. A reload does not make
 * NetworkManager manage the boot ENI, which udev has marked as unmanaged; `device set … managed yes` does, and a device that
 * is up then gets its lease. As seen with 1.52 in `npm run e2e:vm -- --case boot-eni-not-first`.
 */
async function bootEniUnmanaged(bench: Bench): Promise<void> {
  const { instance } = bench;
  const [boot, pod] = instance.enis.map((eni) => ({ eni, device: instance.deviceOf(eni.id) ?? '' }));
  if (boot === undefined || pod === undefined) throw new Error('the instance needs two ENIs');
  const lease = ({ eni, device }: typeof boot, prefix: number, router: string) => [
    `address add ${eni.primaryIp}/${prefix} dev ${device}`,
    `route add default via ${router} dev ${device}`,
  ];
  const wasRoute = await instance.run('ip', ['route', 'show', 'default']);
  const router = wasRoute.stdout.split(' ')[2] ?? '';
  await configure(
    instance,
    [
      `address flush dev ${boot.device}`,
      `link set ${boot.device} down`,
      `link set ${pod.device} up`,
      ...lease(pod, 20, '10.0.64.1'),
      '',
    ].join('\n'),
  );
  const again = [`address flush dev ${pod.device}`, ...lease(boot, 24, router)].join('\n');
  await standIn(
    bench,
    'nmcli',
    `state=/run/eniboot-test-nm
case "$*" in
  *'device status'*)
    if [ -e $state ]; then printf '${boot.device}:connected\n${pod.device}:unmanaged\n'
    else printf '${boot.device}:unmanaged\n${pod.device}:connected\n'; fi ;;
  # The mark that udev has set on a present device stays until NetworkManager gets this command for the device.
  'device set ${boot.device} managed yes')
    # A device that is down has no carrier, and gets no lease.
    [ "$(cat /sys/class/net/${boot.device}/carrier 2>/dev/null)" = 1 ] || exit 0
    grep -q '^match-device=mac:${boot.eni.mac}$' /run/NetworkManager/conf.d/*.conf || exit 0
    [ -e $state ] || { : >$state; printf '%s\n' '${again}' | /usr/sbin/ip -batch -; } ;;
esac`,
  );
}

/** Resolves when the boot is over: then a fault undoes its own change of other programs' state. */
async function end(over: AbortSignal): Promise<void> {
  await until(() => false, over);
}

/** Makes attachments slow, so that the fault's change happens during the boot. */
function attachesSlowly({ cloud, instance }: Bench): void {
  cloud.faults.attach.add({ delayMs: 2_000, instanceId: instance.id, times: 1 });
}

export const nicFaults: Fault[] = [
  {
    name: 'the device appears 4 s after the attachment',
    arrange: onDevice({ delayMs: 4000 }),
    expect: { verdict: 'ready' },
    prove: provesBareDevice,
  },
  {
    name: 'the device never appears',
    ...DEAD,
    arrange: onDevice({ never: true }),
    expect: { verdict: 'failed', code: 'DEVICE_MISSING', phase: 'attach', withinSeconds: 20 },
  },
  {
    name: 'the device is renamed while eniboot reads it',
    arrange: onDevice({ name: 'eth0', renameTo: 'ens6', renameAfterMs: 30 }),
    expect: { verdict: 'ready' },
    prove: provesBareDevice,
  },
  {
    name: 'the device has an unexpected name',
    arrange: onDevice({ name: 'rename7.x' }),
    expect: { verdict: 'ready' },
    prove: provesBareDevice,
  },
  {
    name: 'the device never gets a carrier',
    ...SOON,
    arrange: onDevice({ noCarrier: true }),
    expect: { verdict: 'failed', code: 'POD_ENI_DOWN', phase: 'verify', withinSeconds: 22 },
  },
  {
    name: 'another program takes the device down, again and again',
    ...SOON,
    launch: HINDERED,
    arrange: kernelThat(' up$'),
    expect: { verdict: 'failed', code: 'POD_ENI_DOWN', phase: 'verify', withinSeconds: 22 },
  },
  {
    name: 'the device comes with another MTU',
    arrange: onDevice({ mtu: 1500 }),
    expect: { verdict: 'ready' },
    prove: provesBareDevice,
  },
  {
    name: 'another program sets another MTU, again and again',
    ...SOON,
    launch: HINDERED,
    arrange: (bench) => {
      onDevice({ mtu: 1500 })(bench);
      kernelThat(' mtu ')(bench);
    },
    expect: { verdict: 'failed', code: 'POD_ENI_MTU', phase: 'verify', withinSeconds: 22 },
  },
  {
    name: 'the device comes up with an address',
    arrange: onDevice({ address: '10.0.64.77/20' }),
    expect: { verdict: 'ready' },
    prove: provesBareDevice,
  },
  {
    name: 'the device comes up with a DHCP address and its default route',
    arrange: onDevice({ address: '10.0.64.77/20', defaultRouteVia: '10.0.64.1' }),
    expect: { verdict: 'ready' },
    prove: provesBareDevice,
  },
  {
    name: 'a DHCP client configures the device, again and again',
    ...SOON,
    launch: HINDERED,
    arrange: (bench) => {
      onDevice({ address: '10.0.64.77/20' })(bench);
      kernelThat(' flush ')(bench);
    },
    expect: { verdict: 'failed', code: 'POD_ENI_CONFIGURED', phase: 'verify', withinSeconds: 22 },
  },
  {
    name: 'a DHCP client configures the device once more after eniboot has cleaned it',
    arrange: verifyWaitsAt('ip'),
    path: STAND_INS_FIRST,
    async during(bench, over) {
      const { instance } = bench;
      await phaseBegun(instance, 'install', over);
      const device = instance.deviceOf(instance.enis[1]?.id ?? '') ?? '';
      await instance.run('ip', ['address', 'add', '10.0.64.77/20', 'dev', device]);
      faultDone(bench);
    },
    expect: { verdict: 'ready' },
    prove: provesBareDevice,
  },
  {
    name: 'a pod ENI present at power-on has an address and a default route',
    launch: podEni,
    arrange: async ({ instance }) => {
      const device = instance.deviceOf(instance.enis[1]?.id ?? '') ?? '';
      const lines = `link set ${device} up\naddress add 10.0.64.78/20 dev ${device}\nroute add default via 10.0.64.1 dev ${device} metric 300\n`;
      await configure(instance, lines);
    },
    expect: { verdict: 'ready' },
    prove: provesBareDevice,
  },
  ...(['egress', 'attach'] as const).map(
    (phase): Fault => ({
      name: `the boot ENI's device is renamed when ${phase} begins`,
      arrange: attachesSlowly,
      async during({ instance }, over) {
        await phaseBegun(instance, phase, over);
        const device = instance.deviceOf(instance.bootEni.id) ?? '';
        await configure(instance, `link set dev ${device} name renamed0\n`);
        await end(over);
        await configure(instance, `link set dev renamed0 name ${device}\n`);
      },
      changesBack: true,
      expect: { verdict: 'ready' },
      async prove({ instance }, { status }) {
        is(status?.bootEni?.device, 'renamed0');
        const { stdout } = await instance.run('nft', ['list', 'table', 'inet', 'eniboot']);
        match(stdout, /oifname "renamed0"/);
      },
    }),
  ),
  {
    name: 'the boot ENI gets one more address while the node boots',
    arrange: attachesSlowly,
    async during({ instance }, over) {
      await phaseBegun(instance, 'attach', over);
      const device = instance.deviceOf(instance.bootEni.id) ?? '';
      await configure(instance, `address add 192.0.2.7/32 dev ${device}\n`);
      await end(over);
      await configure(instance, `address del 192.0.2.7/32 dev ${device}\n`);
    },
    changesBack: true,
    expect: { verdict: 'ready' },
  },
  {
    name: 'two devices have the boot MAC',
    arrange: async ({ instance }) => {
      const { mac } = instance.bootEni;
      await configure(
        instance,
        `link add clone0 address ${mac} type veth peer name clone1
`,
      );
    },
    expect: { verdict: 'failed', code: 'BOOT_ENI_AMBIGUOUS', phase: 'identify', atOnce: true },
  },
  {
    name: 'a bridge has the boot MAC',
    arrange: async ({ instance }) => {
      await configure(instance, `link add br0 address ${instance.bootEni.mac} type bridge\n`);
    },
    expect: { verdict: 'ready' },
  },
  {
    name: 'the boot ENI has a secondary address instead of its primary one',
    ...DEAD,
    arrange: async ({ cloud, instance }) => {
      cloud.ec2.send('AssignPrivateIpAddresses', {
        NetworkInterfaceId: instance.bootEni.id,
        SecondaryPrivateIpAddressCount: 1,
      });
      await cloud.settled();
      const device = instance.deviceOf(instance.bootEni.id) ?? '';
      const second = instance.bootEni.secondaryIps[0] ?? '';
      const lines = [
        `address flush dev ${device}`,
        `address add ${second}/24 dev ${device}`,
        `route add default via 10.0.0.1 dev ${device}`,
        '',
      ];
      await configure(instance, lines.join('\n'));
    },
    expect: { verdict: 'failed', code: 'BOOT_ENI_NO_ADDRESS', phase: 'identify' },
  },
  {
    name: 'the pod ENI comes first in PCI order: NetworkManager gave it the lease and does not manage the boot ENI',
    launch: podEni,
    arrange: bootEniUnmanaged,
    path: STAND_INS_FIRST,
    othersChange: true,
    expect: { verdict: 'ready' },
    prove: provesBareDevice,
  },
  {
    name: 'the boot ENI has no address at all',
    ...DEAD,
    arrange: ({ instance }) =>
      instance.run('ip', ['address', 'flush', 'dev', instance.deviceOf(instance.bootEni.id) ?? '']),
    expect: { verdict: 'failed', code: 'IMDS_UNREACHABLE', phase: 'identify' },
  },
  {
    name: 'the boot ENI has no default route',
    ...DEAD,
    arrange: async ({ instance }) => {
      const device = instance.deviceOf(instance.bootEni.id) ?? '';
      const lines = `route add 169.254.169.254 via 10.0.0.1 dev ${device}\nroute del default\n`;
      await configure(instance, lines);
    },
    expect: { verdict: 'failed', code: 'NO_DEFAULT_ROUTE', phase: 'identify' },
  },
  {
    name: 'secondary addresses on the boot ENI are reported and given to no pod',
    arrange: async ({ cloud, instance }) => {
      cloud.ec2.send('AssignPrivateIpAddresses', {
        NetworkInterfaceId: instance.bootEni.id,
        SecondaryPrivateIpAddressCount: 2,
      });
      await cloud.settled();
    },
    expect: { verdict: 'ready' },
    prove: (_bench, { status }) => {
      const checks = status?.phases.flatMap((phase) => phase.checks) ?? [];
      ok(checks.some((check) => check.id === 'boot-eni-reserved' && check.result === 'warn'));
    },
  },
  {
    name: 'NetworkManager goes on managing a pod ENI after `managed no`',
    ...DEAD,
    launch: podEni,
    arrange: networkManager('exit 0'),
    path: STAND_INS_FIRST,
    expect: { verdict: 'failed', code: 'ENI_MANAGED_BY_OS', phase: 'reserve' },
  },
  {
    name: 'NetworkManager refuses `managed no` for a pod ENI',
    ...DEAD,
    launch: podEni,
    arrange: networkManager('echo "Error: not authorized" >&2; exit 8'),
    path: STAND_INS_FIRST,
    expect: { verdict: 'failed', code: 'NETWORK_MANAGER', phase: 'reserve' },
  },
  {
    name: 'NetworkManager takes six seconds to let go of a pod ENI, as on a small instance that is still starting the rest',
    launch: podEni,
    arrange: networkManager(`sleep 6; : >${LET_GO}`),
    path: STAND_INS_FIRST,
    expect: { verdict: 'ready' },
  },
];
