// The process of the agent and the command line, from its arguments to its exit code.
import { expectLongRun, finish, invocation, standardStreams } from '../port/runtime.ts';

const streams = standardStreams();
expectLongRun();
// After that, so that it holds for all the modules there are.
const { main } = await import('./main.ts');
finish(await main(invocation().args, streams));
