// The part of npm run e2e:node that runs in the sandbox; test/vm/suite.ts starts it.
import { runCases } from '../vm/runner.ts';
import { cases } from './cases.ts';

await runCases(cases);
