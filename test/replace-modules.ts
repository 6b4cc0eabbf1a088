// Runs the product's own modules in this process, with some of them replaced by name when they are loaded.
import { existsSync, readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';

const STAND_IN = '?stand-in';
const REAL = '?real';

/** URL of a module of the agent, such as `boot/attach.ts`. */
export const agentModule = (path: string) => new URL(`../agent/${path}`, import.meta.url).href;

/** `from`: only in imports of this module. */
export type Replacement = { module: string; from?: string; instead: string };

/**
 * Must be called before a replaced module is imported. A module of eniboot keeps the names that it exports, each from the
 * replacement; constants are the real ones. A function without a stand-in may be imported, but a call of it throws, so that nothing
 * reaches this machine unnoticed. A module of another package is replaced whole.
 */
export function replaceModules(replacements: Replacement[]): void {
  const ours = new Map(
    replacements
      .filter((one) => one.from === undefined)
      .map((one): [string, string] => [agentModule(`${one.module}.ts`), one.instead]),
  );
  const foreign = replacements.filter((one) => one.from !== undefined);
  const named = [...ours.keys(), ...foreign.map(({ from }) => agentModule(`${from}.ts`))];
  const missing = named.filter((url) => !existsSync(fileURLToPath(url)));
  if (missing.length > 0) throw new Error(`to be replaced, or in it, and not there: ${missing.join(', ')}`);
  registerHooks({
    resolve(specifier, context, next) {
      const whole = foreign.find(
        (one) => one.module === specifier && context.parentURL === agentModule(`${one.from}.ts`),
      );
      if (whole !== undefined) return next(whole.instead, context);
      const found = next(specifier, context);
      return ours.has(found.url) ? { ...found, url: `${found.url}${STAND_IN}` } : found;
    },
    load(url, context, next) {
      if (!url.endsWith(STAND_IN)) return next(url, context);
      const real = url.slice(0, -STAND_IN.length);
      return { format: 'module', shortCircuit: true, source: facade(real, ours.get(real) ?? '') };
    },
  });
}

function facade(real: string, instead: string): string {
  const text = readFileSync(fileURLToPath(real), 'utf8');
  const names = [...text.matchAll(/^export (?:async )?(?:function|const|class) (\w+)/gm)].map(
    ([, name]) => name,
  );
  return `import * as real from '${real}${REAL}';
import * as instead from '${instead}';
const none = (name) => () => { throw new Error('no stand-in for ' + name + ' of ${real}'); };
${names
  .map(
    (name) =>
      `export const ${name} = instead.${name} ?? (typeof real.${name} === 'function' ? none('${name}') : real.${name});`,
  )
  .join('\n')}
`;
}
