// An answer that begins well and never ends.
import type { ServerResponse } from 'node:http';

/** Nobody who reads on gets more than this: a client without a limit must not take the machine down. */
const MOST_BYTES = 2 * 1024 * 1024 * 1024;
const PIECE_BYTES = 256 * 1024;

/** Sends `head`, and after it `line` again and again until the client has had enough. */
export function pour(response: ServerResponse, contentType: string, head: string, line: string): void {
  const piece = Buffer.from(line.repeat(Math.ceil(PIECE_BYTES / line.length)));
  let sent = 0;
  const more = (): void => {
    while (!response.destroyed && sent < MOST_BYTES) {
      sent += piece.length;
      if (!response.write(piece)) return void response.once('drain', more);
    }
    response.end();
  };
  response.on('error', () => {});
  response.writeHead(200, { 'content-type': contentType });
  response.write(head);
  more();
}
