// `npm run demo:rollout`: a good version goes to a fleet in three zones, a bad one stops at its first node.
import { startInSandbox } from './sandbox.ts';

const args = process.argv.slice(2);
const help = `Usage: npm run demo:rollout [-- --json]

Starts a simulated AWS with six nodes in three zones (real namespaces and devices, the real executable), rolls a good
version out with \`eniboot rollout\`, then a bad one, which its canary takes back by itself, and then undoes the good one.
Run Command, Parameter Store and EC2 are simulated; what runs on the nodes is not, but for the versions: each is a script
that stands in for another build and runs the one executable there is. Touches nothing on this machine.

  --json  print one object instead
`;
if (args.includes('--help')) {
  process.stdout.write(help);
  process.exit(0);
}
const unknown = args.find((arg) => arg !== '--json');
if (unknown !== undefined) {
  process.stderr.write(`demo:rollout: ${unknown} is not an option\n${help}`);
  process.exit(2);
}
startInSandbox('rollout-show.ts', args);
