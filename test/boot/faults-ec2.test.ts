// time limit: 700 s
// bounds time
import { ec2CloudOptions, ec2Faults } from './faults/ec2.ts';
import { runFaults } from './faults/run.ts';

await runFaults(ec2Faults, ec2CloudOptions);
