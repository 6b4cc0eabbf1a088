// time limit: 600 s
// bounds time
import { answerFaults } from './faults/answers.ts';
import { ec2CloudOptions } from './faults/ec2.ts';
import { runFaults } from './faults/run.ts';

await runFaults(answerFaults, ec2CloudOptions);
