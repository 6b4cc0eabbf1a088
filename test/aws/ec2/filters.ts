import type { Filter } from '@aws-sdk/client-ec2';
import { AwsError, invalidValue } from './errors.ts';

/** A filter name → the values an object has for it. */
export type Attributes<T> = Record<string, (one: T) => (string | undefined)[]>;

interface Filterable {
  tags: Map<string, string>;
}

/** Every filter must match, by one of its values; `*` and `?` are wildcards, as in EC2. */
export function matching<T extends Filterable>(
  objects: T[],
  filters: Filter[] | undefined,
  attributes: Attributes<T>,
): T[] {
  return (filters ?? []).reduce((left, { Name = '', Values = [] }) => {
    const patterns = Values.map(pattern);
    const valuesOf = attributeOf(Name, attributes);
    return left.filter((one) =>
      valuesOf(one).some((value) => value !== undefined && patterns.some((test) => test(value))),
    );
  }, objects);
}

function attributeOf<T extends Filterable>(
  name: string,
  attributes: Attributes<T>,
): (one: T) => (string | undefined)[] {
  if (name.startsWith('tag:')) return (one) => [one.tags.get(name.slice(4))];
  if (name === 'tag-key') return (one) => [...one.tags.keys()];
  if (name === 'tag-value') return (one) => [...one.tags.values()];
  const known = attributes[name];
  if (known === undefined) throw invalidValue(`The filter '${name}' is invalid`);
  return known;
}

function pattern(text: string): (value: string) => boolean {
  if (!/[*?]/.test(text)) return (value) => value === text;
  const source = text
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  const expression = new RegExp(`^${source}$`, 's');
  return (value) => expression.test(value);
}

/** Cuts one page out; the token is opaque to the caller. */
export function page<T>(
  objects: T[],
  request: { MaxResults?: number | undefined; NextToken?: string | undefined },
): { items: T[]; NextToken?: string } {
  const start = request.NextToken === undefined ? 0 : decodeToken(request.NextToken);
  if (request.MaxResults === undefined) return { items: objects.slice(start) };
  if (request.MaxResults < 5 || request.MaxResults > 1000)
    throw invalidValue(
      `Value ( ${request.MaxResults} ) for parameter maxResults is invalid. Expecting a value between 5 and 1000.`,
    );
  const end = start + request.MaxResults;
  return {
    items: objects.slice(start, end),
    ...(end < objects.length ? { NextToken: Buffer.from(`page:${end}`).toString('base64url') } : {}),
  };
}

function decodeToken(token: string): number {
  const found = /^page:(\d+)$/.exec(Buffer.from(token, 'base64url').toString());
  if (found === null) throw new AwsError('InvalidNextToken', 'The provided NextToken is invalid.');
  return Number(found[1]);
}
