// Registers tests that need the Go tools, and calls cnitool as a runtime on a node would.
import { test } from 'uvu';
import { goTools, withoutGoTools } from './fetch.ts';
import { INTERFACE_PLUGINS, kernelHasIpvlan, type PodNode } from './rig.ts';

const tools = goTools();
if (tools === undefined) process.stdout.write(`skipped: ${withoutGoTools}\n`);

export function withTools(name: string, work: () => Promise<void>): void {
  if (tools === undefined) test.skip(name, work);
  else test(name, work);
}

/** Runs from the host, with the plugin folders of the node first. `extra`: more variables, in the form of a shell's `export`. */
export async function cnitool(
  node: PodNode,
  command: string,
  network: string,
  netns: string,
  extra = '',
): Promise<string> {
  return node.sh(`export PATH=/run/stand-in/bin:/usr/sbin:/usr/bin:/sbin:/bin
    export CNI_PATH=/opt/cni/bin:${kernelHasIpvlan() ? '' : `${INTERFACE_PLUGINS}:`}${tools} NETCONFPATH=/etc/cni/net.d ${extra}
    ${tools}/cnitool ${command} ${network} ${netns}`);
}
