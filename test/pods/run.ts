// Runs the cases of npm run e2e:pods in the sandbox; started by test/vm/suite.ts.
import { runCases } from '../vm/runner.ts';
import { cases } from './cases.ts';
import { endPair } from './pair.ts';

await runCases(cases, endPair);
