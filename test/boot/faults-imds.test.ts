// time limit: 300 s
// bounds time
import { imdsFaults } from './faults/imds.ts';
import { runFaults } from './faults/run.ts';

await runFaults(imdsFaults);
