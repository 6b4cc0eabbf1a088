// time limit: 240 s
import { joinFaults } from './faults/join.ts';
import { runFaults } from './faults/run.ts';

await runFaults(joinFaults);
