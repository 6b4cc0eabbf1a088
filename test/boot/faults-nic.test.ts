// time limit: 300 s
// bounds time
import { nicFaults } from './faults/nic.ts';
import { runFaults } from './faults/run.ts';

await runFaults(nicFaults);
