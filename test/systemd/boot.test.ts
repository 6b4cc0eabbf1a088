// time limit: 300 s
// The units under a real systemd: when each starts, how often, and which never do. The agent and kubelet are stand-ins written in
// shell; the units around them are tested.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Container, whyNot, withContainer } from './container.ts';
import { withNodeAsync } from './graph.ts';
import { type Release, releases } from './releases.ts';

const unable = whyNot();
const register = unable === undefined ? test : test.skip;
if (unable !== undefined) process.stdout.write(`skipped: ${unable}\n`);

const JOIN_UNIT = join(import.meta.dirname, '../../docs/examples/join/kubeadm/kubeadm-join.service');

/** Stand-in for kubelet: records each start and its arguments. */
const kubelet = '#!/bin/sh\necho "$@" >>/run/kubelet-started\nexec sleep 1000\n';

const notify = 'systemd-notify --ready --status=ready';
const ready = `: >/run/eniboot/kubelet-released\n${notify}`;

/** Lists the folders in which a unit may write. */
const probing = `
for path in /etc/cni/net.d /etc/kubernetes/kubelet.conf.d /etc/crio/crio.conf.d /opt/cni/bin /usr/libexec/eniboot \\
  /run/NetworkManager/conf.d /run/eniboot /run/eniboot-policy /run/systemd/system /var/lib/eniboot /etc /usr/bin /var/log /run \\
  /opt /etc/cni /root; do
  if (: >"$path/probe") 2>/dev/null; then echo "$path"; fi
done `;

/** Stand-ins for `eniboot boot`, by their behaviour. */
const agents = {
  good: ready,
  'crash once': `[ -e /run/eniboot/crashed ] || { : >/run/eniboot/crashed; kill -9 $$; }\n${ready}`,
  'fail for good': 'exit 1',
  'crash always': 'kill -9 $$',
  'refill again and again': ready,
  'warm up': notify,
  'end without READY': 'exit 0',
  environment: `env >/run/eniboot/environment\n${ready}`,
  'write here and there': `${probing}>/run/eniboot/writable
: >/run/eniboot/policy.json
${ready}`,
} satisfies Record<string, string>;

/** Those of its other commands; without an entry they succeed at once. */
const others: Partial<Record<keyof typeof agents, string>> = {
  'refill again and again': ': >/run/eniboot/pool/refill-wanted',
  // A pod's namespace that comes while the service runs is a mount below /run.
  'write here and there': `[ "$1" = policy ] || exit 0
${probing}>/run/eniboot-policy/writable
while case $(cat /proc/self/mountinfo) in *' /run/netns/pod '*) false ;; esac; do sleep 0.1; done
: >/run/eniboot-policy/seen
sleep 1000`,
};

async function boot(
  release: Release,
  agent: keyof typeof agents,
  use: (container: Container) => Promise<void>,
  extra = {},
) {
  const files = {
    'usr/libexec/eniboot/current/eniboot': `#!/bin/sh
echo "$*" >>/run/eniboot/calls
case "$*" in boot) ;; *)
  ${others[agent] ?? ''}
  exit 0 ;;
esac
echo attempt >>/run/eniboot/attempts
${agents[agent]}
`,
    'usr/bin/kubelet': kubelet,
    'usr/bin/kubeadm': '#!/bin/sh\n',
    // Only systemd's and eniboot's units are enabled: the other services' programs are not in this root.
    'usr/lib/systemd/system-preset/00-only.preset':
      'enable eniboot*.service\nenable eniboot*.timer\nenable eniboot*.path\ndisable *\n',
    ...extra,
  };
  await withNodeAsync(
    {
      release,
      cloudInit: 'fedora',
      runtime: 'crio',
      extra: files,
      programs: ['usr/libexec/eniboot/current/eniboot', 'usr/bin/kubelet', 'usr/bin/kubeadm'],
    },
    (root) => withContainer(root, use),
  );
}

const lines = (text: string | undefined) => (text ?? '').split('\n').filter((line) => line !== '');
const starts = (container: Container) => lines(container.read('run/kubelet-started')).length;
const state = (container: Container, unit: string) => container.systemctl('is-active', unit).output.trim();
const settled = (container: Container) =>
  container.until('the boot is over', () => state(container, 'eniboot.service') !== 'activating');
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Runs a test on each release, because it depends on the version of systemd. */
function onEach(name: string, run: (release: Release) => Promise<void>): void {
  for (const release of releases) register(`${name} (${release})`, () => run(release));
}

/** Runs a test on one release, to save time. */
function onOne(name: string, run: (release: Release) => Promise<void>): void {
  register(name, () => run('trixie'));
}

