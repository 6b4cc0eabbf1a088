// The output of `nft -j list`, in a form that can be compared.

/** The entries of one or several listings, one per line. */
export function entriesOf(json: string): Record<string, unknown>[] {
  const lines = json.split('\n').filter((line) => line !== '');
  return lines.flatMap((line) => (JSON.parse(line) as { nftables: Record<string, unknown>[] }).nftables);
}

/** Drops what differs between equal tables: handles, the tool's version, counter values. Returns a JSON array. */
export function canonical(json: string): string {
  const kept = entriesOf(json).filter((entry) => !('metainfo' in entry));
  return JSON.stringify(kept, (key, value: unknown) => {
    if (key === 'handle') return undefined;
    if (key === 'counter' && typeof value === 'object') return { ...value, packets: 0, bytes: 0 };
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
