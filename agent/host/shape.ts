// Checks of values that were read from a file, as a table of their fields. Written by hand, since a plugin call reads
// such files, and loading valibot takes longer than all other work of the call.
export type Test = (value: unknown) => boolean;

/** Checks every field of the table, also when it is absent; the value may have other fields. */
export function shape<T>(tests: { [Field in keyof T]-?: Test }): (value: unknown) => value is T {
  const fields = Object.entries<Test>(tests);
  return (value): value is T =>
    isObject(value) && fields.every(([field, test]) => test((value as Record<string, unknown>)[field]));
}

export function optional(test: Test): Test {
  return (value) => value === undefined || test(value);
}

export function text(holds: (text: string) => boolean = () => true): Test {
  return (value) => typeof value === 'string' && holds(value);
}

/** @param least number of entries. */
export function list(test: Test, least = 0): Test {
  return (value) => Array.isArray(value) && value.length >= least && value.every((one) => test(one));
}

export function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

export function isCount(value: unknown): boolean {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}

export function isBoolean(value: unknown): boolean {
  return typeof value === 'boolean';
}
