// time limit: 300 s
// bounds time
import { hostFaults } from './faults/host.ts';
import { runFaults } from './faults/run.ts';

await runFaults(hostFaults);
