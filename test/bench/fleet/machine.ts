// Stand-ins for a machine: files in memory, devices that appear after EC2 has attached an ENI, an nftables table and sysctls
// that always are as requested, a pool that only counts.
import type { Link } from '../../../agent/host/links.ts';
import { BOOT_ENI_MARK, BOOT_ENI_RULE_PRIORITY } from '../../../agent/host/names.ts';
import type { Route, Rule } from '../../../agent/host/routes.ts';
import type { Owned } from '../../../agent/pool/entry.ts';
import { enisOf } from '../../aws/ec2/world.ts';
import { currentLife } from './life.ts';
import { DEVICE_MS, metadataOf } from './region.ts';

/** Type guard for Node's system errors, as in the port. */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

export function readIfPresent(path: string): string | undefined {
  return currentLife().node.files.get(path);
}

export function readJsonIfPresent(path: string): unknown {
  const text = readIfPresent(path);
  return text === undefined ? undefined : JSON.parse(text);
}

export function writeAtomic(path: string, text: string | Uint8Array): void {
  currentLife().node.files.set(path, String(text));
}

export function writeIfChanged(path: string, text: string): boolean {
  if (readIfPresent(path) === text) return false;
  writeAtomic(path, text);
  return true;
}

/** Names in a folder, from the files that were written there. */
export function listIfPresent(path: string): string[] {
  const { files } = currentLife().node;
  return [...files.keys()]
    .filter((one) => one.startsWith(`${path}/`))
    .map((one) => one.slice(path.length + 1));
}

/** Discards the line on the console. */
export function appendFileSync(): void {}

/** Removes the mark of an earlier reboot. */
export function rmSync(path: string): void {
  currentLife().node.files.delete(path);
}

/** Does nothing: digests do not matter for a fleet. */
export function rememberDigests(): void {}

export async function takeLock(): Promise<{ release: () => void }> {
  return { release: () => {} };
}

export async function digestOf(): Promise<{ sha256: string; ms: number }> {
  return { sha256: '', ms: 0 };
}

export const BOOT_DEVICE = 'ens5';

/** A device appears DEVICE_MS after EC2 says `attached`. */
export async function listLinks(): Promise<Link[]> {
  const { node, region } = currentLife();
  return enisOf(region.ec2.world, node.instanceId)
    .filter(({ attachment }) => {
      if (attachment?.deviceIndex === 0) return true;
      return attachment?.status === 'attached' && region.scheduler.now() >= attachment.attachedAt + DEVICE_MS;
    })
    .map((eni, at) => ({
      index: at + 2,
      name: at === 0 ? BOOT_DEVICE : `ens${5 + (eni.attachment?.deviceIndex ?? 0)}`,
      mac: eni.mac,
      mtu: 9001,
      up: true,
      carrier: true,
      kind: undefined,
      stacked: false,
      bus: 'pci',
      ipv6Auto: false,
      addresses:
        at === 0
          ? [{ family: 4, address: eni.primaryIp, prefixLength: 16, scope: 'global', dynamic: true }]
          : [],
    }));
}

export async function waitForLinks(
  found: (links: Link[]) => boolean,
  timeoutMs: number,
): Promise<Link[] | undefined> {
  const { clock } = currentLife();
  for (const started = clock.bootMs(); clock.bootMs() - started < timeoutMs; ) {
    const links = await listLinks();
    if (found(links)) return links;
    await clock.sleep(100);
  }
  return undefined;
}

export async function listRoutes(): Promise<Route[]> {
  return [{ family: 4, destination: 'default', gateway: '10.0.0.1', device: BOOT_DEVICE, protocol: 'dhcp' }];
}

export async function listRules(): Promise<Rule[]> {
  return [{ priority: BOOT_ENI_RULE_PRIORITY, mark: BOOT_ENI_MARK, mask: BOOT_ENI_MARK, table: 'main' }];
}

export async function routeTo(): Promise<{ device: string; source: string }> {
  const { node, region } = currentLife();
  return { device: BOOT_DEVICE, source: metadataOf(region, node.instanceId).boot.primaryIp };
}

/** The kernel has every requested change at once. */
export function inNode(): undefined {}

export function readSysctl(path: string): string {
  return path.endsWith('rp_filter') ? '2' : '1';
}

/** No device here carries packets. */
export function deviceOf(): undefined {}

export function deviceName({ name }: { name: string }): string {
  return name;
}

export async function readTables(): Promise<void> {}

export function compareTables(): { intact: boolean; present: boolean } {
  return { intact: true, present: true };
}

export async function replaceTables(): Promise<void> {}

export function listOwned(): Owned[] {
  return currentLife().node.pool;
}

export function ownedCidrs(): string[] {
  return listOwned().map((owned) => owned.cidr);
}

export function addToPool(owned: Owned): boolean {
  const { pool } = currentLife().node;
  if (pool.some((one) => one.cidr === owned.cidr)) return false;
  pool.push(owned);
  return true;
}

export function countStates() {
  const free = listOwned().reduce((sum, { cidr }) => sum + (cidr.endsWith('/28') ? 16 : 1), 0);
  return { free, leased: 0, cooling: 0, retiring: 0 };
}

/** True: no program moves a prefix in the modelled region. */
export function mayEnter(owned: Owned): boolean {
  return !listOwned().some((one) => one.cidr === owned.cidr);
}

/** False: an addition to the modelled pool is never half done. */
export function isAdding(): boolean {
  return false;
}
