// Loaded before each test file: its 'uvu' becomes ./uvu.ts, under Node and under the executable's runtime.
import * as modules from 'node:module';
import * as own from './uvu.ts';

interface Build {
  module(specifier: string, load: () => { exports: object; loader: 'object' }): void;
}
interface Bun {
  plugin(what: { name: string; setup(build: Build): void }): void;
}
const { Bun } = globalThis as { Bun?: Bun };

// For the test's own process only: what it starts runs as elsewhere.
delete process.env['GLIBC_TUNABLES'];

// ./uvu.ts itself has the real one by now.
if (Bun === undefined)
  modules.registerHooks({
    resolve: (specifier, context, next) =>
      next(specifier === 'uvu' ? new URL('./uvu.ts', import.meta.url).href : specifier, context),
  });
else
  Bun.plugin({
    name: 'uvu',
    setup: (build) => build.module('uvu', () => ({ exports: own, loader: 'object' })),
  });
