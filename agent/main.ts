#!/usr/bin/env node
// One executable, several jobs: called as a CNI plugin it is the plugin, otherwise agent and command line. Each
// half is loaded only when it is the one that is called: a pod waits for the plugin to start.
import {
  environment,
  expectLongRun,
  finish,
  invocation,
  readInput,
  standardStreams,
} from './port/runtime.ts';

const streams = standardStreams();
if (environment('CNI_COMMAND') === undefined) {
  expectLongRun();
  const { main } = await import('./cli/main.ts');
  finish(await main(invocation().args, streams));
} else {
  const { runPlugin } = await import('../cni/main.ts');
  finish(runPlugin({ name: invocation().name, environment, input: readInput, stdout: streams.stdout }));
}
