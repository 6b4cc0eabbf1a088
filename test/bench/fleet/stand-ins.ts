// The list of stand-ins of a modelled node: the whole difference to a real boot. All other modules of the agent run unchanged.
import { replaceModules } from '../../replace-modules.ts';

const here = (path: string) => new URL(path, import.meta.url).href;

const machine = [
  'port/fs',
  'host/links',
  'host/routes',
  'host/devices',
  'host/nft',
  'host/sysctl',
  'kernel/execute',
  'host/lock',
  'host/digest',
];
const pool = ['pool/entry', 'pool/prefixes', 'pool/retire', 'pool/leaving-enis'];
const phases = ['identify', 'reserve', 'install', 'kubelet/kubelet', 'verify', 'ready'];

/** Must be called before any module of the agent is imported. */
export function standIn(): void {
  replaceModules([
    ...[...machine, ...pool].map((module) => ({ module, instead: here('machine.ts') })),
    { module: 'boot/facts/config', instead: here('phases.ts') },
    ...phases.map((name) => ({ module: `boot/phases/${name}`, instead: here('phases.ts') })),
    ...['aws/ec2-sdk', 'aws/operator-clients'].map((from) => ({
      module: '@aws-sdk/client-ec2',
      from,
      instead: here('sdk.ts'),
    })),
    // /dev/console here would be this machine's, not the node's.
    { module: 'node:fs', from: 'boot/verdict/verdict', instead: here('machine.ts') },
  ]);
}
