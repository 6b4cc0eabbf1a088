import { basename } from 'node:path';

/** How this process was called: differs between Node and the compiled executable, nowhere else. */
export interface Invocation {
  /** The name it was called by, for multi-call dispatch. */
  name: string;
  /** User arguments. */
  args: string[];
  /** The file that is running; the executable itself when compiled. */
  executable: string;
}

declare const ENIBOOT_VERSION: string | undefined;
declare const ENIBOOT_COMMIT: string | undefined;

/** True in the compiled executable, false when Node runs the sources. */
export const compiled = process.versions['bun'] !== undefined;

export function invocation(): Invocation {
  // The compiled runtime reports argv[0] as "bun" and argv[1] as a virtual path; both runtimes put
  // user arguments at index 2, and both keep the called name in argv0.
  return {
    name: compiled ? basename(process.argv0) : 'eniboot',
    args: process.argv.slice(2),
    executable: process.execPath,
  };
}

/** Version and commit, put in at build time; "0.0.0-dev" when run from source. */
export function version(): { version: string; commit: string } {
  return {
    version: typeof ENIBOOT_VERSION === 'string' ? ENIBOOT_VERSION : '0.0.0-dev',
    commit: typeof ENIBOOT_COMMIT === 'string' ? ENIBOOT_COMMIT : 'unknown',
  };
}
