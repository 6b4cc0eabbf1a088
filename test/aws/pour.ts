// An answer that begins well and never ends.
import type { ServerResponse } from 'node:http';

/** The most bytes that are sent: a client without a limit must not fill the machine's memory. */
const MOST_BYTES = 2 * 1024 * 1024 * 1024;
const PIECE_BYTES = 256 * 1024;

/** Sends `head`, and then `line` again and again until the client closes the connection. */
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
