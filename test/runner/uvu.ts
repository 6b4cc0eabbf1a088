// What a test file gets for 'uvu': uvu, with two things added. Only cases that the run is for are registered. When `before`
// fails, the file ends with the reason: uvu itself drops that error, or shows the one of `after` in its place.
import { type Callback, suite as plainSuite, type Test } from 'uvu';
import { isChosen } from './cases.ts';

let registered = 0;

export function suite<T = Record<string, unknown>>(name?: string, context?: T): Test<T> {
  const plain = plainSuite<T>(name, context);
  let own = 0;
  const registering = (register: Test<T>['only']) => (named: string, handler: Callback<T>) => {
    if (!isChosen(named)) return;
    own += 1;
    registered += 1;
    register(named, handler);
  };
  return Object.assign(registering(plain), plain, {
    only: registering(plain.only),
    before: Object.assign((hook: Callback<T>) => plain.before(orEnd(hook)), { each: plain.before.each }),
    run: () => {
      if (own > 0) plain.run();
      // What the file has started before would keep the process alive.
      else setTimeout(() => registered === 0 && process.exit(0));
    },
  });
}

export const test = suite();

/** Ends the process: its sandbox clears away what the set-up has made so far. */
function orEnd<T>(hook: Callback<T>): Callback<T> {
  return async (context) => {
    try {
      await hook(context);
    } catch (error) {
      process.stderr.write(
        `\nbefore the first case: ${error instanceof Error ? error.stack : String(error)}\n`,
      );
      process.exit(1);
    }
  };
}
