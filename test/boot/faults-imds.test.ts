// time limit: 240 s
import { imdsFaults } from './faults/imds.ts';
import { runFaults } from './faults/run.ts';

await runFaults(imdsFaults);
