// What a modelled node is made of. The agent's modules run as they are, but for those that touch a machine:
// these are replaced, by name, when they are loaded. This list is the whole difference to a real boot.
import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';

const agent = (path: string) => new URL(`../../../agent/${path}`, import.meta.url).href;
const here = (path: string) => new URL(path, import.meta.url).href;

const machine = ['port/fs', 'host/links', 'host/nft', 'host/sysctl', 'host/lock', 'host/digest'];
const pool = ['pool/pool', 'pool/give-back', 'pool/leaving-enis'];
const phases = ['node-config', 'identify', 'reserve', 'install', 'kubelet', 'verify', 'ready'];
const replaced = new Map<string, string>([
  ...[...machine, ...pool].map((name): [string, string] => [agent(`${name}.ts`), here('machine.ts')]),
  ...phases.map((name): [string, string] => [agent(`boot/${name}.ts`), here('phases.ts')]),
]);
const SDK = '@aws-sdk/client-ec2';
const STAND_IN = '?stand-in';
const REAL = '?real';

/** To be called before anything of the agent is imported. */
export function standIn(): void {
  registerHooks({
    resolve(specifier, context, next) {
      const parent = context.parentURL ?? '';
      if (specifier === SDK && parent === agent('aws/ec2-sdk.ts')) return next(here('sdk.ts'), context);
      // /dev/console is this machine's, not the node's.
      if (specifier === 'node:fs' && parent === agent('boot/verdict.ts'))
        return next(here('machine.ts'), context);
      const found = next(specifier, context);
      return replaced.has(found.url) ? { ...found, url: `${found.url}${STAND_IN}` } : found;
    },
    load(url, context, next) {
      if (!url.endsWith(STAND_IN)) return next(url, context);
      const real = url.slice(0, -STAND_IN.length);
      return { format: 'module', shortCircuit: true, source: facade(real, replaced.get(real) ?? '') };
    },
  });
}

/**
 * The names a replaced module exports, each from its stand-in; constants are the real ones. A function without a
 * stand-in may be imported, but a call to it ends the simulation: nothing reaches this machine unnoticed.
 */
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
