// Every way in which eniboot can fail, in one table. docs/failures.md is generated from it. A test fails when a code has no
// remedy, or no test provokes it.

interface FailureText {
  /** What it means, one sentence. */
  title: string;
  /** What to do, in the imperative. */
  remedy: string;
  /** True when trying again inside the deadline can help. */
  transient: boolean;
}

export const failureCodes = {
  CONFIG_INVALID: {
    title: 'The configuration was refused.',
    remedy:
      'Correct the value at the path named in the message; `eniboot config check FILE` gives the same answer on a laptop.',
    transient: false,
  },
  CONFIG_MISSING: {
    title: 'No configuration was found in files or user data.',
    remedy: 'Put at least `cluster` and `pods.subnets` into /etc/eniboot/config.yaml or the user data.',
    transient: false,
  },
  NOT_ROOT: {
    title: 'This command needs root: it changes the machine, or reads files that only root may read.',
    remedy: 'Run it with sudo, or let its systemd unit run it.',
    transient: false,
  },
  INSTANCE_TYPE_UNKNOWN: {
    title: 'The ENI and address limits of this instance type are not known.',
    remedy:
      'Check the spelling (`aws ec2 describe-instance-types --instance-types TYPE`). A type newer than this eniboot needs ec2:DescribeInstanceTypes in the node role (`eniboot iam-policy` has it), or a newer eniboot.',
    transient: false,
  },
  NO_POD_CAPACITY: {
    title: 'This instance type cannot hold an ENI for pods.',
    remedy:
      'Use an instance type with at least 2 ENIs on its default network card; `eniboot capacity TYPE` shows how many it has.',
    transient: false,
  },
  PREFIXES_UNSUPPORTED: {
    title: 'The configuration requires prefixes (for IPv4 or IPv6), which this instance type cannot have.',
    remedy:
      'Set `pods.addressing` to auto or addresses and `pods.ipFamily` to ipv4, or use a Nitro instance type.',
    transient: false,
  },
  KUBELET_UNSUPPORTED: {
    title: 'eniboot cannot configure this version of kubelet.',
    remedy:
      'Install a kubelet whose minor version is in the range that the message names, or an eniboot that supports this one.',
    transient: false,
  },
  IMAGE_UNFIT: {
    title: 'The image does not have something that a node needs, or has something that it must not have.',
    remedy:
      'Each failing check says what to change. Correct that and build again; docs/images.md explains each.',
    transient: false,
  },
  IMAGE_UNKNOWN: {
    title: 'There is no such image, or no version with that label.',
    remedy: 'See `eniboot image list`; check region and account, and whether the image was deregistered.',
    transient: false,
  },
  IMAGE_UNTESTED: {
    title: 'No boot test of this image has passed.',
    remedy: 'Run `eniboot image boot-test AMI`: only an image whose node became READY can be published.',
    transient: false,
  },
  IMAGE_TEST_FAILED: {
    title: 'The instance launched from the image did not become READY.',
    remedy:
      'Look up the code after `failed:` in docs/failures.md. Without a verdict, the end of the console is in the facts (`--json`). Check subnet, instance profile and user data first.',
    transient: false,
  },
  IMAGE_TEST_LEFT: {
    title: 'The instance of a boot test could not be terminated.',
    remedy: 'Terminate the instance that the message names: it costs money until then.',
    transient: false,
  },
  IMAGE_LABEL_MOVED: {
    title: 'A label is not where it was expected: another person or process moved it.',
    remedy:
      'Look at `eniboot image list`, agree with the other operators on who publishes, then repeat the command.',
    transient: false,
  },
  IMAGE_VERSION_LIMIT: {
    title: 'The parameter has 100 versions, and the oldest one has a label.',
    remedy:
      'Move the label to a newer version of the same image (`aws ssm label-parameter-version`), or take it off if that image is gone (`aws ssm unlabel-parameter-version`), then publish again.',
    transient: false,
  },
  BASE_IMAGE_MISSING: {
    title: 'There is no released Fedora cloud image of that release in this Region.',
    remedy: 'Check --fedora and --region: every large Region has the release before the newest.',
    transient: false,
  },
  BASE_IMAGE_COPY: {
    title: 'The copy of a base image did not become available.',
    remedy:
      'Repeat the command: it uses a copy that has become available meanwhile. Deregister a copy that failed.',
    transient: true,
  },
  BASE_IMAGE_FORBIDDEN: {
    title: "The owner of a base image does not let other accounts copy the image's snapshot.",
    remedy:
      "Build from Fedora's own images: `eniboot image base --no-copy` writes their IDs into the lock file; the build encrypts its own images. Fedora deletes its images after some time, so try the copy again, or from another Region, before you rely on the lock.",
    transient: false,
  },
  IMAGE_KEY_UNUSABLE: {
    title: 'An image could not be decrypted or encrypted under its KMS key.',
    remedy:
      "See in CloudTrail which kms: call was denied just after RunInstances or CopyImage. The role that launches or copies needs the statements of `eniboot iam-policy image --kms-key ARN`, and the key's policy must allow it (Auto Scaling's role, too); the key must be enabled. docs/iam.md has both. An image under an AWS managed key cannot be launched by other accounts at all. Deregister a copy that has failed: it holds the name.",
    transient: false,
  },
  IMAGE_IN_USE: {
    title: 'A zone launches this image, or would go back to it.',
    remedy: 'Promote another image in the zones that the message names, twice if it is `previous`.',
    transient: false,
  },
  USAGE: {
    title: 'The command line was not understood.',
    remedy: 'See `eniboot --help`, or `eniboot COMMAND --help`.',
    transient: false,
  },
  ALREADY_RUNNING: {
    title: 'Another run of eniboot holds the lock.',
    remedy: 'Wait for it: `eniboot status` shows how far it has come. The lock ends with its process.',
    transient: true,
  },
  CRASH_LOOP: {
    title: 'The agent has crashed again and again in this boot.',
    remedy:
      '`journalctl -u eniboot` and `coredumpctl` show each crash; `oom-kill` there means that the unit reached its memory limit (MemoryMax=). Take a support bundle, then boot again with `systemctl start eniboot.service`.',
    transient: false,
  },
  DEADLINE: {
    title: 'The boot ran out of time.',
    remedy:
      'Look at the slowest phase in `eniboot status`; raise boot.deadlineSeconds only if every phase made progress.',
    transient: false,
  },
  IMDS_UNREACHABLE: {
    title: 'The instance metadata service does not answer.',
    remedy:
      'Check that the instance has metadata enabled (HttpEndpoint), that the boot ENI is up with its address, and that no firewall rule drops 169.254.169.254.',
    transient: true,
  },
  IMDS_FORBIDDEN: {
    title: 'The instance metadata service refuses this instance.',
    remedy:
      'Turn the metadata endpoint on: `aws ec2 modify-instance-metadata-options --instance-id ID --http-endpoint enabled`.',
    transient: false,
  },
  IMDS_ERROR: {
    title: 'The instance metadata service answers with errors, or with values that make no sense.',
    remedy:
      'It usually recovers by itself. If it does not, see whether another program on the node answers in its place (`ip route get 169.254.169.254`, `nft list ruleset`); stop and start the instance, and give AWS support the facts.',
    transient: true,
  },
  IMDS_INCOMPLETE: {
    title: 'The instance metadata service does not have data that every instance has.',
    remedy:
      'After a launch it lags behind EC2 for seconds. If it stays incomplete, stop and start the instance. The subnet of a node needs an IPv4 CIDR.',
    transient: true,
  },
  IMDS_DISAGREES: {
    title: 'Instance metadata and EC2 say different things about a pod ENI.',
    remedy:
      'Wait and run `eniboot check` again; compare with `aws ec2 describe-network-interfaces` for the ENI in the facts.',
    transient: true,
  },
  NO_INSTANCE_ROLE: {
    title: 'The instance has no instance profile.',
    remedy: 'Launch it with a profile whose role has the policy that `eniboot iam-policy` prints.',
    transient: true,
  },
  BOOT_ENI_NOT_PRIMARY: {
    title: "The ENI with the instance's MAC does not have device number 0.",
    remedy:
      'This is an unusual EC2 instance, or its metadata has not settled; compare with `aws ec2 describe-instances`.',
    transient: true,
  },
  BOOT_ENI_NO_DEVICE: {
    title: "No network device has the boot ENI's MAC.",
    remedy:
      'Check that the ena driver is loaded (`dmesg | grep ena`) and that nothing changed the MAC (`ip -d link`).',
    transient: true,
  },
  BOOT_ENI_AMBIGUOUS: {
    title: "More than one device has the boot ENI's MAC.",
    remedy:
      'Remove the device that copied the MAC (the message has the names): a bond, bridge or clone made by the image or by user data.',
    transient: false,
  },
  BOOT_ENI_NO_ADDRESS: {
    title: 'The boot ENI does not carry its primary address.',
    remedy: 'Find out why DHCP failed: `journalctl -u NetworkManager -b`, `nmcli device`.',
    transient: true,
  },
  NO_DEFAULT_ROUTE: {
    title: 'No default route uses the boot ENI with its primary address.',
    remedy:
      'Look at `ip route` and `ip rule`: another device or VPN has taken the default route, or DHCP gave none.',
    transient: true,
  },
  NETWORK_MANAGER: {
    title: 'NetworkManager did not accept a command.',
    remedy: 'See `journalctl -u NetworkManager -b` and run the command in the message by hand.',
    transient: true,
  },
  ENI_MANAGED_BY_OS: {
    title: 'The operating system manages a pod ENI.',
    remedy: 'Find the profile that claims it (`nmcli -f all connection`) and remove it from the image.',
    transient: true,
  },
  TOOL_MISSING: {
    title: 'A host tool that eniboot needs is not installed.',
    remedy:
      'Install the tool named in the message (iproute, nftables, util-linux, coreutils); the image build checks for all of them.',
    transient: false,
  },
  KERNEL_QUERY: {
    title: "The kernel's network state could not be read.",
    remedy:
      'Run the command in the message by hand; iproute2 must be 5.15 or newer. When it names no command, the kernel itself has not answered: the runtime tries again, and `journalctl -k` may say why.',
    transient: true,
  },
  KERNEL_CHANGE: {
    title: 'The kernel refused a change of the network state.',
    remedy:
      "Run the command in the message by hand; its error names the reason. A read-only /proc/sys means that the unit's sandbox is wrong.",
    transient: true,
  },
  NETLINK_UNAVAILABLE: {
    title: 'This executable cannot use netlink, by which eniboot makes the network of node and pods.',
    remedy:
      "Undo restrictions that a drop-in has added to the unit (`systemctl cat eniboot.service`): RestrictAddressFamilies= needs AF_NETLINK, MemoryDenyWriteExecute= must be off, and LimitDATA= and LimitAS= unset. If there are none, install the released executable: an executable built with another runtime cannot call the system's C library.",
    transient: true,
  },
  KERNEL_MODULE_MISSING: {
    title: 'The kernel does not know a kind of network device that pods need.',
    remedy:
      "Load its module (`modprobe ipvlan`), and add a line `ipvlan` to /etc/modules-load.d/eniboot.conf so that every boot loads it. If modprobe does not find it, install the package with the rest of this kernel's modules (Fedora: kernel-modules).",
    transient: true,
  },
  KERNEL_NO_EGRESS_HOOK: {
    title: 'The kernel cannot filter packets that leave a device, which keeps pods to their own addresses.',
    remedy:
      'Run Linux 5.16 or later with CONFIG_NETFILTER_EGRESS (`grep NETFILTER_EGRESS /boot/config-$(uname -r)`); Fedora has had it since 36. Build the image from a current base.',
    transient: false,
  },
  NFT_FAILED: {
    title: 'nftables refused the egress table.',
    remedy:
      'Check that nf_tables, nft_masq, nft_nat and nft_ct are loaded (`lsmod | grep nft`) and run the command in the message by hand.',
    transient: true,
  },
  EGRESS_TABLE_DIFFERS: {
    title: 'The egress table is not as planned.',
    remedy: 'Another program flushes or edits it; `nft monitor` shows which. `eniboot repair` puts it back.',
    transient: true,
  },
  SERVICE_CIDR_OVERLAP: {
    title: 'A Service CIDR contains addresses of the node, its subnets, its pool or its DNS server.',
    remedy:
      "Give Services a CIDR outside of the VPC's (kube-apiserver: `--service-cluster-ip-range`), and set kubernetes.serviceCidrs to the same. A CIDR inside the VPC must not overlap a subnet.",
    transient: false,
  },
  EGRESS_RULE_MISSING: {
    title: 'The policy rule for marked replies is missing.',
    remedy:
      'Another program removes rules that it did not make (systemd-networkd does so unless configured otherwise); `eniboot repair` puts it back.',
    transient: true,
  },
  SYSCTL_DIFFERS: {
    title: 'A kernel setting is not as needed.',
    remedy:
      'Find out what sets it: `grep -r` its name in /etc/sysctl.d, /usr/lib/sysctl.d and the user data; `eniboot repair` sets it again.',
    transient: true,
  },
  NO_PUBLIC_ADDRESS: {
    title: 'Egress needs a public IPv4 address and the boot ENI has none.',
    remedy:
      'After a stop and start with several ENIs, EC2 assigns no public address. Set egress.publicAddress to request, associate an Elastic IP, or route through a NAT gateway and set it to ignore.',
    transient: false,
  },
  EC2_UNAVAILABLE: {
    title: 'EC2 does not give a usable answer.',
    remedy:
      'Check the route to the EC2 endpoint (NAT, interface endpoint, its security group) and the AWS health dashboard.',
    transient: true,
  },
  EC2_THROTTLED: {
    title: "EC2 throttles this account's calls.",
    remedy:
      'Launch fewer nodes at once, or ask AWS for a higher request rate; the deadline is extended meanwhile.',
    transient: true,
  },
  EC2_DENIED: {
    title: 'The role may not make a call that eniboot needs.',
    remedy:
      'Attach the policy that `eniboot iam-policy` prints, or for an operator `eniboot iam-policy sweep`, `rollout` or `image`; the message names the action.',
    transient: false,
  },
  EC2_AUTH: {
    title: "EC2 does not accept the instance's credentials.",
    remedy: 'Check the clock (`chronyc tracking`) and that the role of the instance profile still exists.',
    transient: true,
  },
  NO_CREDENTIALS: {
    title: 'No AWS credentials were found.',
    remedy:
      'Set AWS_PROFILE, log in with `aws sso login`, or run the command under a role; `aws sts get-caller-identity` shows who you are.',
    transient: false,
  },
  CREDENTIALS_REFUSED: {
    title: 'AWS does not accept the credentials of this command.',
    remedy:
      'Log in again (`aws sso login`), or correct AWS_PROFILE or the AWS_* variables; `aws sts get-caller-identity` shows whether they work. A clock that is minutes off has the same effect.',
    transient: false,
  },
  EC2_REFUSED: {
    title: 'EC2 refused a request.',
    remedy: 'Look up the EC2 code in the message in the EC2 API reference; the facts have the parameters.',
    transient: false,
  },
  EC2_INCONSISTENT: {
    title: 'Two answers of EC2 about an ENI contradict each other.',
    remedy: "EC2's describe calls lag behind; the next attempt usually succeeds.",
    transient: true,
  },
  SSM_FAILED: {
    title: 'Systems Manager does not give a usable answer.',
    remedy:
      'Check the route to the SSM endpoint (NAT, interface endpoint); the facts name the call and its purpose.',
    transient: true,
  },
  SSM_DENIED: {
    title: 'The role may not make a call to Systems Manager.',
    remedy:
      'Allow the call in the facts: `eniboot iam-policy` prints the policy of a node, `eniboot iam-policy rollout` the policy of an operator. SendCommand of a spec with `alarm` also needs iam:CreateServiceLinkedRole: `eniboot iam-policy rollout --alarm`.',
    transient: false,
  },
  SSM_THROTTLED: {
    title: "Systems Manager throttles this account's calls.",
    remedy:
      'Nothing yet: eniboot tries again, more slowly. Find out which other programs call it in this account and region.',
    transient: true,
  },
  SSM_REFUSED: {
    title: 'Systems Manager refused a request.',
    remedy: 'Look up the code in the message in the SSM API reference; the facts have the parameters.',
    transient: false,
  },
  CLOUDWATCH_FAILED: {
    title: 'CloudWatch does not give a usable answer.',
    remedy:
      'Check the route to the CloudWatch endpoint (monitoring.REGION.amazonaws.com); the facts name the call. A rollout with alarms begins no step while their state is not known.',
    transient: true,
  },
  CLOUDWATCH_DENIED: {
    title: 'The role may not read CloudWatch alarms.',
    remedy:
      'Allow cloudwatch:DescribeAlarms and cloudwatch:DescribeAlarmHistory on all resources: `eniboot iam-policy rollout` prints the policy of an operator.',
    transient: false,
  },
  CLOUDWATCH_THROTTLED: {
    title: "CloudWatch throttles this account's calls.",
    remedy:
      'Try again later. Find out which other programs read alarms in this account and Region, or watch one composite alarm instead of many.',
    transient: true,
  },
  CLOUDWATCH_REFUSED: {
    title: 'CloudWatch refused a request.',
    remedy: 'Look up the code in the message in the CloudWatch API reference; the facts have the parameters.',
    transient: false,
  },
  NO_POD_SUBNET: {
    title: "No configured pod subnet is in this node's zone.",
    remedy: 'Add a subnet of the zone named in the message to pods.subnets, or tag one as configured.',
    transient: false,
  },
  NO_SECURITY_GROUP: {
    title: 'No security group matches pods.securityGroups.',
    remedy: 'Tag a security group of this VPC as configured, or name groups by ID.',
    transient: false,
  },
  SUBNET_NO_IPV6: {
    title: 'Pods are configured to have IPv6, but the pod subnets of this zone have no IPv6 CIDR.',
    remedy:
      'Associate an IPv6 /64 with the subnets that the message names (`aws ec2 associate-subnet-cidr-block`), or set pods.ipFamily to ipv4.',
    transient: false,
  },
  NO_IPV6_PREFIX: {
    title: 'A pod ENI has no IPv6 prefix, but pods are configured to have IPv6.',
    remedy:
      'EC2 was not asked, or assigned none: look for AssignIpv6Addresses in the log, and check that the node role allows it (`eniboot iam-policy --config FILE`).',
    transient: true,
  },
  IPV6_UNAVAILABLE: {
    title: "Pods are configured to have IPv6, but this machine's kernel does not support it.",
    remedy:
      'Remove ipv6.disable=1 from the kernel command line, or use a kernel with CONFIG_IPV6_SUBTREES; or set pods.ipFamily to ipv4.',
    transient: false,
  },
  SUBNETS_FULL: {
    title: 'No pod subnet of this zone has room.',
    remedy:
      'Add a larger pod subnet. Prefixes need 16 free addresses in a row: pods.addressing auto falls back to single addresses.',
    transient: false,
  },
  ENI_LIMIT: {
    title: 'The instance cannot have another ENI.',
    remedy:
      "Detach ENIs that are not eniboot's, or use an instance type with more ENIs; `eniboot capacity TYPE` shows the limits.",
    transient: false,
  },
  ENI_QUOTA: {
    title: 'The account cannot have another ENI in this region.',
    remedy:
      'Ask AWS to raise the quota `Network interfaces per Region`; `eniboot eni sweep --apply` removes pod ENIs of dead instances.',
    transient: false,
  },
  ATTACH_STUCK: {
    title: 'EC2 does not finish attaching a pod ENI.',
    remedy:
      "The host is at fault: terminate the instance so that another instance replaces it, and give AWS support the ENI's ID.",
    transient: true,
  },
  DEVICE_MISSING: {
    title: 'A pod ENI is attached, but its device has not appeared.',
    remedy: 'See `dmesg | grep -e ena -e pci`; if the kernel saw no hot-plug, terminate the instance.',
    transient: true,
  },
  NO_POD_ENI: {
    title: 'No pod ENI is attached.',
    remedy: 'Look at the attach phase in `eniboot status` and at the ENIs of the instance in EC2.',
    transient: true,
  },
  POD_ENI_DOWN: {
    title: "A pod ENI's device is down, gone or without carrier.",
    remedy:
      "`eniboot repair` brings it up. If it is gone, `eniboot enis --ec2` says whether EC2 has the ENI. Without carrier, the ENI's attachment is broken: drain and terminate the instance.",
    transient: true,
  },
  POD_ENI_MTU: {
    title: 'A pod ENI has another MTU than the boot ENI.',
    remedy: 'Find out what sets it (a .link file or NetworkManager profile); `eniboot repair` sets it again.',
    transient: true,
  },
  POD_ENI_CONFIGURED: {
    title: 'Another program configures a pod ENI in the host.',
    remedy:
      'Find out which (a DHCP client, NetworkManager, cloud-init hotplug) and keep it away from the ENI; `eniboot repair` removes the address.',
    transient: true,
  },
  POOL_EMPTY: {
    title: 'The address pool has no address.',
    remedy:
      'Check that the pod ENIs have prefixes or addresses in EC2, and the attach phase in `eniboot status`.',
    transient: true,
  },
  MANIFEST_MISSING: {
    title: 'The installed version has no usable manifest.',
    remedy: 'Install the bundle again; manifest.json must lie beside the executable.',
    transient: false,
  },
  BAD_DIGEST: {
    title: 'An installed file is not what its manifest says.',
    remedy:
      "Do not trust this machine's copy: terminate the instance, and check the image or bundle it came from.",
    transient: false,
  },
  PLUGINS_MISSING: {
    title: 'The CNI plugins are not installed.',
    remedy:
      'See the install phase; another program writes to /opt/cni/bin. `eniboot repair` installs them again.',
    transient: true,
  },
  KUBELET_MISSING: {
    title: 'There is no kubelet on this machine.',
    remedy: 'Install kubelet in the image, or write its version into /usr/libexec/eniboot/kubelet-version.',
    transient: false,
  },
  KUBELET_SILENT: {
    title: 'kubelet did not print its version in time.',
    remedy:
      'Its file was still being read from the volume, and the boot tries again. Write the version into /usr/libexec/eniboot/kubelet-version in the image, as packer/ does.',
    transient: true,
  },
  KUBELET_FILES_DIFFER: {
    title: "kubelet's or cri-o's drop-in is not as written.",
    remedy:
      'Another program writes the files named in the message; put your settings into a drop-in that sorts after them.',
    transient: true,
  },
  JOIN_TOKEN_UNUSABLE: {
    title: 'The token to join the cluster with is not where the configuration says.',
    remedy:
      'Put a bootstrap token (`kubeadm token create`) where `join.token` says: into a parameter of type SecureString in this region, or into a file that is not below /home or /root. docs/join.md has the commands.',
    transient: false,
  },
  JOIN_CA_UNUSABLE: {
    title: "The cluster's CA is not there, or is not the one that the configuration names by its digest.",
    remedy:
      'Compare join.ca with the CA of the cluster. If the CA was changed, add its digest to join.caCertHashes (docs/join.md has the command); if it was not changed, find out who wrote this one.',
    transient: false,
  },
  API_SERVER_UNREACHABLE: {
    title: 'The API server does not answer.',
    remedy: 'Check apiServer.endpoint, its security group and the route from the boot ENI.',
    transient: true,
  },
  POLICY_OFF: {
    title: 'Network policies are not in force on this node.',
    remedy: 'Add a `policy` section to the configuration and boot again (docs/network-policy.md).',
    transient: false,
  },
  POLICY_API_FAILED: {
    title: 'The API server does not return the network policies.',
    remedy:
      'The rules decided before stay in force. See the message: 401 and 403 are about the identity in policy.identity and its RBAC rules (docs/network-policy.md).',
    transient: true,
  },
  CONFLIST_DIFFERS: {
    title: 'The CNI configuration is not as written.',
    remedy: 'Another program writes to /etc/cni/net.d; the image must contain no other conflist.',
    transient: true,
  },
  NO_SANDBOX_LIST: {
    title: 'The container runtime does not give a complete list of its sandboxes.',
    remedy:
      'Try `crictl pods`; until it answers, no address of a lost pod is freed. crictl must be installed and the runtime must be running.',
    transient: true,
  },
  RUNTIME_DOWN: {
    title: 'The container runtime is not running.',
    remedy: 'See `journalctl -u crio -b` (or containerd).',
    transient: true,
  },
  KUBELET_DOWN: {
    title: 'kubelet is not running.',
    remedy: 'See `journalctl -u kubelet -b`; once the cause is fixed, `systemctl start kubelet`.',
    transient: true,
  },
  POLICY_SERVICE_DOWN: {
    title: 'The service of network policies is not running.',
    remedy:
      'See `journalctl -u eniboot-policy -b`; once the cause is fixed, `systemctl restart eniboot-policy`. Rules of running pods stay in force meanwhile, and new pods in namespaces with a policy stay closed.',
    transient: true,
  },
  NOT_BOOTED: {
    title: 'This boot has no READY verdict.',
    remedy: 'Run `eniboot status`, fix what it names, then run `systemctl start eniboot.service`.',
    transient: false,
  },
  NODE_NOT_READY: {
    title: 'The node is not ready for pods.',
    remedy:
      'Run `eniboot status`: the boot writes /run/eniboot/node.json when every check holds. If it says READY, another program has removed that file, and `eniboot repair` writes it again.',
    transient: true,
  },
  NODE_FILE_DAMAGED: {
    title: 'The node file, which tells the CNI plugin about this node, cannot be read.',
    remedy:
      'Run `eniboot repair`: it writes /run/eniboot/node.json anew. Find out which other program writes below /run/eniboot. Running pods are not touched.',
    transient: true,
  },
  BOOTED_CONFIG_DAMAGED: {
    title: 'The configuration with which this node booted cannot be read.',
    remedy:
      'Run `eniboot boot`: it reads the configuration from files and user data and writes /run/eniboot/config.json anew. Find out which other program writes below /run/eniboot. Running pods are not touched.',
    transient: false,
  },
  POD_UNKNOWN: {
    title: 'No pod of this node has that name or address.',
    remedy:
      '`eniboot pods` lists the pods that have an address here; a pod with hostNetwork has no address of its own.',
    transient: false,
  },
  POD_AMBIGUOUS: {
    title: 'More than one pod has that name.',
    remedy: 'Give more of the container ID, or the address.',
    transient: false,
  },
  POOL_EXHAUSTED: {
    title: 'No address is free for another pod.',
    remedy:
      'Wait for the refill, which has been requested; `eniboot pool` shows the addresses. If they are all leased, the node is full: lower max-pods or use a larger type.',
    transient: true,
  },
  CNI_VERSION: {
    title: 'The CNI version of the network configuration is not supported.',
    remedy: 'Use a cniVersion that `CNI_COMMAND=VERSION eniboot` lists.',
    transient: false,
  },
  CNI_FIELD: {
    title: 'The network configuration or the runtime asks for something that eniboot does not do.',
    remedy: 'Remove the field named in the message; pods get an address of the pool, never a fixed one.',
    transient: false,
  },
  CNI_ENVIRONMENT: {
    title: 'The runtime called the plugin with missing or wrong CNI variables.',
    remedy: 'Correct the variables named in the message; the CNI specification defines them.',
    transient: false,
  },
  CNI_INPUT: {
    title: "The plugin's standard input is not a JSON object.",
    remedy: 'Give the network configuration on standard input; runtimes do so by themselves.',
    transient: false,
  },
  CNI_CONFIG: {
    title: 'The network configuration is not valid.',
    remedy:
      'Correct the key named in the message; the boot writes a valid /etc/cni/net.d/10-eniboot.conflist.',
    transient: false,
  },
  NETNS_GONE: {
    title: "The container's network namespace is not there.",
    remedy: 'Nothing: the container ended before its network was made, and the runtime starts it again.',
    transient: true,
  },
  NETNS_UNREADABLE: {
    title: "It cannot be determined whether the container's network namespace still exists.",
    remedy:
      '`stat` on the path in the message, as root, says why; remove a link or a mount that leads to a wrong place. The address stays leased, and the runtime tries again.',
    transient: true,
  },
  NETNS_OWN: {
    title: "The container's network namespace is the node's own.",
    remedy: 'Do not give host-network containers to a CNI plugin.',
    transient: false,
  },
  ALREADY_ATTACHED: {
    title: 'The container already has this interface.',
    remedy: 'Detach it first (CNI DEL); a runtime must add an interface only once.',
    transient: false,
  },
  NETNS_TAKEN: {
    title: "The pod's namespace has routes of another network.",
    remedy:
      "Make eniboot the pod's first network, and other networks the additional ones (Multus: `clusterNetwork`). As an additional network eniboot would take over the pod's default route, and Services with it.",
    transient: false,
  },
  ADDRESS_IN_USE: {
    title: 'A network namespace without a lease carries the address on an interface of the same ENI.',
    remedy:
      '`eniboot pool` shows which: a pod that has NET_ADMIN and gave itself more addresses, or a namespace that outlived its pod (`lsns -t net`). End that pod, or take NET_ADMIN from it. ADD tried other addresses for 10 s; the next ADD goes on from there.',
    transient: true,
  },
  LEASE_LOST: {
    title: "A garbage collection ended the lease of a pod's address while the pod's network was being made.",
    remedy:
      "Nothing: the pod's partly made network was removed, and the runtime tries again. When two runtimes share a node, give each network its own name.",
    transient: true,
  },
  ATTACHMENT_DIFFERS: {
    title: "A pod's network has changed since it was made.",
    remedy:
      '`eniboot trace POD` names what differs and the command that puts it back; when it names no command, delete the pod.',
    transient: false,
  },
  PROBE_FAILED: {
    title:
      "Packets of the probe's pod did not go where they should, or its network could not be made or removed.",
    remedy:
      'The row names the path; the rows of `neighbours` and `egress` above it name programs that are in the way, and `eniboot trace POD` shows each object on the path.',
    transient: false,
  },
  SPEC_INVALID: {
    title: 'The specification of a rollout was refused.',
    remedy:
      'Correct the value at the path named in the message; `eniboot rollout plan FILE` gives the same answer and changes nothing.',
    transient: false,
  },
  BUNDLE_UNUSABLE: {
    title: 'The files to be packed or published are not an intact version of eniboot.',
    remedy:
      'Name an archive that `npm run build` or `eniboot bundle build` made; with --from, a folder with manifest.json and the unchanged files that it names.',
    transient: false,
  },
  BUNDLE_NOT_SERVED: {
    title: 'An address does not serve the archive that is to be published for it.',
    remedy:
      'First put exactly this file at the address: nodes download it from there, without credentials. Then publish again; nothing has been written yet.',
    transient: false,
  },
  BUNDLE_REFUSED: {
    title: 'The archive of a version contains files that no version has, and is not unpacked.',
    remedy:
      'Do not trust the archive: find out who made it and who published it. An archive of `eniboot bundle build` contains only the manifest, the files that it names, and the licences.',
    transient: false,
  },
  BUNDLE_UNSIGNED: {
    title: 'No key of bundle.keys has signed this version, its CPU and its digest.',
    remedy:
      'If it is your version, publish it again with `eniboot bundle publish --sign KEYFILE`, and write it into the zones again; the public half of that key must be in the nodes’ bundle.keys. If not, find out who wrote the parameter.',
    transient: false,
  },
  BUNDLE_TOO_OLD: {
    title: 'The version is lower than the lowest that this node accepts (bundle.lowest).',
    remedy:
      'Roll out a newer version. The version that the node ran before is always accepted; for any other, lower bundle.lowest in the nodes’ configuration.',
    transient: false,
  },
  SIGNING_KEY_UNUSABLE: {
    title: 'The key file does not hold a private key that can sign.',
    remedy:
      'Make a key with `openssl genpkey -algorithm ed25519 -out FILE`: an Ed25519 key in PEM, without a passphrase.',
    transient: false,
  },
  RELEASE_UNKNOWN: {
    title: 'The version is not published.',
    remedy: 'Publish it with `eniboot bundle publish`; `eniboot bundle list` shows what is published.',
    transient: false,
  },
  RELEASE_DIFFERS: {
    title: 'A published version does not have the required contents.',
    remedy:
      'Never publish different contents under one version: build under a new version, or correct the digest in the spec.',
    transient: false,
  },
  IMAGE_NOT_CONFIRMED: {
    title: 'EC2 has not confirmed the AMI of an image parameter.',
    remedy:
      'Check that the AMI exists in this region and is available, and that the caller may call ec2:DescribeImages; then publish again, or `eniboot rollout resume`.',
    transient: false,
  },
  ROLLOUT_NO_TARGETS: {
    title: 'No running instance is a target of the rollout.',
    remedy:
      'Compare `where` in the spec with the tags and zone IDs of your instances; a launch template has to tag its instances with eniboot:cluster.',
    transient: false,
  },
  INSTANCE_ZONE_UNKNOWN: {
    title: "EC2's answer does not name the zone of an instance of the rollout.",
    remedy:
      'Nothing was written and no node was touched: run it again in a minute. If it fails again, look at Placement in `aws ec2 describe-instances --instance-ids ID`: replace an instance that has no AvailabilityZoneId, or remove its tag eniboot:cluster.',
    transient: false,
  },
  VERDICT_NOT_TAGGED: {
    title: 'EC2 refuses the tag that carries the verdict.',
    remedy:
      'Pods are not affected, but a rollout of an AMI or a boot test, which reads the tag, takes this node for late. Let the role tag its own instance (`eniboot iam-policy` has it). Other causes: 50 tags on the instance, a tag policy or a service control policy. Then run `eniboot boot` again.',
    transient: false,
  },
  ROLLOUT_DOCUMENT_UNUSABLE: {
    title: 'The SSM document of rollouts is not Active, or does not have the needed contents.',
    remedy:
      'Nothing was written and no node was touched: run it again in a minute. If it fails again, `aws ssm describe-document --name eniboot-update` says why; delete the document (`aws ssm delete-document`), and the next rollout creates it.',
    transient: true,
  },
  ROLLOUT_UNREACHABLE: {
    title: 'More nodes are unreachable through SSM than budget.unreachablePercent allows.',
    remedy:
      'Repair, terminate or exclude (`where.exclude`) the instances listed (is their SSM agent running, does their role allow it, is there a route?), then plan again.',
    transient: false,
  },
  ALARM_UNKNOWN: {
    title: 'An alarm of the spec does not exist.',
    remedy:
      'Correct its name in `alarm` or `alarms`: a metric alarm or a composite alarm of this account and Region. Upper and lower case differ.',
    transient: false,
  },
  ALARM_FIRING: {
    title: 'An alarm of the spec is in ALARM.',
    remedy:
      'Wait until it is over, repair the cause, or remove the alarm from the spec: an alarm that fires already says nothing about the new version.',
    transient: false,
  },
  ROLLOUT_BUSY: {
    title: 'A rollout of this cluster is not finished.',
    remedy:
      'See `eniboot rollout status`. `rollout resume` continues a halted one, `rollout rollback` takes it back, `rollout run --over ID` replaces it by a rollout of another version, and `rollout abandon` ends it where it stands. A running rollout ends by itself, or with `rollout halt`; if its process is dead, `rollout takeover` goes on at once.',
    transient: false,
  },
  ROLLOUT_NONE: {
    title: 'No rollout of this cluster is recorded.',
    remedy:
      'Check the name of the cluster, the region and the account; `eniboot rollout run SPEC` begins one.',
    transient: false,
  },
  ROLLOUT_DAMAGED: {
    title: 'The record of the rollout in Parameter Store has been deleted or overwritten.',
    remedy:
      'See how far it was: `~/.local/state/eniboot/rollouts` of the user who ran it, and `eniboot bundle list`. Delete the parameter `/eniboot/rollout/<cluster>/state`, then run the rollout again, or a rollout of the version before: nodes that run the version already do nothing.',
    transient: false,
  },
  ROLLOUT_LEASE_LOST: {
    title: 'Another process has taken over the rollout.',
    remedy: 'Nothing: it continues there. `eniboot rollout watch` shows it.',
    transient: false,
  },
  ROLLOUT_HALTED: {
    title: 'The rollout has halted; it touches no more nodes.',
    remedy:
      '`eniboot rollout report` says what failed. Then `eniboot rollout rollback`, or `rollout resume --forgive` once the cause is fixed.',
    transient: false,
  },
  UPDATE_HALTED: {
    title: 'Rollouts of this cluster are halted, so this node was not touched.',
    remedy:
      'Find out who halted them and why (`eniboot rollout status`); `eniboot rollout resume` lifts the halt.',
    transient: false,
  },
  UPDATE_NOT_WANTED: {
    title:
      'The command belongs to a rollout that is no longer under way, or to its other direction, so this node was not touched.',
    remedy:
      'Nothing: a command that was interrupted has run again. `eniboot rollout status` shows the present rollout.',
    transient: false,
  },
  UPDATE_EXPIRED: {
    title:
      'The command reached this node, or began on it, after it had expired, so the node was not touched.',
    remedy:
      "Run the rollout again. If it happens to many nodes, compare the node's clock (`chronyc tracking`) with the operator's.",
    transient: false,
  },
  UPDATE_NOT_OF_ROLLOUT: {
    title: 'This node ran the version before the rollout began, so a rollback leaves the version there.',
    remedy: 'Nothing: to change the version, roll out another one.',
    transient: false,
  },
  UPDATE_UNHEALTHY_BEFORE: {
    title: 'This node was not healthy before the update, so it was not touched.',
    remedy: 'Fix what `eniboot check` names, then update the node again.',
    transient: false,
  },
  UPDATE_WENT_BACK: {
    title: "The new version's health checks failed on this node, which went back to the version before.",
    remedy:
      'Look at the failing checks in the message and in the journal; nothing else was changed on the node.',
    transient: false,
  },
  UPDATE_NOT_STAGED: {
    title: 'The new version could not be brought onto this node.',
    remedy: 'The message says why: address, digest, disk space (`df /usr/libexec`), time.',
    transient: false,
  },
  UPDATE_NO_WAY_BACK: {
    title: 'This node holds no version to go back to.',
    remedy: 'Replace the node, or update it to a good version.',
    transient: false,
  },
  FILE_READ: {
    title: 'A file that the command line names could not be read.',
    remedy:
      'Check the path, which is relative to the current folder, and its permissions; it must be a file of the kind that the command expects.',
    transient: false,
  },
  FILE_WRITE: {
    title: 'A file could not be read or written.',
    remedy:
      'Check free space (`df`), that the path in the message is on a writable file system, and what `dmesg` says about its disk.',
    transient: true,
  },
  SYSTEM_EXHAUSTED: {
    title: 'The system has no memory or no file descriptor left.',
    remedy:
      'See which programs use them: `free -m`, `journalctl -k` (oom), `cat /proc/sys/fs/file-nr`, and LimitNOFILE= of the unit. If it is eniboot, report it with an `eniboot support-bundle`.',
    transient: true,
  },
  INTERNAL: {
    title: 'eniboot met an error for which it has no code.',
    remedy: 'Take an `eniboot support-bundle` and report it with the message.',
    transient: false,
  },
} as const satisfies Record<string, FailureText>;
