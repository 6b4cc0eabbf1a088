import type { CreateTagsRequest, DeleteTagsRequest, Tag, TagSpecification } from '@aws-sdk/client-ec2';
import { refusal } from '../../requests/check.ts';
import { AwsError, missing } from '../errors.ts';
import { shownTags, type World } from '../world.ts';

export function createTags(world: World, request: CreateTagsRequest): object {
  const given = entries(request.Tags ?? []);
  const all = holders(world, request.Resources);
  // One unknown ID refuses the whole call.
  for (const id of request.Resources ?? [])
    if (world.instances.get(id)?.tagsInMetadata === true)
      requireMetadataKeys(
        'CreateTags',
        given.map(([key]) => key),
      );
  for (const tags of all) {
    const keys = new Set([...tags.keys(), ...given.map(([key]) => key)]);
    if (keys.size > MOST)
      throw new AwsError('TagLimitExceeded', `The maximum number of tags per resource is ${MOST}.`);
  }
  for (const [at, tags] of all.entries()) {
    const id = request.Resources?.[at] ?? '';
    // A describe shows the new tags later. Source: EC2 developer guide, "Ensuring idempotency" and "Eventual consistency in the Amazon EC2 API".
    if (shownTags(world, id, tags) === tags)
      world.retagged.set(id, { at: world.scheduler.now(), before: new Map(tags) });
    for (const [key, value] of given) tags.set(key, value);
  }
  return {};
}

/** Source: EC2 user guide, "Tag restrictions". */
const MOST = 50;

/**
 * Where IMDS shows an instance's tags, their keys become paths. Source: EC2 user guide, "View tags for your EC2 instances using
 * instance metadata"; the error's text is from aws/karpenter-provider-aws#1527.
 */
export function requireMetadataKeys(action: string, keys: Iterable<string>): void {
  for (const key of keys)
    if (!/^[0-9a-zA-Z\-_+=,.@:]{1,255}$/.test(key) || ['.', '..', '_index'].includes(key))
      throw refusal(
        'ec2',
        action,
        'InvalidParameterValue',
        `'${key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{1,255}), and must not be a reserved name ('.', '..', '_index')`,
      );
}

export function deleteTags(world: World, request: DeleteTagsRequest): object {
  for (const tags of holders(world, request.Resources)) {
    if (request.Tags === undefined) tags.clear();
    for (const { Key, Value } of request.Tags ?? []) {
      if (Key !== undefined && (Value === undefined || tags.get(Key) === Value)) tags.delete(Key);
    }
  }
  return {};
}

export function tagsFrom(
  specifications: TagSpecification[] | undefined,
  resource: string,
): Map<string, string> {
  const tags = new Map<string, string>();
  for (const one of specifications ?? [])
    if (one.ResourceType === resource)
      for (const [key, value] of entries(one.Tags ?? [])) tags.set(key, value);
  return tags;
}

export interface Tagged {
  id: string;
  kind: string;
  tags: Map<string, string>;
}

/** The objects of the region that can have tags: all, or those with the given IDs (a fleet asks for one of thousands). */
export function taggedObjects(world: World, ids: string[] | undefined): Tagged[] {
  const kinds: [string, ReadonlyMap<string, { id: string; tags: Map<string, string> }>][] = [
    ['instance', world.instances],
    ['network-interface', world.enis],
    ['subnet', world.subnets],
    ['security-group', world.groups],
    ['image', world.images],
    ['snapshot', world.snapshots],
    ['vpc', new Map([[world.vpc.id, world.vpc]])],
  ];
  return kinds.flatMap(([kind, objects]) => {
    const found = ids === undefined ? [...objects.values()] : ids.flatMap((id) => objects.get(id) ?? []);
    return found.map(({ id, tags }) => ({ id, kind, tags: shownTags(world, id, tags) }));
  });
}

function holders(world: World, ids: string[] | undefined): Map<string, string>[] {
  if (ids === undefined || ids.length === 0) throw missing('ResourceId');
  return ids.map((id) => {
    const tags =
      world.enis.get(id)?.tags ??
      world.instances.get(id)?.tags ??
      world.subnets.get(id)?.tags ??
      world.groups.get(id)?.tags ??
      world.elasticIps.get(id)?.tags ??
      world.images.get(id)?.tags ??
      world.snapshots.get(id)?.tags ??
      (id === world.vpc.id ? world.vpc.tags : undefined);
    if (tags === undefined) throw new AwsError('InvalidID', `The ID '${id}' is not valid`);
    return tags;
  });
}

function entries(tags: Tag[]): [string, string][] {
  return tags.flatMap(({ Key, Value }) => {
    return Key === undefined ? [] : [[Key, Value ?? '']];
  });
}
