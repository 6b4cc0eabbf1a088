// The options of the verbs of `eniboot image`, and the checks of their forms.
import { Failure } from '../../messages/failure.ts';
import { formed, parseVerb } from '../arguments.ts';
import type { CommandIo } from '../command.ts';
import type { Patience } from '../operator.ts';

const options = {
  json: { type: 'boolean' },
  region: { type: 'string' },
  zone: { type: 'string', multiple: true },
  arch: { type: 'string' },
  at: { type: 'string' },
  fedora: { type: 'string' },
  lock: { type: 'string' },
  'no-copy': { type: 'boolean' },
  subnet: { type: 'string' },
  'pod-subnet': { type: 'string' },
  'user-data': { type: 'string' },
  profile: { type: 'string' },
  'security-group': { type: 'string' },
  'instance-type': { type: 'string' },
  timeout: { type: 'string' },
} as const;

/** The options of each verb; check has its own. */
const taken = {
  'boot-test': [
    ...(['subnet', 'pod-subnet', 'user-data', 'profile', 'security-group', 'instance-type'] as const),
    ...(['timeout', 'region', 'json'] as const),
  ],
  publish: ['zone', 'region', 'json'],
  promote: ['zone', 'region', 'json'],
  rollback: ['arch', 'zone', 'region', 'json'],
  list: ['region', 'json'],
  deprecate: ['at', 'region', 'json'],
  base: ['fedora', 'lock', 'no-copy', 'region', 'json'],
} as const;

export function parsed(verb: keyof typeof taken, args: string[], operands = 0) {
  return parseVerb('image', verb, args, options, taken, operands);
}

export function imageOf(verb: string, [imageId]: string[]): string {
  if (imageId === undefined) throw usage(`${verb}: the AMI is missing`);
  if (!/^ami-[0-9a-f]{8,17}$/.test(imageId)) throw usage(`${verb}: ${imageId} is not the ID of an AMI`);
  return imageId;
}

export function zonesOf(verb: string, zones: string[] | undefined): string[] {
  if (zones === undefined) throw usage(`${verb}: --zone is missing: a zone's ID, such as euw1-az1`);
  const form = /^[a-z0-9]+(-[a-z0-9]+)*-az\d+$/;
  for (const zone of zones) formed(`image ${verb}`, '--zone', zone, form, "a zone's ID, such as euw1-az1");
  return [...new Set(zones)];
}

export function usage(what: string): Failure {
  return new Failure('USAGE', `eniboot image ${what}`);
}

export async function connect(region: string | undefined, patience: Patience, io: CommandIo) {
  const { connectImages } = await import('../operator.ts');
  return connectImages(region, patience, io);
}
