import { Failure } from '../messages/failure.ts';
import { codeOfKind, type Service } from '../messages/kinds.ts';
import { bounds } from '../port/bounds.ts';

/** The part of an answer that says whether there are more pages; an empty token means the same as none. */
interface Page {
  NextToken?: string | undefined;
}

/**
 * All elements of a list, page by page. `read` gets the token for its request. Throws the service's failure for an unreadable
 * answer when the list does not come to an end.
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
    // The same token again would return the same page for ever.
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

/** Cuts a list, in order, into parts of at most `most` elements, as calls accept them. */
export function partsOf<Item>(items: readonly Item[], most: number): Item[][] {
  const parts: Item[][] = [];
  for (let at = 0; at < items.length; at += most) parts.push(items.slice(at, at + most));
  return parts;
}
