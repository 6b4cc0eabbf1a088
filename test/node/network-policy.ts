// Kubernetes' own tests of NetworkPolicy, with eniboot-policy.service on both nodes.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseAllDocuments } from 'yaml';
import type { ProxyMode } from '../pods/proxy.ts';
import type { Bench } from '../vm/bench.ts';
import type { Nodes } from './cluster.ts';
import { type ClusterOptions, runUpstream, type UpstreamTests } from './conformance.ts';
import type { ControlPlane } from './control.ts';
import type { Facts } from './services.ts';

export const IDENTITY = '/var/lib/eniboot-policy';
const NAMESPACE = 'kube-system';
/** Valid for the whole run. */
const TOKEN_SECONDS = 12 * 3600;

/** Options for nodes that enforce policies. */
export const enforcing: ClusterOptions = {
  lean: true,
  config: (nodeName) => ({ policy: policyOf(nodeName) }),
  prepare: giveIdentity,
};

/** The section of a node's configuration. */
export function policyOf(nodeName: string): object {
  return { nodeName, identity: { ca: `${IDENTITY}/ca.crt`, token: `${IDENTITY}/token` } };
}

const NETPOL = '\\[sig-network\\] Netpol';

export function runNetworkPolicyTests(bench: Bench, mode: ProxyMode): Promise<Facts> {
  return runUpstream(bench, { ...enforcing, mode, ...netpol() });
}

export function netpol(): UpstreamTests {
  return { what: 'NetworkPolicy tests', focus: NETPOL, count: 50, meanwhile: countDenied() };
}

/** A denied probe of these tests accepts any error, so without enforcement these tests must fail. */
export const withoutPolicies: UpstreamTests = {
  ...{ what: 'NetworkPolicy tests without policies', focus: `${NETPOL}.*default-deny`, count: 3 },
  fail: true,
};

/** The most packets that a rule has denied, at the moments when this was called: pods come and go in between. */
function countDenied(): NonNullable<UpstreamTests['meanwhile']> {
  let most = 0;
  return async (nodes) => {
    for (const { sh } of nodes) {
      const packets = await sh(`for netns in /run/netns/*; do
          nsenter --net=$netns nft list table inet eniboot_policy 2>/dev/null || :
        done | sed -n 's/.*counter packets \\([0-9]*\\) bytes [0-9]* \\(drop\\|reject\\).*/\\1/p'`);
      most = Math.max(most, ...packets.split('\n').map(Number));
    }
    return { 'most packets that one rule was seen to have denied': most };
  };
}

/** What docs/network-policy.md tells an operator to do: the example's objects, and a token on each node. */
async function giveIdentity({ control, one, two }: Nodes): Promise<void> {
  const token = await makeIdentity(control);
  for (const { sh } of [one, two]) {
    await sh(`mkdir -p ${IDENTITY}
      cat >${IDENTITY}/ca.crt <<'EOF'\n${control.ca}\nEOF
      umask 077; printf %s '${token}' >${IDENTITY}/token`);
    await knowsCluster(sh, () => sh('journalctl --no-pager -n 30 -u eniboot-policy'));
  }
}

/** Applies docs/examples/policy-rbac.yaml. @returns a token of its ServiceAccount. */
export async function makeIdentity(control: ControlPlane): Promise<string> {
  const example = join(import.meta.dirname, '../../docs/examples/policy-rbac.yaml');
  const roles = '/apis/rbac.authorization.k8s.io/v1';
  const paths: Record<string, string> = {
    ServiceAccount: `/api/v1/namespaces/${NAMESPACE}/serviceaccounts`,
    ClusterRole: `${roles}/clusterroles`,
    ClusterRoleBinding: `${roles}/clusterrolebindings`,
  };
  for (const document of parseAllDocuments(readFileSync(example, 'utf8'))) {
    const object = document.toJS() as { kind: string };
    await control.call('POST', paths[object.kind] ?? assert.fail(object.kind), object);
  }
  const { status } = await control.call<{ status: { token: string } }>(
    'POST',
    `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/eniboot-policy/token`,
    { spec: { expirationSeconds: TOKEN_SECONDS } },
  );
  return status.token;
}

/** Waits until a node's service has listed all objects. @param words returns the service's log. */
export async function knowsCluster(
  sh: (script: string) => Promise<string>,
  words: () => Promise<string>,
): Promise<void> {
  const giveUpAt = performance.now() + 300_000;
  for (; ; await delay(1000)) {
    const known = await sh('test -e /run/eniboot-policy/known && echo known || :');
    if (known.trim() === 'known') return;
    if (performance.now() > giveUpAt)
      assert.fail(`the service does not come to know the cluster\n${await words()}`);
  }
}
