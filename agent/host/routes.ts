// The node's routes and policy rules as iproute2 lists them.
import { run } from '../port/exec.ts';
import { succeeded } from '../port/exec-result.ts';
import { commandFailed } from './command.ts';
import { listIp, number, parseIp, text } from './ip-json.ts';

export interface Route {
  family: 4 | 6;
  destination: string;
  gateway: string | undefined;
  device: string | undefined;
  protocol: string;
}

export interface Rule {
  priority: number;
  mark: number | undefined;
  mask: number | undefined;
  table: string;
}

/** Routes of the main table. */
export async function listRoutes(family: 4 | 6 = 4): Promise<Route[]> {
  const entries = await listIp(`-${family}`, 'route', 'show', 'table', 'main');
  return entries.map((entry) => ({
    family,
    destination: String(entry['dst']),
    gateway: text(entry['gateway']),
    device: text(entry['dev']),
    protocol: String(entry['protocol'] ?? ''),
  }));
}

export async function listRules(family: 4 | 6 = 4): Promise<Rule[]> {
  return (await listIp(`-${family}`, 'rule', 'show')).map((entry) => ({
    priority: Number(entry['priority']),
    mark: number(entry['fwmark']),
    mask: number(entry['fwmask']),
    table: String(entry['table'] ?? ''),
  }));
}

/**
 * The device and source address that the kernel would use to reach an address; undefined when the kernel has no route: `ip`
 * then ends with 2. It ends with 1 when it could not ask the kernel. Source: ip(8), EXIT STATUS.
 */
export async function routeTo(address: string): Promise<{ device: string; source: string } | undefined> {
  const args = ['-j', '-4', 'route', 'get', address];
  const result = await run('ip', args);
  if (result.exitCode === 2) return undefined;
  if (!succeeded(result)) throw commandFailed('KERNEL_QUERY', ['ip', ...args], result);
  const entry = parseIp(result.stdout)[0];
  if (entry === undefined) return undefined;
  return { device: String(entry['dev'] ?? ''), source: String(entry['prefsrc'] ?? '') };
}
