// The most that is accepted of anything from outside. A limit is well above what is documented or was seen, and far below what
// the units' MemoryMax= allows.

const KiB = 1024;
const MiB = 1024 * KiB;

export const bounds = {
  /** An answer of IMDS. The largest is the user data, 16 KiB. Source: EC2 user guide, "Run commands when you launch". */
  imdsBytes: 64 * KiB,
  /** Lines in one answer: no instance type has more than 80 ENIs, no ENI more than 64 addresses (agent/aws/limits). */
  imdsLines: 256,
  /** An answer of EC2 or SSM to a node: its own 80 ENIs, each with 64 addresses, are 2 MB. */
  nodeAnswerBytes: 4 * MiB,
  /** An answer to an operator: a page is at most 1,000 instances or ENIs. Source: EC2 API reference, MaxResults. */
  operatorAnswerBytes: 32 * MiB,
  /** Elements of a list over all its pages, and the pages themselves, which may be empty. */
  listItems: 100_000,
  listPages: 2_000,
  /** Milliseconds for the body of an answer, once it has begun. */
  bodyMs: 10_000,
  /** The output of one program: with 1,000 pods, `ip` describes 2,000 devices in 3 MB. */
  programBytes: 32 * MiB,
  /** Error texts of a child that holds a lock. */
  holderBytes: 4 * KiB,
  /** A network configuration is a few kilobytes; with prevResult and 1,000 valid attachments, some hundred kilobytes. */
  cniInputBytes: 16 * MiB,
  /** Everything that user data unpacks to, over all of its parts and layers. */
  userDataBytes: MiB,
  /** Documents in the user data. */
  userDataDocuments: 100,
  /** A document of configuration. */
  documentBytes: 64 * KiB,
  /** The archive of a version is 60 MB; a file ten times as large is an operator's mistake. */
  archiveBytes: 600_000_000,
  /**
   * What an archive unpacks to, for one file and for all: an executable has at most 125 MB, the licences have some hundred
   * kilobytes.
   */
  bundleFileBytes: 250_000_000,
  bundleBytes: 300_000_000,
  bundleFiles: 32,
  /** The plan of a rollout, unpacked: 5,000 nodes are 2 MB. */
  planBytes: 64 * MiB,
  /** Parameters that hold the plan, 4,000 characters each: 20,000 nodes take 200. */
  planChunks: 2_000,
} as const;
