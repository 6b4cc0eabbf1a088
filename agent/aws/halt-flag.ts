// The halt flag of a cluster: a parameter that operators and programs may set to `{ "halted": true, "why": "…" }`. A rollout
// reads it before each batch, a node before it acts.

export interface HaltFlag {
  why: string;
}

export function haltParameter(cluster: string): string {
  return `/eniboot/rollout/${cluster}/halt`;
}

/** undefined while the flag is down. A value that cannot be read counts as up. */
export function parseHaltFlag(text: string | undefined): HaltFlag | undefined {
  if (text === undefined) return undefined;
  try {
    const { halted, why } = JSON.parse(text) as { halted?: unknown; why?: unknown };
    if (halted === false) return undefined;
    return { why: typeof why === 'string' && why !== '' ? why : 'halted by an operator' };
  } catch {
    return { why: `the halt flag holds ${text.slice(0, 40)}` };
  }
}
