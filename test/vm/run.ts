// Runs the cases of npm run e2e:vm in the sandbox; started by suite.ts.
import { cases } from './cases.ts';
import { runCases } from './runner.ts';

await runCases(cases);
