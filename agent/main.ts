#!/usr/bin/env node
// One executable, several jobs: called as a CNI plugin it is the plugin, otherwise agent and command line. Nothing is
// imported before that is known: a pod waits for the plugin to start, and build.ts makes the plugin's half one module.
// Root's files have the modes that are written beside them, also where a unit or a shell has UMask=0077: the runtime, kubelet
// and a collector of metrics read some of them. The umask of other users stays.
if (process.getuid?.() === 0) process.umask(0o022);
if (process.env['CNI_COMMAND'] === undefined) await import('./cli/start.ts');
else await import('../cni/process.ts');
