# The variables of a build. Each has a type, a description and, where not every value is allowed, a check that says what is
# allowed. Pins without a default stand in the lock file (lock.example.pkrvars.json is an example).

variable "region" {
  description = "Region in which the image is built, and from which it is copied."
  type        = string
  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region is not an AWS Region such as eu-west-1."
  }
}

variable "subnet_id" {
  description = "Public subnet of the build instance; empty: a subnet of the default VPC."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^(subnet-[0-9a-f]{8,17})?$", var.subnet_id))
    error_message = "The subnet_id is neither empty nor a subnet such as subnet-0123456789abcdef0."
  }
}

variable "ssh_interface" {
  description = "How Packer reaches the build instance: public_ip, or private_ip from a network that is connected to the VPC; the instance then gets no public address and subnet_id may be a private subnet with a NAT gateway."
  type        = string
  default     = "public_ip"
  validation {
    condition     = contains(["public_ip", "private_ip"], var.ssh_interface)
    error_message = "The ssh_interface is neither public_ip nor private_ip."
  }
}

variable "ssh_source_cidrs" {
  description = "Addresses that may reach the SSH port of the build instance. Empty: with public_ip the public address of this machine (as https://checkip.amazonaws.com shows it), with private_ip all addresses that can reach the subnet."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for one in var.ssh_source_cidrs : can(cidrhost(one, 0)) && can(regex("/[0-9]+$", one))])
    error_message = "One of ssh_source_cidrs is not a range such as 192.0.2.0/24."
  }
}

variable "base_images" {
  description = "Base image for each architecture: a copy in this account of a Fedora image, or Fedora's own (README.md says how). The name is that of Fedora's image."
  type = map(object({
    id   = string
    name = string
  }))
  validation {
    condition     = join(",", sort(keys(var.base_images))) == "arm64,x86_64"
    error_message = "The base_images must be given for arm64 and x86_64, and for nothing else."
  }
  validation {
    condition     = alltrue([for image in values(var.base_images) : can(regex("^ami-[0-9a-f]{8,17}$", image.id))])
    error_message = "An id among base_images is not an image such as ami-0123456789abcdef0."
  }
  validation {
    condition     = can(regex("^Fedora-Cloud-Base-AmazonEC2\\.x86_64-[0-9]+-[0-9][0-9.]*$", var.base_images["x86_64"].name)) && can(regex("^Fedora-Cloud-Base-AmazonEC2\\.aarch64-[0-9]+-[0-9][0-9.]*$", var.base_images["arm64"].name))
    error_message = "A name among base_images is not that of a released Fedora cloud image for that CPU: Fedora-Cloud-Base-AmazonEC2.x86_64-44-1.7 for x86_64, Fedora-Cloud-Base-AmazonEC2.aarch64-44-1.7 for arm64."
  }
}

variable "fedora_version" {
  description = "Fedora release of the base images: the one before the newest."
  type        = number
  default     = 44
  validation {
    condition     = var.fedora_version >= 43 && var.fedora_version == floor(var.fedora_version)
    error_message = "The fedora_version is not a release from 43 on, the first with the dnf 5 and systemd this image is written for."
  }
}

variable "kubernetes_version" {
  description = "Version of kubelet; its minor chooses the repositories of Kubernetes and cri-o."
  type        = string
  validation {
    condition     = can(regex("^1\\.(3[4-9]|[4-9][0-9])\\.[0-9]+$", var.kubernetes_version))
    error_message = "The kubernetes_version is not a full version from 1.34.0 on, such as 1.36.1."
  }
}

variable "crio_version" {
  description = "Version of cri-o, of the same minor as kubelet."
  type        = string
  validation {
    condition     = can(regex("^1\\.(3[4-9]|[4-9][0-9])\\.[0-9]+$", var.crio_version))
    error_message = "The crio_version is not a full version from 1.34.0 on, such as 1.36.1."
  }
}

variable "key_fingerprints" {
  description = "Fingerprints of the keys that sign the packages of kubernetes, crio and ssm_agent. A repository whose key has another fingerprint stops the build."
  type        = map(string)
  validation {
    condition     = join(",", sort(keys(var.key_fingerprints))) == "crio,kubernetes,ssm_agent"
    error_message = "The key_fingerprints must be given for crio, kubernetes and ssm_agent, and for nothing else."
  }
  validation {
    condition     = alltrue([for one in values(var.key_fingerprints) : can(regex("^[0-9A-F]{40}$", one))])
    error_message = "One of key_fingerprints is not 40 hexadecimal digits in capitals, without spaces."
  }
}

variable "ssm_agent" {
  description = "Version of the SSM agent, and the SHA-256 of its RPM for each architecture."
  type = object({
    version = string
    sha256  = map(string)
  })
  validation {
    condition     = can(regex("^3(\\.[0-9]+){3}$", var.ssm_agent.version))
    error_message = "The version of ssm_agent is not one such as 3.3.3050.0."
  }
  validation {
    condition     = join(",", sort(keys(var.ssm_agent.sha256))) == "arm64,x86_64" && alltrue([for one in values(var.ssm_agent.sha256) : can(regex("^[0-9a-f]{64}$", one))])
    error_message = "The sha256 of ssm_agent must be 64 hexadecimal digits for each of arm64 and x86_64."
  }
}

