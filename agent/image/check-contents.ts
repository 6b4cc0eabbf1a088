// The contents of the image: files by digest, versions; and after a boot its verdict.

import { type Check, fail, pass, warn } from '../boot/phase.ts';
import { checkFiles, readManifest } from '../boot/version/manifest.ts';
import { KUBELET_VERSION, LIBEXEC_DIR, STATUS_FILE } from '../host/names.ts';
import { isFailure, messageOf } from '../messages/failure.ts';
import { sha256Of } from '../port/fs.ts';
import { linkOf, type Machine, textOf } from './machine.ts';

const CURRENT = `${LIBEXEC_DIR}/current`;
const PACKAGES = ['kubelet', 'cri-o', 'kernel-core'];

/** Compares executable and plugins with the manifest beside them, and checks that the licences are there. Reads 120 MB. */
export async function checkDigests(machine: Machine): Promise<Check> {
  try {
    const folder = `${machine.root}${CURRENT}`;
    const manifest = readManifest(folder);
    const digests = await checkFiles(folder, manifest, sha256Of);
    const stray = manifest.plugins.filter(
      (name) =>
        linkOf(machine, `/opt/cni/bin/${name}`)?.endsWith('usr/libexec/eniboot/current/eniboot') !== true,
    );
    if (stray.length > 0)
      return fail(
        'digests',
        'IMAGE_UNFIT',
        `/opt/cni/bin: ${stray.join(', ')} is not a link to ${CURRENT}/eniboot`,
        { stray },
      );
    // Licences must be passed on together with the executable.
    const absent = ['LICENSE', 'NOTICE'].filter(
      (name) => (textOf(machine, `${CURRENT}/${name}`) ?? '') === '',
    );
    if (absent.length > 0)
      return fail('digests', 'IMAGE_UNFIT', `${CURRENT}: ${absent.join(', ')} is not there`, { absent });
    return pass(
      'digests',
      `${digests.length} files and ${manifest.plugins.length} plugins of ${manifest.version}`,
      {
        version: manifest.version,
        files: manifest.files,
      },
    );
  } catch (error) {
    if (isFailure(error)) return { ...fail('digests', error.code, error.message, error.facts) };
    return fail('digests', 'IMAGE_UNFIT', `${CURRENT}: ${messageOf(error)}`);
  }
}

/** `expected`: package → version. Only RPMs are found. */
export async function checkVersions(machine: Machine, expected: Map<string, string>): Promise<Check> {
  const versions: Record<string, string> = {};
  const wrong: string[] = [];
  for (const name of new Set([...PACKAGES, ...expected.keys()])) {
    const found = await versionOf(machine, name);
    if (found !== undefined) versions[name] = found;
    const wanted = expected.get(name);
    if (found === undefined) wrong.push(`${name} is not installed`);
    else if (wanted !== undefined && wanted !== found) wrong.push(`${name} is ${found}, not ${wanted}`);
  }
  return wrong.length === 0
    ? pass('versions', Object.entries(versions).flat().join(' '), versions)
    : fail('versions', 'IMAGE_UNFIT', `${wrong.join('; ')}: see packer/scripts/20-packages.sh`, versions);
}

/** Without this file a boot runs kubelet, which reads 80 MB of a cold volume. */
export async function checkKubeletVersion(machine: Machine): Promise<Check> {
  const noted = textOf(machine, KUBELET_VERSION)?.trim();
  const installed = await versionOf(machine, 'kubelet');
  return noted !== undefined && noted === `Kubernetes v${installed}`
    ? pass('kubelet-version', `${KUBELET_VERSION} says ${noted}`, { noted })
    : fail(
        'kubelet-version',
        'IMAGE_UNFIT',
        `${KUBELET_VERSION} says ${noted ?? 'nothing'}, and kubelet is ${installed ?? 'not installed'}: write what kubelet --version says, as packer/scripts/40-eniboot.sh does`,
        { noted, installed },
      );
}

async function versionOf(machine: Machine, name: string): Promise<string | undefined> {
  const { stdout, exitCode } = await machine.run('rpm', [
    ...(machine.root === '' ? [] : [`--root=${machine.root}`]),
    '--query',
    '--queryformat',
    '%{VERSION}\n',
    name,
  ]);
  return exitCode === 0 ? stdout.trim().split('\n').at(-1) : undefined;
}

/** IDs of the checks of checkBooted. */
export const BOOTED_CHECKS = [
  'verdict',
  'runtime',
  'machine-id',
  'forwarding',
  'boot-jobs',
  'selinux-denials',
  'failed-units',
];

