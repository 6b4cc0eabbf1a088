// Which cases a run is for: `npm test -- NAME -t PATTERN` hands PATTERN to the process of each file.

/** The environment variable with the pattern, a regular expression. Unset: every case. */
export const CASES = 'ENIBOOT_CASES';

const given = process.env[CASES];
const pattern = given === undefined ? undefined : new RegExp(given);

/** Also for a file that prepares each case before uvu asks for it. */
export function isChosen(name: string): boolean {
  return pattern === undefined || pattern.test(name);
}
