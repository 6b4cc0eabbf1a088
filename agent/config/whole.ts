import * as v from 'valibot';

/** A whole number in bounds. `unit` follows "whole number" in the message about another value, such as ` of seconds`. */
export function whole(minimum: number, maximum: number, unit: string, description: string) {
  const message = `must be a whole number${unit} from ${minimum} to ${maximum}`;
  return v.pipe(
    v.number(),
    v.integer(message),
    v.minValue(minimum, message),
    v.maxValue(maximum, message),
    v.description(description),
  );
}