variable "pause_image" {
  description = "The pause image, with its digest: it is in the image, so that the first pod waits for no registry."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9.-]+(:[0-9]+)?/[a-z0-9._/-]+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}$", var.pause_image))
    error_message = "The pause_image is not REGISTRY/NAME:TAG@sha256:DIGEST."
  }
}

variable "packages_lock" {
  description = "File with every package of the image and the digest of its header, as a build writes it (out/packages-ARCH.lock); %s stands for ARCH. Empty: install what the repositories offer, and write a new file."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^([^%]*%s[^%]*)?$", var.packages_lock))
    error_message = "The packages_lock has no %s for the architecture, or another % beside it: it is a path below packer/ such as locks/packages-%s.lock."
  }
}

variable "extra_packages" {
  description = "Further Fedora packages for the image."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for one in var.extra_packages : can(regex("^[A-Za-z0-9][A-Za-z0-9+._-]*$", one))])
    error_message = "One of extra_packages is not the name of a package."
  }
}

variable "extra_files" {
  description = "Files below /etc, /root and /var/lib that your own additions to the build make and no package has: * is any text within a name, ** any path below. The check refuses files that neither it nor this list names."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for one in var.extra_files : can(regex("^/(etc|root|var/lib)/[A-Za-z0-9@_./*-]+$", one))])
    error_message = "One of extra_files is not a path below /etc, /root or /var/lib such as /etc/kubernetes/pki/*."
  }
}

variable "instance_types" {
  description = "Type of the build instance for each architecture."
  type        = map(string)
  default     = { x86_64 = "m7i.large", arm64 = "m7g.large" }
  validation {
    condition     = join(",", sort(keys(var.instance_types))) == "arm64,x86_64" && alltrue([for one in values(var.instance_types) : can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", one))])
    error_message = "The instance_types must be one type, such as m7g.large, for each of arm64 and x86_64."
  }
}

variable "volume_gib" {
  description = "Size of the root volume."
  type        = number
  default     = 20
  validation {
    condition     = var.volume_gib >= 10 && var.volume_gib <= 16384 && var.volume_gib == floor(var.volume_gib)
    error_message = "The volume_gib is not a whole number from 10 (the contents of the image, and half of it free) to 16384."
  }
}

variable "kms_key_id" {
  description = "KMS key for the image's snapshot; empty: the account's default. A key of your own needs the permissions that docs/iam.md lists. An image that other accounts launch needs a key that they may use."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^(|alias/[A-Za-z0-9/_-]+|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+|[0-9a-f-]{36}|mrk-[0-9a-f]{32})$", var.kms_key_id))
    error_message = "The kms_key_id is neither empty nor a key ID, an ARN or an alias/…."
  }
}

variable "copy_kms_key_ids" {
  description = "KMS key for the snapshot in each of copy_to_regions; a Region without one uses its default. With share_with_accounts every Region needs a key that those accounts may use."
  type        = map(string)
  default     = {}
  validation {
    condition     = alltrue([for region in keys(var.copy_kms_key_ids) : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", region))])
    error_message = "A key of copy_kms_key_ids is not an AWS Region such as eu-central-1."
  }
  validation {
    condition     = alltrue([for one in values(var.copy_kms_key_ids) : can(regex("^(alias/[A-Za-z0-9/_-]+|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+|[0-9a-f-]{36}|mrk-[0-9a-f]{32})$", one))])
    error_message = "A value of copy_kms_key_ids is not a key ID, an ARN or an alias/…."
  }
}

variable "share_with_accounts" {
  description = "Accounts that may launch the image."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for one in var.share_with_accounts : can(regex("^[0-9]{12}$", one))])
    error_message = "One of share_with_accounts is not an account of 12 digits."
  }
}

variable "copy_to_regions" {
  description = "Further Regions that get the image."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for one in var.copy_to_regions : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", one))])
    error_message = "One of copy_to_regions is not an AWS Region such as eu-central-1."
  }
}

variable "deprecate_after_days" {
  description = "Days until EC2 marks the image as deprecated: new users no longer find it, present users can go on."
  type        = number
  default     = 120
  validation {
    condition     = var.deprecate_after_days >= 1 && var.deprecate_after_days <= 3650 && var.deprecate_after_days == floor(var.deprecate_after_days)
    error_message = "The deprecate_after_days is not a whole number from 1 to 3650 (EC2's limit is ten years)."
  }
}

variable "poll_seconds" {
  description = "Seconds between two looks at the progress of a step in EC2; a build waits for each step for an hour at most."
  type        = number
  default     = 15
  validation {
    condition     = var.poll_seconds >= 1 && var.poll_seconds <= 60 && var.poll_seconds == floor(var.poll_seconds)
    error_message = "The poll_seconds is not a whole number from 1 to 60."
  }
}

variable "tags" {
  description = "Further tags for the image, its snapshots and the build's own resources."
  type        = map(string)
  default     = {}
  validation {
    condition     = alltrue([for key in keys(var.tags) : !can(regex("^((?i:aws:)|eniboot:)", key))])
    error_message = "A key among tags begins with aws: or eniboot:, which are AWS's and eniboot's own."
  }
  validation {
    condition     = alltrue([for key, value in var.tags : length(key) >= 1 && length(key) <= 128 && length(value) <= 256])
    error_message = "One of tags has a key that is not of 1 to 128 characters, or a value of more than 256."
  }
}
