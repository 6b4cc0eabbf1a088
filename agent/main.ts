#!/usr/bin/env node
// One executable, several names: called as a CNI plugin it is the plugin, otherwise agent and command line.
import { main } from './cli/main.ts';
import { finish, invocation, standardStreams } from './port/runtime.ts';

finish(await main(invocation().args, standardStreams()));
