// The process of the agent and of the command line, from its arguments to its exit code.
import { expectLongRun, finish, invocation, standardStreams } from '../port/runtime.ts';

const streams = standardStreams();
expectLongRun();
// Imported after that call, so that it holds for all modules.
const { main } = await import('./main.ts');
finish(await main(invocation().args, streams));
