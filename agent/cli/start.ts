// The process of the agent and of the command line, from its arguments to its exit code.
import { finish, invocation, setJitPolicy, standardStreams } from '../port/runtime.ts';

const streams = standardStreams();
setJitPolicy(10);
// Imported after that call, so that it holds for all modules.
const { main } = await import('./main.ts');
finish(await main(invocation().args, streams));
