// Requirements on the units.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as v from 'valibot';
import { configSchema } from '../../agent/config/schema.ts';
import { nodeTree, runIn, withNode } from './graph.ts';
import { releases } from './releases.ts';
import { parseUnit, type Unit, value, words } from './unit-file.ts';

const unitFolder = join(nodeTree, 'usr/lib/systemd/system');
const files = readdirSync(unitFolder, { recursive: true, encoding: 'utf8' }).filter(
  (path) => /\.\w+$/.test(path) && !path.endsWith('.d'),
);
const services = files.filter((path) => path.endsWith('.service'));
const dropIns = files.filter((path) => path.endsWith('.conf'));
const eniboot = read('eniboot.service');

test("kubelet's flags: the file of its RPM, then this boot's, which takes precedence", () => {
  const kubelet = read('kubelet.service.d/zz-eniboot.conf');
  assert.equal(kubelet.get('Service.EnvironmentFile'), [
    '-/etc/sysconfig/kubelet',
    '-/run/eniboot/kubelet.env',
  ]);
  assert.match(
    kubelet.get('Service.ExecStart')?.at(-1) ?? '',
    /\$KUBELET_EXTRA_ARGS\s.*\$ENIBOOT_KUBELET_ARGS$/s,
  );
});

test('kubelet waits for READY: notify, not enabled, required, started after', () => {
  assert.is(value(eniboot, 'Service.Type'), 'notify');
  assert.is(value(eniboot, 'Service.NotifyAccess'), 'all');
  assert.is(value(eniboot, 'Service.RemainAfterExit'), 'yes');
  assert.equal(eniboot.get('Service.ExecStart'), ['/usr/libexec/eniboot/current/eniboot boot']);
  assert.equal(eniboot.get('Service.ExecStartPost'), [
    '+/usr/bin/systemctl start --no-block kubelet.service',
  ]);
  for (const later of ['kubelet.service', 'crio.service', 'containerd.service']) {
    assert.ok(words(eniboot, 'Unit.Before').includes(later), later);
  }
  assert.ok(words(eniboot, 'Unit.After').includes('network-online.target'));
  assert.ok(words(eniboot, 'Unit.Wants').includes('network-online.target'));
  assert.equal(eniboot.get('Install.WantedBy'), ['multi-user.target']);

  const kubelet = read('kubelet.service.d/zz-eniboot.conf');
  assert.ok(words(kubelet, 'Unit.Requires').includes('eniboot.service'));
  assert.ok(words(kubelet, 'Unit.After').includes('eniboot.service'));
  assert.not.ok(
    files.some((path) => path.includes('.wants/')),
    'the preset enables the unit',
  );
  const preset = readFileSync(join(nodeTree, 'usr/lib/systemd/system-preset/10-eniboot.preset'), 'utf8');
  assert.match(preset, /^disable kubelet\.service$/m);
});

test('a failed attempt is tried again only after a crash, and only a limited number of times', () => {
  assert.is(value(eniboot, 'Service.Restart'), 'on-failure');
  assert.is(value(eniboot, 'Service.RestartMode'), 'direct');
  assert.equal(words(eniboot, 'Service.RestartPreventExitStatus'), ['1', '2']);
  assert.ok(Number(value(eniboot, 'Unit.StartLimitBurst')) > 0);
});

test('the start time-out lies above the default deadline and its extension', () => {
  const { boot } = v.parse(configSchema, {
    cluster: 'c',
    pods: { subnets: { ids: ['subnet-0123456789abcdef0'] } },
  });
  const minutes = /^(\d+)min$/.exec(value(eniboot, 'Service.TimeoutStartSec') ?? '')?.[1];
  assert.ok(Number(minutes) * 60 > boot.deadlineSeconds + boot.throttleExtensionSeconds);
});

test('nothing restarts or stops eniboot.service', () => {
  assert.is(value(eniboot, 'Unit.RefuseManualStop'), 'yes');
  const hands = [
    'PartOf',
    'BindsTo',
    'Requires',
    'Requisite',
    'Conflicts',
    'StopPropagatedFrom',
    'PropagatesStopTo',
    'Upholds',
  ];
  for (const hand of hands) assert.equal(words(eniboot, `Unit.${hand}`), [], hand);
  for (const path of files) {
    const unit = read(path);
    for (const hand of ['Conflicts', 'PropagatesStopTo', 'Upholds', 'ConsistsOf']) {
      assert.not.ok(words(unit, `Unit.${hand}`).includes('eniboot.service'), `${path}: ${hand}`);
    }
    for (const [name, commands] of unit) {
      if (!name.startsWith('Service.Exec')) continue;
      for (const command of commands) assert.not.match(command, /\b(re)?start\b.*\beniboot\.service/, path);
    }
  }
});

test('no ordering against cloud-init', () => {
  for (const path of files) {
    for (const relation of ['After', 'Before', 'Wants', 'Requires', 'BindsTo', 'PartOf']) {
      const clash = words(read(path), `Unit.${relation}`).filter((unit) => unit.startsWith('cloud-'));
      assert.equal(clash, [], `${path}: ${relation}`);
    }
  }
});

