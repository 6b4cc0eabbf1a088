// The JSON of iproute2 (`ip -j`).
import { must } from './command.ts';

/** Entries with the field names of iproute2's JSON. */
export async function listIp(...args: string[]): Promise<Record<string, unknown>[]> {
  return parseIp((await must('KERNEL_QUERY', 'ip', ['-j', ...args])).stdout);
}

export function parseIp(json: string): Record<string, unknown>[] {
  return json.trim() === '' ? [] : (JSON.parse(json) as Record<string, unknown>[]);
}

export function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

export function number(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  return typeof value === 'string' ? Number(value) : undefined;
}
