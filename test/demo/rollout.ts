// `npm run demo:rollout`: a good version goes to a fleet in three zones, a bad one stops at its first node, one that becomes unhealthy
// later at the gate, a fourth is halted and rolled back.
import { startInSandbox } from './sandbox.ts';

const args = process.argv.slice(2);
const help = `Usage: npm run demo:rollout [-- --json]

Starts a simulated AWS with six nodes in three zones (real namespaces and devices, the real executable) and rolls out
four versions with \`eniboot rollout\`: a good one; a bad one, whose canary goes back by itself; one that is healthy at first,
which the gate after the canary's wait stops; and one that an operator halts after its canary and rolls back. Run Command,
Parameter Store and EC2 are simulated. The nodes' programs are real
except the versions: each is a script that runs the only executable. Changes nothing on this machine.

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
