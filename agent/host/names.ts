// Names and numbers that eniboot owns on a machine, all documented in docs/what-it-touches.md. Repair and garbage
// collection change nothing else.

/** Name of every nftables table. */
export const NFT_TABLE = 'eniboot';
/** Name of the table of network policies, in pods and on the node. */
export const POLICY_TABLE = 'eniboot_policy';
/** Families of the node's tables. */
export const NODE_TABLES = ['inet', 'netdev'] as const;
/** The names of the host ends of pod links begin with this. NetworkManager and udev leave such devices alone. */
export const POD_LINK_PREFIX = 'enb';
/**
 * Connection mark and packet mark of connections that entered by the boot ENI, on the node and in pods: one bit, always
 * masked. It differs from the marks of kube-proxy (0x4000, 0x8000), the reference plugin portmap (0x2000),
 * amazon-vpc-cni-k8s (0x80), Calico (0xffff0000), Cilium (0x0f00) and, in pods, Istio (0xfff).
 */
export const BOOT_ENI_MARK = 0x1000;
/** Priority of the rule that sends marked replies out by the main table. */
export const BOOT_ENI_RULE_PRIORITY = 512;
/**
 * Mark of Service traffic that must turn back into the pod from which it came; used on the node alone. One bit, always
 * masked, different from the same programs' marks.
 */
export const SERVICE_MARK = 0x40;
/**
 * Priorities of a pod's two rules over IPv4: by the device from which its packets come, and by SERVICE_MARK and its
 * address. Over IPv6 one rule, with the first priority, serves all pods.
 */
export const POD_RULE_PRIORITY = 1024;
export const POD_MARK_RULE_PRIORITY = 1025;
/** Routing protocol number of every route and rule of eniboot (free in rtnetlink's registry). */
export const ROUTE_PROTOCOL = 140;
/** Link-local address of the instance metadata service. */
export const IMDS_ADDRESS = '169.254.169.254';
/** The instance metadata service over IPv6. Source: EC2 user guide, "Access instance metadata". */
export const IMDS_ADDRESS6 = 'fd00:ec2::254';
/** The VPC's resolver, by an address that is the same in every VPC. Source: VPC User Guide, "DNS attributes for your VPC". */
export const RESOLVER_ADDRESS = '169.254.169.253';
/** Container IDs of probes (`eniboot check --probe`) begin with this. No runtime knows these IDs. */
export const PROBE_ID = 'eniboot-probe';
/** The subnet router's link-local address, the same in every subnet with IPv6. Source: VPC user guide. */
export const ROUTER_ADDRESS6 = 'fe80:ec2::1';
/**
 * The node's address as a pod's veth0 knows it over IPv6: it stands for the MAC of the veth's other end, and no device
 * has it. So a pod does not depend on whether the node has an IPv6 address.
 */
export const NODE_LINK_ADDRESS6 = 'fe80::1';
/**
 * Source address of IPv6 Service traffic between node and pod while it turns back through the pod. It never leaves the
 * node. It is in the block that all routers discard (RFC 6666), so no host has it.
 */
export const TURN_BACK_ADDRESS6 = '100::1';

/** Folder for everything that is decided at boot; it is lost with the boot. */
export const RUN_DIR = '/run/eniboot';
export const STATUS_FILE = `${RUN_DIR}/status.json`;
/** Folder of the installed versions and of the links `current` and `previous`. */
export const LIBEXEC_DIR = '/usr/libexec/eniboot';
/** Output of `kubelet --version`, written by the image build. */
export const KUBELET_VERSION = `${LIBEXEC_DIR}/kubelet-version`;
/** Folder for what must outlive a boot, by instance, so that an image does not carry it to another machine. */
export const STATE_DIR = '/var/lib/eniboot';
