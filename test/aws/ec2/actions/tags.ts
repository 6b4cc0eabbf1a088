import type { CreateTagsRequest, DeleteTagsRequest, Tag, TagSpecification } from '@aws-sdk/client-ec2';
import { AwsError, missing } from '../errors.ts';
import type { World } from '../world.ts';

export function createTags(world: World, request: CreateTagsRequest): object {
  if (request.Tags === undefined) throw missing('Tag');
  for (const tags of holders(world, request.Resources))
    for (const [key, value] of entries(request.Tags)) tags.set(key, value);
  return {};
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

/** The taggable objects of the region: those with the given IDs (a fleet asks for one of thousands), or all. */
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
    return found.map(({ id, tags }) => ({ id, kind, tags }));
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
    if (Key === undefined) return [];
    if (Key.startsWith('aws:'))
      throw new AwsError(
        'InvalidParameterValue',
        `Tag keys starting with 'aws:' are reserved for internal use`,
      );
    return [[Key, Value ?? '']];
  });
}
