// Every fault of the matrix. For each code that is no boot's verdict, the test that provokes it.
import type { FailureCode } from '../../../agent/messages/failure.ts';
import { answerFaults } from './answers.ts';
import { configFaults } from './config.ts';
import { dualStackFaults } from './dual-stack.ts';
import { ec2Faults } from './ec2.ts';
import type { Fault } from './fault.ts';
import { hostFaults } from './host.ts';
import { imdsFaults } from './imds.ts';
import { joinFaults } from './join.ts';
import { nicFaults } from './nic.ts';

export const faults: Fault[] = [
  ...imdsFaults,
  ...answerFaults,
  ...ec2Faults,
  ...nicFaults,
  ...hostFaults,
  ...configFaults,
  ...dualStackFaults,
  ...joinFaults,
];

/** Codes of other commands, and of checks that only a change after the boot can make fail. */
export const provokedElsewhere: Partial<Record<FailureCode, string>> = {
  NOT_ROOT: 'test/cli/help.test.ts',
  // The simulated cloud has no instance type that is too small.
  POOL_EXHAUSTED: 'test/cni/lease.test.ts',
  NETNS_GONE: 'test/cni/call.test.ts',
  ADDRESS_IN_USE: 'test/cni/lifecycle.test.ts',
  POLICY_OFF: 'test/policy/paths.test.ts',
  POLICY_API_FAILED: 'test/policy/follow.test.ts',
  NO_POD_CAPACITY: 'test/limits/capacity.test.ts',
  USAGE: 'test/config/command.test.ts',
  IMAGE_UNKNOWN: 'test/image/release.test.ts',
  IMAGE_UNTESTED: 'test/image/release.test.ts',
  IMAGE_TEST_FAILED: 'test/image/release.test.ts',
  IMAGE_TEST_LEFT: 'test/image/release.test.ts',
  IMAGE_NOT_CONFIRMED: 'test/image/release.test.ts',
  IMAGE_LABEL_MOVED: 'test/image/release.test.ts',
  IMAGE_VERSION_LIMIT: 'test/image/release.test.ts',
  BASE_IMAGE_FORBIDDEN: 'test/image/base-image.test.ts',
  IMAGE_KEY_UNUSABLE: 'test/image/release.test.ts',
  IMAGE_IN_USE: 'test/image/release.test.ts',
  IMAGE_UNFIT: 'test/image/check.test.ts',
  FILE_READ: 'test/config/import.test.ts',
  CREDENTIALS_REFUSED: 'test/cli/sweep.test.ts',
  KERNEL_MODULE_MISSING: 'test/cni/lifecycle.test.ts',
  NO_CREDENTIALS: 'test/cli/sweep.test.ts',
  PLUGINS_MISSING: 'test/boot/drift.test.ts',
  KUBELET_FILES_DIFFER: 'test/boot/drift.test.ts',
  CONFLIST_DIFFERS: 'test/boot/drift.test.ts',
  RUNTIME_DOWN: 'test/boot/drift.test.ts',
  KUBELET_DOWN: 'test/boot/drift.test.ts',
  NOT_BOOTED: 'test/boot/drift.test.ts',
  NO_SANDBOX_LIST: 'test/boot/drift.test.ts',
  NODE_FILE_DAMAGED: 'test/boot/drift.test.ts',
  BOOTED_CONFIG_DAMAGED: 'test/boot/drift.test.ts',
  NODE_NOT_READY: 'test/cni/call.test.ts',
  ATTACHMENT_DIFFERS: 'test/cni/trace.test.ts',
  POD_UNKNOWN: 'test/cni/trace.test.ts',
  POD_AMBIGUOUS: 'test/cni/trace.test.ts',
  PROBE_FAILED: 'test/neighbours/probe.test.ts',
  SPEC_INVALID: 'test/rollout/spec.test.ts',
  SSM_THROTTLED: 'test/rollout/orchestrate.test.ts',
  SSM_REFUSED: 'test/rollout/orchestrate.test.ts',
  CLOUDWATCH_FAILED: 'test/rollout/alarms.test.ts',
  CLOUDWATCH_DENIED: 'test/rollout/alarms.test.ts',
  CLOUDWATCH_THROTTLED: 'test/rollout/alarms.test.ts',
  CLOUDWATCH_REFUSED: 'test/rollout/alarms.test.ts',
  ALARM_UNKNOWN: 'test/rollout/alarms.test.ts',
  ALARM_FIRING: 'test/rollout/alarms.test.ts',
  BUNDLE_UNUSABLE: 'test/cli/operator.test.ts',
  BUNDLE_NOT_SERVED: 'test/rollout/command.test.ts',
  BUNDLE_REFUSED: 'test/boot/unpack.test.ts',
  BUNDLE_UNSIGNED: 'test/boot/bundle.test.ts',
  BUNDLE_TOO_OLD: 'test/rollout/update.test.ts',
  SIGNING_KEY_UNUSABLE: 'test/boot/signature.test.ts',
  RELEASE_UNKNOWN: 'test/rollout/command.test.ts',
  RELEASE_DIFFERS: 'test/rollout/update.test.ts',
  ROLLOUT_NO_TARGETS: 'test/rollout/command.test.ts',
  INSTANCE_ZONE_UNKNOWN: 'test/rollout/orchestrate.test.ts',
  VERDICT_NOT_TAGGED: 'test/boot/faults/ec2.ts',
  ROLLOUT_DOCUMENT_UNUSABLE: 'test/rollout/orchestrate.test.ts',
  ROLLOUT_UNREACHABLE: 'test/rollout/orchestrate.test.ts',
  ROLLOUT_BUSY: 'test/rollout/orchestrate.test.ts',
  ROLLOUT_NONE: 'test/rollout/command.test.ts',
  ROLLOUT_DAMAGED: 'test/rollout/record.test.ts',
  ROLLOUT_LEASE_LOST: 'test/rollout/record.test.ts',
  ROLLOUT_HALTED: 'test/rollout/command.test.ts',
  UPDATE_HALTED: 'test/rollout/update.test.ts',
  UPDATE_NOT_WANTED: 'test/rollout/update.test.ts',
  UPDATE_EXPIRED: 'test/rollout/update.test.ts',
  UPDATE_NOT_OF_ROLLOUT: 'test/rollout/update.test.ts',
  UPDATE_UNHEALTHY_BEFORE: 'test/rollout/update.test.ts',
  UPDATE_WENT_BACK: 'test/rollout/update.test.ts',
  UPDATE_NOT_STAGED: 'test/rollout/update.test.ts',
  UPDATE_NO_WAY_BACK: 'test/rollout/update.test.ts',
};
