// What `nft -j list` says, in a form that can be compared. A file of its own, because the CNI path needs it and must
// not load what else knows of nftables.

/** Drops what differs between equal tables: handles, the tool's version, counters' values. */
export function canonical(json: string): string {
  return JSON.stringify(entriesOf(json), withoutNoise);
}

/** The chains (with their rules), sets and maps of a listing, each as a text that is equal for equal content. */
export function objectsOf(json: string): Map<string, string> {
  const objects = new Map<string, string>();
  for (const entry of entriesOf(json)) {
    const [[kind, value] = []] = Object.entries(entry) as [string, Record<string, unknown>][];
    const name = kind === 'rule' ? value?.['chain'] : value?.['name'];
    if (kind === 'table' || typeof name !== 'string') continue;
    objects.set(name, `${objects.get(name) ?? ''}${JSON.stringify(entry, withoutNoise)}\n`);
  }
  return objects;
}

function entriesOf(json: string): Record<string, unknown>[] {
  const listing = JSON.parse(json) as { nftables: Record<string, unknown>[] };
  return listing.nftables.filter((entry) => !('metainfo' in entry));
}

function withoutNoise(key: string, value: unknown): unknown {
  if (key === 'handle') return undefined;
  if (key === 'counter' && typeof value === 'object') return {};
  return value;
}
