// `npm run demo:rollout`: a good version goes to a fleet in three zones, a bad one stops at its first node, one that sickens
// later at the gate, a fourth is halted and taken back.
import { startInSandbox } from './sandbox.ts';

const args = process.argv.slice(2);
const help = `Usage: npm run demo:rollout [-- --json]

Starts a simulated AWS with six nodes in three zones (real namespaces and devices, the real executable) and rolls out
four versions with \`eniboot rollout\`: a good one; a bad one, whose canary goes back by itself; one that is well at first,
which the gate behind the canary's wait stops; and one that somebody halts after its canary and takes back. Run Command, Parameter Store and EC2 are simulated. What runs on the nodes is real
except the versions: each is a script that runs the one executable there is. Touches nothing on this machine.

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
