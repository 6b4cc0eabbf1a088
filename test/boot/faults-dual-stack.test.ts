// time limit: 240 s
// bounds time
import { dualStackCloudOptions, dualStackFaults } from './faults/dual-stack.ts';
import { runFaults } from './faults/run.ts';

await runFaults(dualStackFaults, dualStackCloudOptions);
