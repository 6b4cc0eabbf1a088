// The sandbox's half of npm run e2e:node; started by test/vm/suite.ts.
import { runCases } from '../vm/runner.ts';
import { cases } from './cases.ts';

await runCases(cases);
