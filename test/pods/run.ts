// The sandbox's half of npm run e2e:pods; started by test/vm/suite.ts.
import { runCases } from '../vm/runner.ts';
import { cases } from './cases.ts';
import { endPair } from './pair.ts';

await runCases(cases, endPair);
