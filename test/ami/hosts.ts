// The hosts from which provisioners download: repositories of stand-in RPMs, the SSM agent, keys and a certificate authority of this
// run; and the parts of them that a build instance has.
import { createHash } from 'node:crypto';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer as createPlainServer } from 'node:http';
import { createServer } from 'node:https';
import { join, normalize } from 'node:path';
import type { Cloud } from '../aws/index.ts';
import { must } from '../vm/must.ts';

export interface Hosts {
  /** A folder for each host, with its files. */
  www: string;
  /** Laid over a build instance's root: stand-in programs, repositories, and trust only in this run's authority. */
  layer: string;
  certificate: string;
  key: string;
  /** Values of packer/variables.pkr.hcl for this run. */
  variables: Record<string, unknown>;
  /** Armoured public key that signs the SSM agent. */
  agentKey: string;
}

const versions = { kubernetes: '1.36.1', crio: '1.36.0', agent: '3.3.3050.0' };
const fedora = 'mirror.fedora.stand-in.test';
const region = 'eu-west-1';
const agentHost = `s3.${region}.amazonaws.com`;
/** The host where a build with a lock finds packages that Fedora's updates no longer have. */
const archive = 'fedoraproject-updates-archive.fedoraproject.org';
const names = ['pkgs.k8s.io', 'download.opensuse.org', agentHost, fedora, archive];
/** The address of the simulated APIs, which these hosts share. */
const address = '10.0.255.10';

/** Made outside the sandbox. */
export function makeHosts(work: string): Hosts {
  const www = join(work, 'www');
  const layer = join(work, 'layer');
  cpSync(join(import.meta.dirname, 'stand-ins/both'), layer, { recursive: true });
  const own = names.map((name) => `${address} ${name}\n`);
  writeFileSync(join(layer, 'etc/hosts'), ['127.0.0.1 localhost\n', ...own].join(''));
  const { certificate, key, authority } = makeCertificates(work, names);

  const minor = versions.kubernetes.replace(/\.\d+$/, '');
  const inFedora = ['nftables', 'iproute', 'iproute-tc', 'ethtool', 'conntrack-tools', 'container-selinux'];
  const others = ['policycoreutils-python-utils', 'skopeo', 'NetworkManager', 'audit', 'chrony'];
  const repositories = {
    fedora: {
      path: join(www, fedora, 'f44'),
      rpms: [...inFedora, ...others].map((name) => ({ name, version: '1.0' })),
    },
    kubernetes: {
      path: join(www, `pkgs.k8s.io/core:/stable:/v${minor}/rpm`),
      rpms: [
        { name: 'kubelet', version: versions.kubernetes, unit: 'kubelet' },
        { name: 'cri-tools', version: '1.36.0' },
      ],
    },
    crio: {
      path: join(www, `download.opensuse.org/repositories/isv:/cri-o:/stable:/v${minor}/rpm`),
      rpms: [{ name: 'cri-o', version: versions.crio, unit: 'crio' }],
    },
  };
  const prints: Record<string, string> = {};
  for (const [name, { path, rpms }] of Object.entries(repositories)) {
    const signer = makeSigner(work, name);
    mkdirSync(path, { recursive: true });
    for (const rpm of rpms) signer.sign(makeRpm(work, rpm, path));
    must(['createrepo_c', '--quiet', path]);
    signer.detach(join(path, 'repodata/repomd.xml'), true);
    writeFileSync(join(path, 'repodata/repomd.xml.key'), signer.publicKey);
    prints[name] = signer.fingerprint;
    if (name === 'fedora') {
      mkdirSync(join(layer, 'etc/pki/rpm-gpg'), { recursive: true });
      for (const release of ['', '-44-x86_64'])
        writeFileSync(join(layer, `etc/pki/rpm-gpg/RPM-GPG-KEY-fedora${release}`), signer.publicKey);
      cpSync(path, join(www, archive, 'fedora/44/x86_64'), { recursive: true });
    }
  }
  mkdirSync(join(layer, 'etc/yum.repos.d'), { recursive: true });
  writeFileSync(
    join(layer, 'etc/yum.repos.d/fedora.repo'),
    `[fedora]\nname=fedora (stand-in)\nbaseurl=https://${fedora}/f44/\nenabled=1\ngpgcheck=1\ngpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-fedora\n`,
  );

  const agent = makeSigner(work, 'agent');
  const agentFolder = join(www, agentHost, `amazon-ssm-${region}`, versions.agent, 'linux_amd64');
  mkdirSync(agentFolder, { recursive: true });
  const agentRpm = join(agentFolder, 'amazon-ssm-agent.rpm');
  const made = makeRpm(
    work,
    { name: 'amazon-ssm-agent', version: versions.agent, unit: 'amazon-ssm-agent', unitInEtc: true },
    agentFolder,
  );
  renameSync(made, agentRpm);
  agent.detach(agentRpm, false);

  mkdirSync(join(layer, 'etc/ssl/certs'), { recursive: true });
  cpSync(authority, join(layer, 'etc/ssl/certs/ca-certificates.crt'));

  const sha256 = createHash('sha256').update(readFileSync(agentRpm)).digest('hex');
  return {
    ...{ www, layer, certificate, key, agentKey: agent.publicKey },
    variables: {
      region,
      kubernetes_version: versions.kubernetes,
      crio_version: versions.crio,
      key_fingerprints: {
        kubernetes: prints['kubernetes'],
        crio: prints['crio'],
        ssm_agent: agent.fingerprint,
      },
      ssm_agent: { version: versions.agent, sha256: { x86_64: sha256, arm64: sha256 } },
      pause_image: `registry.k8s.io/pause:3.10@sha256:${'3'.repeat(64)}`,
    },
  };
}

