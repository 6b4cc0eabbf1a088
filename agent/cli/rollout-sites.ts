// The rollouts that a command is about: one for each spec, in its Region, or the recorded one of a cluster.
import { Failure } from '../messages/failure.ts';
import { whoami } from '../port/runtime.ts';
import type { Owner } from '../rollout/record.ts';
import type { Site } from '../rollout/regions.ts';
import type { Spec } from '../rollout/spec.ts';
import type { CommandIo } from './command.ts';
import { readInputFile } from './named-files.ts';
import type { Patience } from './operator.ts';

/** The command line of any verb. */
export interface Asked {
  verb: string;
  /** Paths of the spec files. */
  specs: readonly string[];
  cluster: string | undefined;
  region: string | undefined;
  svg: string | undefined;
  html: string | undefined;
  why: string | undefined;
  over: string | undefined;
  onEvent: string | undefined;
  prometheus: boolean;
  yes: boolean;
  forgive: boolean;
  json: boolean;
}

/** A Region whose rollout has a spec. */
export type SpecSite = Site & { spec: Spec };

/** Size limit of a spec, in bytes. */
const MOST_BYTES = 1024 * 1024;

/** The Regions of the specs, or of --cluster and --region. Calls nothing. Throws USAGE, FILE_READ, SPEC_INVALID. */
export async function sitesOf(asked: Asked, patience: Patience, io: CommandIo): Promise<Site[]> {
  if (asked.specs.length > 0) return specSites(asked, patience, io);
  const cluster = clusterOf(asked);
  const { connectFleet } = await import('./operator.ts');
  return [{ cluster, spec: undefined, ...(await connectFleet(asked.region, patience, io)) }];
}

/** As sitesOf, for verbs that begin a rollout: they need specs. */
export async function specSites(asked: Asked, patience: Patience, io: CommandIo): Promise<SpecSite[]> {
  const { specs, region, verb } = asked;
  if (specs.length === 0)
    throw new Failure('USAGE', `eniboot rollout ${verb}: the file with the spec is missing`);
  if (specs.length > 1 && region !== undefined)
    throw new Failure(
      'USAGE',
      `eniboot rollout ${verb}: --region is for one spec: each of several specs names its Region (where.region)`,
    );
  const { loadSpecs } = await import('../rollout/spec-list.ts');
  const loaded = loadSpecs(specs.map((source) => ({ source, content: readInputFile(source, MOST_BYTES) })));
  const { connectFleet } = await import('./operator.ts');
  const sites: SpecSite[] = [];
  for (const spec of loaded) {
    const { where } = spec;
    if (region !== undefined && where.region !== undefined && where.region !== region)
      throw new Failure(
        'USAGE',
        `eniboot rollout ${verb}: --region ${region} is not that of the spec, ${where.region}`,
      );
    const connection = await connectFleet(where.region ?? region, patience, io);
    sites.push({ cluster: where.cluster, spec, ...connection });
  }
  return sites;
}

/** The one Region of a verb that works in one Region only. Throws USAGE. */
export async function onlySite(asked: Asked, patience: Patience, io: CommandIo): Promise<Site> {
  if (asked.specs.length > 1)
    throw new Failure(
      'USAGE',
      `eniboot rollout ${asked.verb}: it is for one spec; \`rollout status\` with all of them shows how each stands`,
    );
  const [site] = await sitesOf(asked, patience, io);
  if (site === undefined) throw new Failure('INTERNAL', 'one spec is one Region');
  return site;
}

function clusterOf({ verb, cluster }: Asked): string {
  if (cluster !== undefined && /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/.test(cluster)) return cluster;
  throw new Failure(
    'USAGE',
    cluster === undefined
      ? `eniboot rollout ${verb}: --cluster, or the files with the specs, are missing`
      : `eniboot rollout ${verb}: ${cluster} is not a cluster name`,
  );
}

let self: Owner | undefined;
/** This process as the owner of leases. */
export function owner(): Owner {
  self ??= { who: whoami(), token: crypto.randomUUID() };
  return self;
}
