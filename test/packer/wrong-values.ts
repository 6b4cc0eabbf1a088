// For each variable of packer/variables.pkr.hcl: wrong values, and the allowed values that the message must name.
const digest = (digit: string) => digit.repeat(64);
const image = (id: string, name = 'Fedora-Cloud-Base-AmazonEC2.x86_64-44-0.0') => ({ id, name });
const good = image('ami-00000000000000001');
const goodArm = image('ami-00000000000000002', 'Fedora-Cloud-Base-AmazonEC2.aarch64-44-0.0');
const prints = (one: string) => ({ kubernetes: one, crio: 'A'.repeat(40), ssm_agent: 'B'.repeat(40) });

export const wrongValues: Record<string, [value: unknown, says: RegExp][]> = {
  region: [
    ['', /not an AWS Region such as/],
    ['eu-west-1a', /not an AWS Region such as/],
  ],
  subnet_id: [['vpc-12345678', /neither empty nor a subnet such as/]],
  ssh_interface: [['public_dns', /neither public_ip nor private_ip/]],
  ssh_source_cidrs: [
    [['192.0.2.1'], /not a range such as/],
    [['192.0.2.0/33'], /not a range such as/],
  ],
  base_images: [
    [{}, /given for arm64 and x86_64/],
    [{ x86_64: good }, /given for arm64 and x86_64/],
    [{ x86_64: good, arm64: image('latest') }, /not an image such as ami-/],
    [
      { x86_64: good, arm64: image('ami-00000000000000002', 'Fedora-Cloud-Base-Prerelease') },
      /not that of a released Fedora/,
    ],
    [{ x86_64: good, arm64: image('ami-00000000000000002') }, /aarch64-44-1\.7 for arm64/],
    [
      {
        x86_64: image('ami-00000000000000001', 'Fedora-Cloud-Base-AmazonEC2.x86_64-44-Prerelease-1.2'),
        arm64: goodArm,
      },
      /not that of a released Fedora/,
    ],
    [{ x86_64: 'ami-00000000000000001', arm64: good }, /Invalid value|object required|unsuitable/i],
  ],
  fedora_version: [
    [42, /not a release from 43 on/],
    [44.5, /not a release from 43 on/],
    ['rawhide', /number/i],
  ],
  kubernetes_version: [
    ['1.36', /not a full version from 1\.34\.0 on/],
    ['1.33.9', /not a full version from 1\.34\.0 on/],
    ['v1.36.0', /not a full version from 1\.34\.0 on/],
  ],
  crio_version: [['latest', /not a full version from 1\.34\.0 on/]],
  key_fingerprints: [
    [{ kubernetes: 'A'.repeat(40) }, /given for crio, kubernetes and ssm_agent/],
    [prints('DE AD'), /not 40 hexadecimal digits/],
    [prints('a'.repeat(40)), /not 40 hexadecimal digits/],
  ],
  ssm_agent: [
    [{ version: 'latest', sha256: { x86_64: digest('1'), arm64: digest('2') } }, /not one such as 3\./],
    [{ version: '3.3.1.0', sha256: { x86_64: digest('1') } }, /64 hexadecimal digits for each/],
    [{ version: '3.3.1.0', sha256: { x86_64: 'abc', arm64: digest('2') } }, /64 hexadecimal digits for each/],
  ],
  pause_image: [
    ['registry.k8s.io/pause:3.10', /REGISTRY\/NAME:TAG@sha256:DIGEST/],
    [`pause@sha256:${digest('1')}`, /REGISTRY\/NAME:TAG@sha256:DIGEST/],
  ],
  packages_lock: [
    ['locks/packages.lock', /no %s for the architecture/],
    ['locks/%d/packages-%s.lock', /another % beside it/],
  ],
  extra_packages: [[['vim; reboot'], /not the name of a package/]],
  extra_files: [
    [['/usr/bin/own'], /not a path below/],
    [['/etc/own file'], /not a path below/],
  ],
  instance_types: [
    [{ x86_64: 'm7i.large' }, /for each of arm64 and x86_64/],
    [{ x86_64: 'm7i.large', arm64: 'large' }, /for each of arm64 and x86_64/],
  ],
  volume_gib: [
    [9, /whole number from 10/],
    [20.5, /whole number from 10/],
    [20_000, /to 16384/],
  ],
  kms_key_id: [['my key', /neither empty nor a key ID/]],
  copy_kms_key_ids: [
    [{ Frankfurt: 'alias/x' }, /not an AWS Region such as/],
    [{ 'eu-central-1': 'my key' }, /not a key ID, an ARN or an alias/],
  ],
  share_with_accounts: [[['1234'], /not an account of 12 digits/]],
  copy_to_regions: [[['Frankfurt'], /not an AWS Region such as/]],
  poll_seconds: [
    [0, /whole number from 1 to 60/],
    [1.5, /whole number from 1 to 60/],
  ],
  deprecate_after_days: [
    [0, /whole number from 1 to 3650/],
    [4_000, /whole number from 1 to 3650/],
  ],
  tags: [
    [{ 'aws:name': 'x' }, /aws: or eniboot:/],
    [{ 'AWS:name': 'x' }, /aws: or eniboot:/],
    [{ 'eniboot:version': 'x' }, /aws: or eniboot:/],
    [{ '': 'x' }, /not of 1 to 128 characters/],
    [{ team: 'x'.repeat(257) }, /value of more than 256/],
  ],
};

const key = 'arn:aws:kms:eu-central-1:123456789012:key/mrk-0123456789abcdef0123456789abcdef';
const sharing = { share_with_accounts: ['123456789012'], kms_key_id: 'alias/images' };
const copying = { ...sharing, copy_to_regions: ['eu-central-1'] };
/** Values that are each right, and the message when they are wrong together; undefined when they are right together as well. */
export const wrongTogether: [values: object, says: RegExp | undefined][] = [
  [sharing, undefined],
  [{ ...sharing, kms_key_id: '' }, /Cannot share AMI encrypted with default KMS key/],
  [{ copy_to_regions: ['eu-central-1'] }, undefined],
  [copying, /Cannot share AMI encrypted with default KMS key for other regions/],
  [{ ...copying, copy_kms_key_ids: { 'eu-central-1': key } }, undefined],
  [
    { ...copying, copy_kms_key_ids: { 'eu-central-1': key }, kms_key_id: '' },
    /Cannot share AMI encrypted with default KMS key/,
  ],
  [
    { ...copying, copy_kms_key_ids: { 'eu-central-1': key, 'eu-west-2': key } },
    /eu-west-2 is in region_kms_key_ids but not in ami_regions/,
  ],
  [{ copy_to_regions: ['eu-central-1', 'eu-central-1'] }, undefined],
  [{ crio_version: '1.35.2' }, /crio_version 1\.35\.2 is not of the minor of kubernetes_version 1\.36\.0/],
  [{ fedora_version: 43 }, /fedora_version 43 is not the release in the names of base_images/],
  [{ ssh_interface: 'private_ip' }, undefined],
  [{ ssh_source_cidrs: ['192.0.2.0/24', '198.51.100.7/32'] }, undefined],
];
