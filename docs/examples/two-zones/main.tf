# Nodes in two zones: one launch template and one Auto Scaling group for each zone. Each launches the image that has the label
# `stable` in its zone's parameter. This is an example to adapt: kubelet's kubeconfig and joining the cluster are not in it.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

variable "cluster" {
  description = "Name of the cluster, as in the nodes' configuration."
  type        = string
}

variable "zones" {
  description = "For each zone ID (such as euw1-az1): the subnet of boot ENIs, the subnet of pod ENIs, both in that zone, and the number of nodes."
  type = map(object({
    node_subnet = string
    pod_subnet  = string
    nodes       = number
  }))
  validation {
    condition     = alltrue([for id, _ in var.zones : can(regex("-az[0-9]+$", id))])
    error_message = "Keys are zone IDs, such as euw1-az1: zone names differ from account to account."
  }
}

variable "instance_profile" {
  description = "Name of the profile whose role has the policy of `eniboot iam-policy node`."
  type        = string
}

variable "security_group" {
  description = "Security group of boot ENIs; pod ENIs get it too unless pods.securityGroups says otherwise."
  type        = string
}

variable "instance_type" {
  description = "An instance type with the CPU of `arch`."
  type        = string
  default     = "m6i.large"
}

variable "arch" {
  description = "x86_64 or arm64, as in the parameter's name."
  type        = string
  default     = "x86_64"
  validation {
    condition     = contains(["x86_64", "arm64"], var.arch)
    error_message = "Must be x86_64 or arm64."
  }
}

resource "aws_launch_template" "node" {
  for_each = var.zones

  name_prefix            = "${var.cluster}-${each.key}-"
  update_default_version = true

  # By the label, so that `eniboot image promote` and `rollback` need no change here.
  image_id      = "resolve:ssm:/eniboot/image/${var.arch}/${each.key}:stable"
  instance_type = var.instance_type

  # A limit of 1 keeps containers behind a bridge, one hop further away, from the node's credentials. An ipvlan is not a hop:
  # eniboot's guards keep pods from them (docs/security.md).
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    # With these tags enabled, EC2 refuses instances that have a tag key with a space or a slash.
    instance_metadata_tags = "disabled"
  }

  iam_instance_profile {
    name = var.instance_profile
  }

  # The boot ENI alone: eniboot attaches the pod ENIs.
  network_interfaces {
    device_index                = 0
    delete_on_termination       = true
    associate_public_ip_address = true
    security_groups             = [var.security_group]
  }

  user_data = base64encode(templatefile("${path.module}/user-data.yaml.tftpl", {
    cluster    = var.cluster
    pod_subnet = each.value.pod_subnet
  }))

  tag_specifications {
    resource_type = "instance"
    tags = {
      Name              = "${var.cluster}-node"
      "eniboot:cluster" = var.cluster
    }
  }
}

resource "aws_autoscaling_group" "node" {
  for_each = var.zones

  name                = "${var.cluster}-${each.key}"
  vpc_zone_identifier = [each.value.node_subnet]
  min_size            = each.value.nodes
  max_size            = each.value.nodes + 1

  launch_template {
    id      = aws_launch_template.node[each.key].id
    version = "$Latest"
  }
}
