// Label selectors. Source: LabelSelector in meta/v1 (types.go of k8s.io/apimachinery).
import * as v from 'valibot';

/** A map, since a label may be called `constructor`. */
export type Labels = ReadonlyMap<string, string>;

/** Not valibot's record, which leaves out `constructor` and `prototype`: a selector without them would select more. */
export const labelsSchema = v.optional(
  v.pipe(
    v.custom<Record<string, string>>(
      (value) =>
        typeof value === 'object' &&
        value !== null &&
        Object.values(value).every((text) => typeof text === 'string'),
      'labels are texts by name',
    ),
    v.transform((record): Labels => new Map(Object.entries(record))),
  ),
  {},
);

interface Requirement {
  key: string;
  operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  values: ReadonlySet<string>;
}

/** All requirements must hold. Empty: selects everything. */
export type Selector = readonly Requirement[];

const needsValues = (operator: Requirement['operator']) => operator === 'In' || operator === 'NotIn';

export const selectorSchema = v.strictObject({
  matchLabels: labelsSchema,
  matchExpressions: v.optional(
    v.array(
      v.pipe(
        v.strictObject({
          key: v.string(),
          operator: v.picklist(['In', 'NotIn', 'Exists', 'DoesNotExist']),
          values: v.optional(v.array(v.string()), []),
        }),
        v.check(
          ({ operator, values }) => needsValues(operator) === values.length > 0,
          'In and NotIn need values, the others take none',
        ),
      ),
    ),
    [],
  ),
});

/** Selects everything. */
export const all: Selector = [];

/** The selector that `selectorSchema` has read. */
export function readSelector({
  matchLabels,
  matchExpressions,
}: v.InferOutput<typeof selectorSchema>): Selector {
  return [
    ...Array.from(
      matchLabels,
      ([key, value]): Requirement => ({ key, operator: 'In', values: new Set([value]) }),
    ),
    ...matchExpressions.map(({ key, operator, values }) => ({ key, operator, values: new Set(values) })),
  ];
}

export function matches(selector: Selector, labels: Labels): boolean {
  return selector.every(({ key, operator, values }) => {
    const value = labels.get(key);
    switch (operator) {
      case 'In':
        return value !== undefined && values.has(value);
      // An object without this label is selected: it has none of the values.
      case 'NotIn':
        return value === undefined || !values.has(value);
      case 'Exists':
        return value !== undefined;
      case 'DoesNotExist':
        return value === undefined;
    }
  });
}
