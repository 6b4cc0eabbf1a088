// Real callers of a plugin: libcni through cnitool, with the reference plugins after eniboot; containerd; podman.
import assert from 'node:assert/strict';
import type { PodNode } from './node.ts';

/** The guest's folder with cnitool and the reference plugins. */
export const CNI_TOOLS = '/opt/e2e/cni';
const LISTS = '/run/e2e/net.d';

/** Runs cnitool with a conflist of the test. Resolves to its output; throws with the output when it fails. */
export async function cnitool(
  node: PodNode,
  command: 'add' | 'check' | 'del',
  list: { name: string; plugins: object[] },
  pod: string,
  capabilities: Record<string, unknown> = {},
): Promise<string> {
  const text = JSON.stringify({ cniVersion: '1.0.0', ...list });
  return node.sh(`mkdir -p ${LISTS}; cat >${LISTS}/${list.name}.conflist <<'EOF'\n${text}\nEOF
    export CNI_PATH=/opt/cni/bin:${CNI_TOOLS} NETCONFPATH=${LISTS} CAP_ARGS='${JSON.stringify(capabilities)}'
    ${CNI_TOOLS}/cnitool ${command} ${list.name} /run/netns/${pod}`);
}

/**
 * Shell script that makes a root folder with one program, busybox, for every container here. No image is pulled: the simulated
 * Internet has no registry.
 */
const rootFolder = `rm -rf /run/e2e/root; mkdir -p /run/e2e/root/bin /run/e2e/root/proc /run/e2e/root/etc
  cp /usr/bin/busybox /run/e2e/root/bin/busybox; ln -s busybox /run/e2e/root/bin/sh; ln -s busybox /run/e2e/root/bin/nc`;

/** An image archive in Docker's format, which both engines read: one layer, written by hand. */
export const imageArchive = `${rootFolder}
  mkdir -p /run/e2e/image; cd /run/e2e/image
  tar -C /run/e2e/root -cf layer.tar .
  sum=$(sha256sum layer.tar | cut -d' ' -f1)
  printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' $sum >config.json
  printf '[{"Config":"config.json","RepoTags":["localhost/e2e:1"],"Layers":["layer.tar"]}]' >manifest.json
  tar -cf /run/e2e/image.tar manifest.json config.json layer.tar`;

/** Runs a container whose only process asks `to`, a server of a test. Returns the address that the server saw. */
export async function askFromContainer(node: PodNode, engine: string, to: string): Promise<string> {
  const [address = '', port = ''] = to.split(':');
  const run = {
    ctr: `ctr run --rm --cni localhost/e2e:1 asks /bin/nc -w 20 ${address} ${port}`,
    podman: `podman run --rm --network eniboot --name asks localhost/e2e:1 /bin/nc -w 20 ${address} ${port}`,
  }[engine];
  assert.ok(run);
  return (await node.sh(`${run} </dev/null`, 300_000)).trim();
}
