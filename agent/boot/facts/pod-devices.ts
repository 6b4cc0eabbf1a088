import type { Link } from '../../host/links.ts';
import { listRoutes, type Route } from '../../host/routes.ts';
import { isDualStack, type NodeFacts, type PodEni } from './facts.ts';

/** The pod ENI's device, by MAC. A device stacked on it may have the same MAC, and does not count. */
export function linkOf({ mac }: Pick<PodEni, 'mac'>, links: Link[]): Link | undefined {
  return links.find((link) => link.mac === mac && !link.stacked);
}

/** The routes of the main table, of both families when pods have both. */
export async function mainRoutes(node: NodeFacts): Promise<Route[]> {
  const both = await Promise.all([listRoutes(), isDualStack(node) ? listRoutes(6) : []]);
  return both.flat();
}
