// The tags that eniboot writes in EC2, and their meaning. An object without them is never used, changed or deleted.

/** Marks an ENI as eniboot's. */
export const ROLE_TAG = 'eniboot:role';
/** The role of an ENI that serves pods. */
export const POD_ROLE = 'pods';
export const CLUSTER_TAG = 'eniboot:cluster';
/** The instance an ENI was created for. */
export const INSTANCE_TAG = 'eniboot:instance';
/** When an ENI was first requested: ISO 8601, UTC. */
export const CREATED_TAG = 'eniboot:created';
/** When a sweep first saw an ENI without its instance: ISO 8601, UTC. */
export const SWEEP_SEEN_TAG = 'eniboot:sweep-seen';
/** On an instance: `<ready|failed:CODE>@<version>`. */
export const VERDICT_TAG = 'eniboot:verdict';
/** On an image: `passed@<time>` or `failed:CODE@<time>`; on an instance, the image it tests. */
export const BOOT_TEST_TAG = 'eniboot:boot-test';
/** On an image: the version of eniboot in it. */
export const IMAGE_VERSION_TAG = 'eniboot:version';
