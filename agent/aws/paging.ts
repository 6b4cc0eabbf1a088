import { Failure } from '../messages/failure.ts';
import { codeOfKind, type Service } from '../messages/kinds.ts';
import { bounds } from '../port/bounds.ts';

/** What an answer of EC2 and Systems Manager has when there is more; empty means the same as absent. */
interface Page {
  NextToken?: string | undefined;
}

/**
 * Everything of a list, page by page. `read` gets what belongs into the next request. Throws the service's failure for an
 * unreadable answer when the list does not come to an end.
 */
export async function allPages<Answer extends Page, Item>(
  service: Service,
  read: (next: { NextToken?: string }) => Promise<Answer>,
  items: (page: Answer) => Item[] | undefined,
): Promise<Item[]> {
  const found: Item[] = [];
  let next: { NextToken?: string } = {};
  for (let pages = 1; ; pages += 1) {
    const page = await read(next);
    for (const item of items(page) ?? []) found.push(item);
    if (page.NextToken === undefined || page.NextToken === '') return found;
    // The same page again would be followed by itself.
    const circles = page.NextToken === next.NextToken;
    if (circles || pages >= bounds.listPages || found.length > bounds.listItems)
      throw new Failure(
        codeOfKind[service].unreadable,
        `a list of ${service} does not come to an end: ${pages} pages with ${found.length} elements`,
        { pages, elements: found.length },
      );
    next = { NextToken: page.NextToken };
  }
}

/** Cut into pieces of so many at most, in order, as calls take them. */
export function partsOf<Item>(items: readonly Item[], most: number): Item[][] {
  const parts: Item[][] = [];
  for (let at = 0; at < items.length; at += most) parts.push(items.slice(at, at + most));
  return parts;
}
