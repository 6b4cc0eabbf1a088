// Runs `eniboot plan` on a node and parses its output.
import { ENIBOOT, type Node } from './node.ts';

export interface Planned {
  name: string;
  changes: string[];
  failed?: string;
  provisional?: boolean;
}

export interface Plan {
  phases: Planned[];
  failure?: { code: string };
}

/** @param path the agent's PATH, where it differs from the usual one */
export async function planOf({ instance }: Pick<Node, 'instance'>, path?: string): Promise<Plan> {
  const environment = path === undefined ? [] : [`PATH=${path}`];
  const { stdout, stderr } = await instance.run('env', [...environment, ENIBOOT, 'plan', '--json'], {
    timeoutMs: 60_000,
  });
  if (!stdout.startsWith('{')) throw new Error(`no plan: ${stderr}`);
  return JSON.parse(stdout) as Plan;
}
