/** Limits of an instance type: network interfaces and IPv4 addresses on each (a /28 prefix counts as one). */
export interface TypeLimits {
  /** On each network card. */
  enis: number;
  /** Network cards; default 1. */
  cards?: number;
  addressesPerEni: number;
  vcpus: number;
  memoryMiB: number;
  arch: 'x86_64' | 'arm64';
  hypervisor: 'nitro' | 'xen';
}

function nitro(
  enis: number,
  addressesPerEni: number,
  vcpus: number,
  memoryGiB: number,
  arch: TypeLimits['arch'] = 'x86_64',
): TypeLimits {
  return { enis, addressesPerEni, vcpus, memoryMiB: memoryGiB * 1024, arch, hypervisor: 'nitro' };
}

/** Source: amazon-vpc-cni-k8s `pkg/vpc/vpc_ip_resource_limit.go` and EC2's instance type pages. */
export const instanceTypes: Record<string, TypeLimits> = {
  't2.medium': { enis: 3, addressesPerEni: 6, vcpus: 2, memoryMiB: 4096, arch: 'x86_64', hypervisor: 'xen' },
  't3.nano': nitro(2, 2, 2, 0.5),
  't3.small': nitro(3, 4, 2, 2),
  't3.medium': nitro(3, 6, 2, 4),
  'm4.large': { enis: 2, addressesPerEni: 10, vcpus: 2, memoryMiB: 8192, arch: 'x86_64', hypervisor: 'xen' },
  'm5.large': nitro(3, 10, 2, 8),
  'm5.xlarge': nitro(4, 15, 4, 16),
  'm5.2xlarge': nitro(4, 15, 8, 32),
  'm5.4xlarge': nitro(8, 30, 16, 64),
  'm5.24xlarge': nitro(15, 50, 96, 384),
  'c5.large': nitro(3, 10, 2, 4),
  'c5.4xlarge': nitro(8, 30, 16, 32),
  'r5.xlarge': nitro(4, 15, 4, 32),
  'm6i.large': nitro(3, 10, 2, 8),
  'm6g.large': nitro(3, 10, 2, 8, 'arm64'),
  'm7g.xlarge': nitro(4, 15, 4, 16, 'arm64'),
  'trn1.32xlarge': { ...nitro(5, 50, 128, 512), cards: 8 },
  'c6g.medium': nitro(2, 4, 1, 2, 'arm64'),
  // Invented: a type that EC2 knows and that no published table has.
  'z9.large': nitro(3, 10, 2, 8),
};
