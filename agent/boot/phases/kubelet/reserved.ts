const mebibyte = 1024 * 1024;

/** kubelet's own default `evictionHard` for memory.available on Linux. It is subtracted from allocatable as well. */
const evictionMiB = 100;

/** Shares of each CPU, in ten-thousandths: up to `upTo` millicores, `share` of them. */
const cpuTiers = [
  { upTo: 1000, share: 600 },
  { upTo: 2000, share: 100 },
  { upTo: 4000, share: 50 },
  { upTo: Number.POSITIVE_INFINITY, share: 25 },
];

/**
 * What kubelet sets aside for itself and the runtime: memory 255 MiB + 11 MiB a pod, CPU 6 % of the first core, 1 % of the
 * second, 0.5 % of the next two, 0.25 % of the rest (the formulas of Amazon's EKS nodeadm).
 *
 * These formulas ignore how much memory there is: a 0.5 GiB t3.nano could have 16 pods and no memory left to run them. So at
 * least half of the memory above kubelet's eviction threshold stays allocatable.
 */
export function kubeReserved(node: { maxPods: number; memoryBytes: number; vcpus: number }): {
  cpuMillis: number;
  memoryMiB: number;
} {
  const memoryMiB = Math.floor(node.memoryBytes / mebibyte);
  const half = Math.max(0, Math.floor((memoryMiB - evictionMiB) / 2));
  return { cpuMillis: cpuReserve(node.vcpus * 1000), memoryMiB: Math.min(255 + 11 * node.maxPods, half) };
}

function cpuReserve(millis: number): number {
  let reserved = 0;
  let from = 0;
  for (const tier of cpuTiers) {
    const to = Math.min(millis, tier.upTo);
    if (to <= from) break;
    reserved += Math.floor(((to - from) * tier.share) / 10_000);
    from = to;
  }
  return reserved;
}