onEach('a good boot starts kubelet, once, and refuses to be stopped', (release) =>
  boot(release, 'good', async (container) => {
    await container.until('kubelet runs', () => starts(container) === 1);
    assert.is(state(container, 'eniboot.service'), 'active');
    const stopped = container.systemctl('stop', 'eniboot.service');
    assert.is.not(stopped.exitCode, 0);
    assert.match(stopped.output, /may be requested by dependency only|refused/i);
    assert.is.not(container.systemctl('restart', 'eniboot.service').exitCode, 0);
    await pause(300);
    assert.is(starts(container), 1);
    assert.is(lines(container.read('run/eniboot/attempts')).length, 1);
  }),
);

onEach('a kubeadm join that failed half way is tried again, without what it left', (release) =>
  boot(
    release,
    'good',
    async (container) => {
      await container.until(
        'the node has joined',
        () => state(container, 'kubeadm-join.service') === 'active',
      );
      assert.equal(lines(container.read('run/joins')), ['a CA: no', 'a CA: no']);
    },
    {
      // Writes the CA before it asks the API server, which is away at first. Source: kubernetes, cmd/kubeadm/app/cmd/phases/join,
      // runKubeletStartJoinPhase.
      'usr/bin/kubeadm': `#!/bin/sh
ca=/etc/kubernetes/pki/ca.crt
[ -e $ca ] && echo 'a CA: yes' >>/run/joins && exit 1
echo 'a CA: no' >>/run/joins
mkdir -p /etc/kubernetes/pki && : >$ca
[ "$(wc -l </run/joins)" = 2 ]
`,
      'etc/kubernetes/join.yaml': '',
      'etc/systemd/system/kubeadm-join.service': readFileSync(JOIN_UNIT, 'utf8'),
      'etc/systemd/system/kubeadm-join.service.d/soon.conf': '[Service]\nRestartSec=1s\n',
      'usr/lib/systemd/system-preset/00-join.preset': 'enable kubeadm-join.service\n',
    },
  ),
);

onEach('an agent that crashes once is tried again, and kubelet starts, once', (release) =>
  boot(release, 'crash once', async (container) => {
    await container.until('kubelet runs', () => starts(container) === 1);
    assert.is(lines(container.read('run/eniboot/attempts')).length, 2);
    await pause(300);
    assert.is(starts(container), 1);
  }),
);

for (const agent of ['fail for good', 'end without READY'] as const) {
  onOne(`${agent}: kubelet never starts, not even by hand`, (release) =>
    boot(release, agent, async (container) => {
      await container.until(
        'the boot has failed',
        () => lines(container.read('run/eniboot/attempts')).length > 0,
      );
      if (agent === 'fail for good') {
        await container.until('the boot is given up', () => state(container, 'eniboot.service') === 'failed');
        await pause(1500);
        assert.is(
          lines(container.read('run/eniboot/attempts')).length,
          1,
          'a failure with a verdict is not tried again',
        );
        assert.is.not(container.systemctl('start', 'kubelet.service').exitCode, 0);
      } else await pause(1500);
      assert.is(starts(container), 0);
    }),
  );
}

onOne('an instance prepared for a warm pool is READY without kubelet', (release) =>
  boot(release, 'warm up', async (container) => {
    await settled(container);
    await pause(300);
    assert.is(state(container, 'eniboot.service'), 'active');
    assert.is(starts(container), 0);
  }),
);

onEach('the sandboxes let the agent and the policy service write only where they must', (release) =>
  boot(release, 'write here and there', async (container) => {
    await settled(container);
    assert.equal(lines(container.read('run/eniboot/writable')), [
      '/etc/cni/net.d',
      '/etc/kubernetes/kubelet.conf.d',
      '/etc/crio/crio.conf.d',
      '/opt/cni/bin',
      '/usr/libexec/eniboot',
      '/run/NetworkManager/conf.d',
      '/run/eniboot',
      '/var/lib/eniboot',
    ]);
    const writable = () => lines(container.read('run/eniboot-policy/writable'));
    await container.until('the policy service has tried', () => writable().includes('/var/lib/eniboot'));
    await pause(300);
    assert.equal(writable(), ['/run/eniboot-policy', '/var/lib/eniboot']);
    container.pin('run/netns/pod');
    await container.until(
      'the policy service sees a later namespace',
      () => container.read('run/eniboot-policy/seen') !== undefined,
    );
  }),
);

onOne(
  `variables that hijack the runtime do not reach the agent, even from the manager's environment`,
  (release) =>
    boot(
      release,
      'environment',
      async (container) => {
        await settled(container);
        const environment = container.read('run/eniboot/environment') ?? '';
        assert.match(environment, /^HARMLESS=1$/m);
        assert.not.match(environment, /BUN_/);
      },
      {
        'etc/systemd/system.conf.d/x.conf':
          '[Manager]\nDefaultEnvironment=HARMLESS=1 BUN_BE_BUN=1 BUN_OPTIONS=--preload=/x\n',
      },
    ),
);