/** After a boot of the finished image: the boot's verdict, and faults besides it. */
export async function checkBooted(machine: Machine): Promise<Check[]> {
  const checks: Check[] = [];
  if (!machine.running)
    return [fail('booted', 'IMAGE_UNFIT', 'a mounted image has not booted: leave --root or --booted away')];
  const verdict = /"verdict": *"(\w+)"/.exec(textOf(machine, STATUS_FILE) ?? '')?.[1];
  checks.push(
    verdict === 'ready'
      ? pass('verdict', 'the boot ended READY')
      : fail(
          'verdict',
          'IMAGE_UNFIT',
          `the boot is ${verdict ?? 'without a verdict'}: eniboot status says why`,
        ),
  );
  // The verdict READY comes before all units have started: wait for the rest. The exit code is not used, since the other checks
  // tell more.
  await machine.run('systemctl', ['is-system-running', '--wait']);
  const runtime = (await machine.run('systemctl', ['is-active', 'crio.service'])).stdout.trim();
  checks.push(
    runtime === 'active'
      ? pass('runtime', 'cri-o runs')
      : fail(
          'runtime',
          'IMAGE_UNFIT',
          `crio.service is ${runtime === '' ? 'not there' : runtime}, and kubelet waits for it: systemctl status crio says why`,
        ),
  );
  const id = textOf(machine, '/etc/machine-id')?.trim() ?? '';
  checks.push(
    /^[0-9a-f]{32}$/.test(id)
      ? pass('machine-id', 'made at this boot')
      : fail(
          'machine-id',
          'IMAGE_UNFIT',
          '/etc/machine-id was not made: it must be empty in the image, not absent',
        ),
  );
  checks.push(
    textOf(machine, '/proc/sys/net/ipv4/ip_forward')?.trim() === '1'
      ? pass('forwarding', 'the kernel forwards')
      : fail(
          'forwarding',
          'IMAGE_UNFIT',
          'net.ipv4.ip_forward is not 1 in the kernel: sysctl --system says why',
        ),
  );
  for (const [check, args, remedy] of [
    ['boot-jobs', ['--grep', 'ordering cycle|deleted to break'], 'remove the ordering that makes the cycle'],
    ['selinux-denials', ['--grep', 'avc: +denied'], 'label the file, or give its service a policy'],
  ] as const) {
    const { stdout, exitCode, missing } = await machine.run('journalctl', [
      '--boot',
      '--quiet',
      '--no-pager',
      '--output=cat',
      ...args,
    ]);
    const heard = stdout.trim().split('\n').filter(Boolean);
    if (check === 'selinux-denials') heard.push(...(await deniedByAudit(machine)));
    // Such a denial is logged but allowed: Fedora runs that domain in permissive mode.
    const enforced = heard.filter((line) => !line.includes('permissive=1'));
    const said = check === 'selinux-denials' ? enforced.filter((line) => !isOfOthers(line)) : enforced;
    // With --grep, 1 means that no entry matches. Source: journalctl(1).
    if (!missing && exitCode !== null && exitCode <= 1 && said.length === 0)
      checks.push(
        enforced.length === 0
          ? pass(check, 'none')
          : warn(
              check,
              `none of eniboot, the runtime or kubelet; ${enforced.length} of other programs: ${enforced[0]}`,
              {
                said: enforced.slice(0, 20),
              },
            ),
      );
    else
      checks.push(
        fail(check, 'IMAGE_UNFIT', `${said[0] ?? 'the journal cannot be read'}: ${remedy}`, {
          said: said.slice(0, 20),
        }),
      );
  }
  const failed = await machine.run('systemctl', ['list-units', '--failed', '--plain', '--no-legend']);
  const units = failed.stdout.split('\n').flatMap((line) => line.trim().split(/\s+/)[0] || []);
  checks.push(
    units.length === 0 && failed.exitCode === 0
      ? pass('failed-units', 'none')
      : fail('failed-units', 'IMAGE_UNFIT', `${units.join(', ')}: systemctl status says why`, { units }),
  );
  return checks;
}

/**
 * A plain boot of Fedora has denials of its own services: they do not count here. A denial counts when it names a program, a
 * file or a domain of eniboot, the runtime, kubelet or containers, and so does a line that is no AVC (auditd's log could not be
 * read). Domains and files: container-selinux, container.fc and container.te; nft runs as iptables_t: selinux-policy,
 * iptables.fc.
 */
function isOfOthers(line: string): boolean {
  return (
    /\bavc: +denied\b/.test(line) &&
    !/eniboot|\bcrio\b|cri-o|containerd|conmon|\bcrun\b|\brunc\b|kubelet|kubernetes|\/opt\/cni|\/cni\/|:(container|spc|kube|iptables)\w*_t:|comm="(ip|nft|tc|flock)"/.test(
      line,
    )
  );
}

/** Denials of this boot in auditd's log. When auditd runs, a setting of journald decides whether the journal has them too. */
async function deniedByAudit(machine: Machine): Promise<string[]> {
  const { stdout, stderr, exitCode, missing } = await machine.run('ausearch', [
    // Without this ausearch reads standard input when that is no terminal.
    '--input-logs',
    '--message',
    'AVC,USER_AVC,SELINUX_ERR',
    '--start',
    'boot',
  ]);
  if (missing) return [];
  const denied = stdout.split('\n').filter((line) => /denied|SELINUX_ERR/.test(line));
  // Exit code 1 means "no matches" or an error, and only the message tells which; with --raw there is no message. Source:
  // ausearch(8), ausearch.c.
  const unread = exitCode !== 0 && !/no matches/.test(stdout + stderr);
  return unread ? [`ausearch: ${stderr.trim()}`] : denied;
}