test('every service of eniboot, and every runtime that starts its executable, removes the variables that could change the executable', () => {
  const named = [...services, ...dropIns];
  assert.ok(
    ['kubelet', 'crio', 'containerd'].every((name) =>
      named.some((path) => path.startsWith(`${name}.service.d/`)),
    ),
  );
  for (const path of named) {
    assert.equal(words(read(path), 'Service.UnsetEnvironment'), ['BUN_OPTIONS', 'BUN_BE_BUN'], path);
  }
});

test('every service that changes the kernel may use netlink, and has the address space that foreign calls reserve', () => {
  for (const name of ['eniboot', 'eniboot-collect', 'eniboot-refill', 'eniboot-repair']) {
    const unit = read(`${name}.service`);
    assert.ok(words(unit, 'Service.RestrictAddressFamilies').includes('AF_NETLINK'), name);
    for (const limit of ['MemoryDenyWriteExecute', 'LimitDATA', 'LimitAS'])
      assert.is(value(unit, `Service.${limit}`), undefined, `${name}: ${limit}`);
  }
});

test('timers and the path unit start services that wait for a boot and are skipped when it failed', () => {
  const triggers = files.filter((path) => /\.(timer|path)$/.test(path));
  assert.equal(triggers.sort(), [
    'eniboot-collect.timer',
    'eniboot-refill.path',
    'eniboot-refill.timer',
    'eniboot-repair.timer',
  ]);
  for (const trigger of triggers) {
    const service = read(`${trigger.split('.')[0]}.service`);
    assert.is(value(service, 'Service.Type'), 'oneshot', trigger);
    assert.ok(words(service, 'Unit.After').includes('eniboot.service'), trigger);
    assert.ok(
      service.get('Service.ExecCondition')?.includes('/usr/bin/systemctl --quiet is-active eniboot.service'),
      trigger,
    );
    assert.not.ok(service.has('Install.WantedBy'), trigger);
  }
});

test('the refill flag is removed before anything else can be skipped or fail', () => {
  const flag = value(read('eniboot-refill.path'), 'Path.PathExists') ?? 'none';
  const service = read('eniboot-refill.service');
  assert.is(service.get('Service.ExecCondition')?.[0], `+/usr/bin/rm -f ${flag}`);
  assert.is(value(service, 'Unit.StartLimitIntervalSec'), '0');
});

test('the paths that the units may write exist before they start', () => {
  const made = readFileSync(join(nodeTree, 'usr/lib/tmpfiles.d/eniboot.conf'), 'utf8')
    .split('\n')
    .flatMap((line) => /^d (\S+)/.exec(line)?.[1] ?? []);
  for (const path of services) {
    for (const writable of words(read(path), 'Service.ReadWritePaths').map((one) => one.replace(/^-/, ''))) {
      assert.ok(made.includes(writable) || writable === '/usr/libexec/eniboot', `${path}: ${writable}`);
    }
  }
});

test('no service can use up the memory of the machine', () => {
  const MiB = 1024 * 1024;
  const executable = 125 * MiB;
  for (const path of services) {
    const [, number, unit] = /^(\d+)(M)$/.exec(value(read(path), 'Service.MemoryMax') ?? '') ?? [];
    assert.is(unit, 'M', `${path}: MemoryMax= in MiB`);
    const most = Number(number) * MiB;
    // A boot's largest memory, which test/boot/faults/run.ts asserts for each fault; cat only takes page cache.
    const needs = path === 'eniboot-readahead.service' ? executable : 150 * MiB;
    assert.ok(most >= needs * 1.5 && most <= 512 * MiB, `${path}: ${number} MiB`);
    // The agent survives a killed child program, and reports the failure.
    assert.is(value(read(path), 'Service.OOMPolicy'), 'continue', path);
  }
});

/** Highest exposure (0 to 10) that `systemd-analyze security` may find; lower it when a unit needs less. */
const exposure: Record<string, number> = {
  'eniboot.service': 2.9,
  'eniboot-readahead.service': 0.7,
  'eniboot-repair.service': 2.9,
  'eniboot-refill.service': 2.5,
  'eniboot-collect.service': 1.6,
  'eniboot-policy.service': 2.8,
};

for (const release of releases) {
  test(`each service is sandboxed, as judged by the systemd of ${release}`, () => {
    assert.equal(Object.keys(exposure).sort(), [...services].sort());
    withNode({ release, cloudInit: 'fedora', runtime: 'crio' }, (root) => {
      for (const [unit, bound] of Object.entries(exposure)) {
        const { output } = runIn(root, 'systemd-analyze', ['security', '--offline=true', '--no-pager', unit]);
        const found = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(output)?.[1]);
        assert.ok(found <= bound, `${unit}: ${found}, not at most ${bound}`);
      }
    });
  });
}

function read(path: string): Unit {
  return parseUnit(readFileSync(join(unitFolder, path), 'utf8'));
}

test.run();
