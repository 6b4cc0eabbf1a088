// What `nft -j list` says, in a form that can be compared. A file of its own, because the CNI path needs it and must
// not load what else knows of nftables.

/** Drops what differs between equal tables: handles, the tool's version, counters' values. A JSON array. */
export function canonical(json: string): string {
  const listing = JSON.parse(json) as { nftables: Record<string, unknown>[] };
  const kept = listing.nftables.filter((entry) => !('metainfo' in entry));
  return JSON.stringify(kept, (key, value: unknown) => {
    if (key === 'handle') return undefined;
    if (key === 'counter' && typeof value === 'object') return {};
    return value;
  });
}

/** The chains (with their rules), sets and maps of a canonical listing, each as a text of its own. */
export function objectsOf(listing: string): Map<string, string> {
  const objects = new Map<string, string>();
  for (const entry of JSON.parse(listing) as Record<string, unknown>[]) {
    const [object] = Object.entries(entry) as [string, Record<string, unknown>][];
    const [kind, value] = object ?? ['', {}];
    const name = kind === 'rule' ? value['chain'] : value['name'];
    if (kind === 'table' || typeof name !== 'string') continue;
    objects.set(name, `${objects.get(name) ?? ''}${JSON.stringify(entry)}\n`);
  }
  return objects;
}
