// A program that runs inside the Internet's namespace. It answers every HTTP request with the source address that it saw
// ("/" as text, "/seen" as JSON with the port).
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:http';

process.stdout.write('unshared\n');
process.stdin.once('data', (family: Buffer) => {
  const ipv6 = ['addr add 2001:db8:ffff::80/64 dev eth0 nodad', 'route add default via 2001:db8:ffff::1'];
  const links = [
    'link set lo up',
    'addr add 203.0.113.80/24 dev eth0',
    'link set eth0 up',
    'route add default via 203.0.113.1',
    // All of TEST-NET-1 (192.0.2.0/24) answers, so that a test can connect to many hosts.
    'route add local 192.0.2.0/24 dev lo',
    ...(family.toString().trim() === 'ipv6' ? ipv6 : []),
  ];
  execFileSync('ip', ['-batch', '-'], { input: `${links.join('\n')}\n` });
  for (const port of [80, 443, 6443])
    createServer(answer).listen(port, '::', () => port === 80 && process.stdout.write('listening\n'));
});

function answer(...[request, response]: Parameters<NonNullable<Parameters<typeof createServer>[1]>>): void {
  const address = request.socket.remoteAddress?.replace('::ffff:', '') ?? '';
  if (request.url === '/seen') {
    response.setHeader('content-type', 'application/json');
    response.end(`${JSON.stringify({ address, port: request.socket.remotePort })}\n`);
    return;
  }
  response.end(`${address}\n`);
}