/** The plugin first asks STS for its identity: a stand-in gives this one answer. */
export const stsPort = 8081;
const callerIdentity =
  '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/operator</Arn><UserId>AIDASIMULATED</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>';

/** Serves the hosts and STS in the sandbox beside the APIs. @returns a function that ends them. */
export async function serveHosts(hosts: Hosts, cloud: Cloud): Promise<() => Promise<void>> {
  const web = createServer(
    { cert: readFileSync(hosts.certificate), key: readFileSync(hosts.key) },
    (request, response) => {
      const path = normalize(decodeURIComponent(request.url ?? '/'));
      const host = (request.headers.host ?? '').replace(/:\d+$/, '');
      try {
        const body = readFileSync(join(hosts.www, host, path));
        response.writeHead(200, { 'content-length': body.length }).end(body);
      } catch {
        response.writeHead(404).end();
      }
    },
  );
  const sts = createPlainServer((_request, response) => response.end(callerIdentity));
  const { hostname } = new URL(cloud.endpoints.ec2);
  await new Promise<void>((done) => sts.listen(stsPort, hostname, done));
  await new Promise<void>((done) => web.listen(443, hostname, done));
  return async () => {
    for (const server of [web, sts]) {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
  };
}

interface Rpm {
  name: string;
  version: string;
  release?: string;
  arch?: string;
  /** Name of a unit in the package, which runs a program that only waits. */
  unit?: string;
  /** The unit is in /etc, as in AWS's package (aws/amazon-ssm-agent, packaging/linux/amazon-ssm-agent.spec). */
  unitInEtc?: true;
}

export function makeRpm(work: string, rpm: Rpm, into: string): string {
  const folder = mkdtempSync(join(work, 'rpm-'));
  const spec = join(folder, 'package.spec');
  const arch = rpm.arch ?? 'noarch';
  const program = `/usr/bin/${rpm.unit ?? ''}`;
  const units = rpm.unitInEtc ? '/etc/systemd/system' : '/usr/lib/systemd/system';
  const unit = `${units}/${rpm.unit ?? ''}.service`;
  const lines = [
    `Name: ${rpm.name}`,
    `Version: ${rpm.version}`,
    `Release: ${rpm.release ?? '1'}`,
    `Summary: A stand-in for ${rpm.name}`,
    'License: Apache-2.0',
    ...(arch === 'noarch' ? ['BuildArch: noarch'] : []),
    '%description\nOnly its name and version are those of the package it stands in for.',
    '%install',
    ...(rpm.unit === undefined
      ? ['%files']
      : [
          `mkdir -p %{buildroot}/usr/bin %{buildroot}${units}`,
          // The boot asks kubelet for its version.
          `printf '#!/bin/sh\\n[ "$1" != --version ] || { echo Kubernetes v${rpm.version}; exit; }\\nexec sleep infinity\\n' >%{buildroot}${program}`,
          `printf '[Unit]\\nDescription=%s (stand-in)\\n[Service]\\nExecStart=%s\\n[Install]\\nWantedBy=multi-user.target\\n' ${rpm.name} ${program} >%{buildroot}${unit}`,
          `%files\n%attr(0755,root,root) ${program}\n${rpm.unitInEtc ? '%config(noreplace) ' : ''}%attr(0644,root,root) ${unit}`,
        ]),
  ];
  writeFileSync(spec, `${lines.join('\n')}\n`);
  must(['rpmbuild', '--quiet', '-bb', `--define=_topdir ${folder}`, `--target=${arch}`, spec]);
  const built = join(folder, 'RPMS', arch);
  const [file = ''] = readdirSync(built);
  const target = join(into, file);
  cpSync(join(built, file), target);
  rmSync(folder, { recursive: true });
  return target;
}

function makeSigner(work: string, name: string) {
  const home = join(work, `gpg-${name}`);
  mkdirSync(home, { mode: 0o700 });
  const gpg = (...args: string[]) =>
    must(['gpg', `--homedir=${home}`, '--batch', '--quiet', '--yes', ...args]);
  const mail = `${name}@stand-in.test`;
  gpg('--passphrase', '', '--quick-generate-key', mail, 'rsa2048', 'sign', '1d');
  const listed = gpg('--with-colons', '--list-keys', mail);
  return {
    publicKey: gpg('--armor', '--export', mail),
    fingerprint: /^fpr:+([0-9A-F]{40}):/m.exec(listed)?.[1] ?? '',
    sign: (rpm: string) =>
      must([
        'rpmsign',
        '--define=__gpg /usr/bin/gpg',
        `--define=_gpg_path ${home}`,
        `--define=_gpg_name ${mail}`,
        '--addsign',
        rpm,
      ]),
    detach: (file: string, armor: boolean) =>
      gpg(
        ...(armor ? ['--armor'] : []),
        '--output',
        `${file}.${armor ? 'asc' : 'sig'}`,
        '--detach-sign',
        file,
      ),
  };
}

function makeCertificates(work: string, names: string[]) {
  const file = (name: string) => join(work, name);
  const openssl = (...args: string[]) => must(['openssl', ...args]);
  const [authority, authorityKey] = [file('ca.pem'), file('ca.key')];
  const fresh = ['-newkey', 'rsa:2048', '-nodes', '-days', '1'];
  openssl('req', '-x509', ...fresh, '-keyout', authorityKey, '-out', authority, '-subj', '/CN=eniboot test');
  const [key, request, certificate] = [file('www.key'), file('www.csr'), file('www.pem')];
  openssl('req', ...fresh.slice(0, 3), '-keyout', key, '-out', request, '-subj', '/CN=stand-in');
  writeFileSync(file('www.ext'), `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}\n`);
  const signing = ['-CA', authority, '-CAkey', authorityKey, '-CAcreateserial', '-days', '1'];
  openssl('x509', '-req', '-in', request, ...signing, '-extfile', file('www.ext'), '-out', certificate);
  return { authority, certificate, key };
}
