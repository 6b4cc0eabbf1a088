/** What an answer of EC2 and Systems Manager has when there is more; empty means the same as absent. */
interface Page {
  NextToken?: string | undefined;
}

/** Everything of a list, page by page. `read` gets what belongs into the next request. */
export async function allPages<Answer extends Page, Item>(
  read: (next: { NextToken?: string }) => Promise<Answer>,
  items: (page: Answer) => Item[] | undefined,
): Promise<Item[]> {
  const found: Item[] = [];
  let next: { NextToken?: string } = {};
  for (;;) {
    const page = await read(next);
    found.push(...(items(page) ?? []));
    if (page.NextToken === undefined || page.NextToken === '') return found;
    next = { NextToken: page.NextToken };
  }
}
