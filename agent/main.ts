#!/usr/bin/env node
// One executable, several jobs: called as a CNI plugin it is the plugin, otherwise agent and command line. Nothing is
// imported before that is known: a pod waits for the plugin to start, and build.ts makes the plugin's half one module.
if (process.env['CNI_COMMAND'] === undefined) await import('./cli/start.ts');
else await import('../cni/start.ts');