onOne(`kubelet's flags: kubeadm's, then the operator's, then this boot's`, (release) =>
  boot(
    release,
    'good',
    async (container) => {
      await container.until('kubelet runs', () => starts(container) === 1);
      const flags =
        '--config=/var/lib/kubelet/config.yaml --operator=1 --two=2 --node-ip=10.0.0.7 --node-labels=a=b';
      assert.match(container.read('run/kubelet-started') ?? '', new RegExp(`${flags}\n$`));
    },
    {
      'etc/sysconfig/kubelet': 'KUBELET_EXTRA_ARGS=--operator=1 --two=2\n',
      'usr/libexec/eniboot/current/eniboot': `#!/bin/sh\necho 'ENIBOOT_KUBELET_ARGS=--node-ip=10.0.0.7 --node-labels=a=b' >/run/eniboot/kubelet.env\n${ready}\n`,
    },
  ),
);

onOne("the operator's flags reach kubelet without kubeadm's drop-in, which is another package", (release) =>
  boot(
    release,
    'good',
    async (container) => {
      await container.until('kubelet runs', () => starts(container) === 1);
      assert.match(container.read('run/kubelet-started') ?? '', /--operator=1 --node-ip=10\.0\.0\.7\n$/);
    },
    {
      'usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf': '',
      'etc/sysconfig/kubelet': 'KUBELET_EXTRA_ARGS=--operator=1\nENIBOOT_KUBELET_ARGS=--node-ip=10.0.0.8\n',
      'usr/libexec/eniboot/current/eniboot': `#!/bin/sh\necho 'ENIBOOT_KUBELET_ARGS=--node-ip=10.0.0.7' >/run/eniboot/kubelet.env\n${ready}\n`,
    },
  ),
);

onOne('the refill flag starts a refill each time it is set, and is removed by it', (release) =>
  boot(release, 'good', async (container) => {
    await container.until('kubelet runs', () => starts(container) === 1);
    const refills = () =>
      lines(container.read('run/eniboot/calls')).filter((call) => call === 'pool refill').length;
    for (let time = 1; time <= 3; time++) {
      container.write('run/eniboot/pool/refill-wanted', '');
      await container.until(
        `refill ${time}`,
        () => refills() === time && container.read('run/eniboot/pool/refill-wanted') === undefined,
      );
    }
    await pause(500);
    assert.is(refills(), 3, 'no loop');
    assert.is(state(container, 'eniboot-refill.path'), 'active');
  }),
);

onOne('a refill whose flag is set again at once runs once a second, not in a busy loop', (release) =>
  boot(release, 'refill again and again', async (container) => {
    await container.until('kubelet runs', () => starts(container) === 1);
    container.write('run/eniboot/pool/refill-wanted', '');
    await pause(3000);
    const refills = lines(container.read('run/eniboot/calls')).filter(
      (call) => call === 'pool refill',
    ).length;
    assert.ok(refills >= 1 && refills <= 4, `${refills} in 3 s`);
  }),
);

onOne('repair, refill and collect are skipped on a node whose boot has failed', (release) =>
  boot(release, 'fail for good', async (container) => {
    await container.until('the boot has failed', () => state(container, 'eniboot.service') === 'failed');
    for (const name of ['repair', 'refill', 'collect']) {
      assert.is(container.systemctl('start', `eniboot-${name}.service`).exitCode, 0, name);
      assert.is(state(container, `eniboot-${name}.service`), 'inactive', name);
    }
    assert.equal(lines(container.read('run/eniboot/calls')), ['boot']);
  }),
);

onEach(
  'the policy service that has ended starts anew while its settings are there, and not after',
  (release) =>
    boot(
      release,
      'good',
      async (container) => {
        const begun = () => lines(container.read('run/eniboot-policy/begun'));
        await container.until('policies are in force', () => begun().length === 1);
        container.write('run/eniboot/policy.json', 'changed');
        await container.until('the service has started anew', () => begun().length === 2);
        container.remove('run/eniboot/policy.json');
        await container.until(
          'the service is off',
          () => state(container, 'eniboot-policy.service') === 'inactive',
        );
        await pause(2500);
        assert.is(begun().length, 2);
        assert.is(state(container, 'eniboot-policy.service'), 'inactive');
      },
      {
        'usr/libexec/eniboot/current/eniboot': `#!/bin/sh
settings=/run/eniboot/policy.json
case "$*" in
boot) echo first >$settings; ${ready.replace('\n', '; ')} ;;
'policy serve') was=$(cat $settings); echo begun >>/run/eniboot-policy/begun; while [ -e $settings ] && [ "$(cat $settings)" = "$was" ]; do sleep 0.1; done; [ -e $settings ] || exit 3 ;;
esac
`,
      },
    ),
);

test.run();
