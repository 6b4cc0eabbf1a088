// time limit: 240 s
import { nicFaults } from './faults/nic.ts';
import { runFaults } from './faults/run.ts';

await runFaults(nicFaults);
