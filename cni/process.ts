// The process of a plugin call, from its environment to its exit code.
import { environment, finish, invocation, readInput, standardStreams } from '../agent/port/runtime.ts';
import { runPlugin } from './main.ts';

const { stdout } = standardStreams();
finish(runPlugin({ name: invocation().name, environment, input: readInput, stdout }));
