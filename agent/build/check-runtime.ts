// The build runs this in the runtime that it compiles with. Exits with 1 and the reason when the plugin could not call the C
// library in that runtime. The plugin speaks netlink by such calls, and makes a pod's network in no other way.
import { foreignCallsProblem } from '../port/libc.ts';

const problem = foreignCallsProblem();
if (problem !== undefined) {
  process.stderr.write(`this runtime has no foreign calls: ${problem}\n`);
  process.exitCode = 1;
}
