// time limit: 240 s
// bounds time
import { configFaults } from './faults/config.ts';
import { runFaults } from './faults/run.ts';

await runFaults(configFaults);
