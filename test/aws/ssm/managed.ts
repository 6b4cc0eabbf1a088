// Managed nodes: which instances' SSM agents have registered, whether they answer, and what running a script does.
import type {
  DescribeInstanceInformationRequest,
  DescribeInstanceInformationResult,
  InstanceInformation,
} from '@aws-sdk/client-ssm';
import { AwsError } from '../ec2/errors.ts';
import { seconds } from './parameters.ts';
import { type Handlers, paged, type Region } from './region.ts';

export interface ScriptResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** A node with an SSM agent: modelled, or real namespaces that run the script. */
export interface ManagedNode {
  instanceId: string;
  /** False: its agent has lost its connection, and no command reaches it. */
  online: boolean;
  lastPingAt: number;
  /** Why its agent is given no command. */
  refusal?: 'AccessDenied' | 'InvalidPlatform';
  /**
   * Runs a script. It calls `ended` once, or never when the node hangs or vanishes. Returns a function that stops the script.
   * Exit code 194 asks for a reboot, after which the same script runs again.
   */
  run(script: string, ended: (result: ScriptResult) => void): () => void;
}

/** Milliseconds after which an agent that does not answer is shown as ConnectionLost: 5 minutes. */
const LOST_MS = 5 * 60_000;

export interface Managed {
  nodes: Map<string, ManagedNode>;
  /** `mostPending`: invocations that may be open at once; a command beyond them is cancelled with RateExceeded. */
  limits: { mostPending: number };
  handlers: Handlers;
}

export function createManaged(region: Region): Managed {
  const nodes = new Map<string, ManagedNode>();

  function describe(node: ManagedNode): InstanceInformation {
    const { now } = region.scheduler;
    if (node.online) node.lastPingAt = now();
    return {
      InstanceId: node.instanceId,
      PingStatus: node.online || now() - node.lastPingAt < LOST_MS ? 'Online' : 'ConnectionLost',
      LastPingDateTime: seconds(node.lastPingAt),
      AgentVersion: '3.3.2299.0',
      PlatformType: 'Linux',
      ResourceType: 'EC2Instance',
    };
  }

  function information(request: DescribeInstanceInformationRequest): DescribeInstanceInformationResult {
    const filters = request.Filters ?? [];
    const asked = filters.find((filter) => filter.Key === 'InstanceIds');
    const candidates =
      asked === undefined ? [...nodes.values()] : (asked.Values ?? []).flatMap((id) => nodes.get(id) ?? []);
    const found = candidates.filter((node) => {
      const tags = region.tagsOf(node.instanceId);
      return (
        tags !== undefined &&
        filters.every(({ Key = '', Values = [] }) => {
          if (Key === 'InstanceIds') return true;
          if (!Key.startsWith('tag:')) throw new AwsError('InvalidFilterKey', `${Key} is not simulated`);
          return Values.includes(tags.get(Key.slice('tag:'.length)) ?? '');
        })
      );
    });
    const { items, ...rest } = paged(found, request, 50);
    return { InstanceInformationList: items.map(describe), ...rest };
  }

  return {
    nodes,
    limits: { mostPending: Number.POSITIVE_INFINITY },
    handlers: { readers: { DescribeInstanceInformation: information }, writers: {} },
  };
}
