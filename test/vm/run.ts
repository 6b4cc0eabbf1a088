// The sandbox's half of npm run e2e:vm; started by suite.ts.
import { cases } from './cases.ts';
import { runCases } from './runner.ts';

await runCases(cases);
