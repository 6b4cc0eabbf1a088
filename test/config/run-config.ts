// `eniboot config` as a process of its own. The file in STAND_IN_USER_DATA is served by a stand-in for the instance metadata
// service on 169.254.169.254, which must be an address of this network namespace.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { configCommand } from '../../agent/cli/config.ts';
import { isFailure } from '../../agent/messages/failure.ts';

const userData = process.env['STAND_IN_USER_DATA'];
const imds = createServer((request, response) => {
  if (request.method === 'PUT' && request.url === '/latest/api/token') response.end('token');
  else if (request.headers['x-aws-ec2-metadata-token'] !== 'token') response.writeHead(401).end();
  else if (request.url === '/latest/user-data') response.end(readFileSync(userData ?? ''));
  else response.writeHead(404).end();
});
if (userData !== undefined) {
  await new Promise<void>((listening) => {
    imds.listen(80, '169.254.169.254', listening);
  });
}

try {
  process.exitCode = await configCommand.run(process.argv.slice(2), {
    stdout: (text) => process.stdout.write(text),
    stderr: (text) => process.stderr.write(text),
    isTTY: false,
  });
} catch (error) {
  if (!isFailure(error)) throw error;
  process.stderr.write(`${error.code}: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  imds.closeAllConnections();
  imds.close();
}
