// What a modelled node is made of. The agent's modules run as they are, but for those that touch a machine:
// this list is the whole difference to a real boot.
import { replaceModules } from '../../replace-modules.ts';

const here = (path: string) => new URL(path, import.meta.url).href;

const machine = [
  'port/fs',
  'host/links',
  'host/devices',
  'host/nft',
  'host/sysctl',
  'host/lock',
  'host/digest',
];
const pool = ['pool/pool', 'pool/give-back', 'pool/leaving-enis'];
const phases = ['node-config', 'identify', 'reserve', 'install', 'kubelet', 'verify', 'ready'];

/** To be called before anything of the agent is imported. */
export function standIn(): void {
  replaceModules([
    ...[...machine, ...pool].map((module) => ({ module, instead: here('machine.ts') })),
    ...phases.map((name) => ({ module: `boot/${name}`, instead: here('phases.ts') })),
    ...['aws/ec2-sdk', 'aws/operator-clients'].map((from) => ({
      module: '@aws-sdk/client-ec2',
      from,
      instead: here('sdk.ts'),
    })),
    // /dev/console is this machine's, not the node's.
    { module: 'node:fs', from: 'boot/verdict', instead: here('machine.ts') },
  ]);
}
