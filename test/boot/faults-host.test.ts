// time limit: 240 s
import { hostFaults } from './faults/host.ts';
import { runFaults } from './faults/run.ts';

await runFaults(hostFaults);
