# One build, two images: a Fedora node for x86_64 and one for arm64. README.md says how to run it and what the images contain.

packer {
  # The versions that the tests run: other versions would make another build.
  required_version = "= 1.16.0"
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "= 1.8.2"
    }
  }
}

locals {
  # What `npm run build` made: version, commit, digests.
  manifest = jsondecode(file("${abspath(path.root)}/../dist/manifest.json"))
  version  = local.manifest.version
  # Names of the CPU: image names use EC2's, bundle names use Node's.
  cpu = { x86_64 = "x64", arm64 = "arm64" }

  # The validation of a variable cannot read other variables. For values that do not fit together, parseint fails here, and its
  # error
  # quotes the text, which says which values would fit.
  together = [for problem, is in {
    "crio_version ${var.crio_version} is not of the minor of kubernetes_version ${var.kubernetes_version}, as ${local.kubernetes_minor}.0 is" = !can(regex("^${local.kubernetes_minor}\\.", var.crio_version))
    "fedora_version ${var.fedora_version} is not the release in the names of base_images, such as Fedora-Cloud-Base-AmazonEC2.x86_64-${var.fedora_version}-1.7" = !alltrue([
      for image in values(var.base_images) : can(regex(format("-%d-", var.fedora_version), image.name))
    ])
  } : parseint(problem, 10) if is]

  started          = timestamp()
  kubernetes_minor = regex("^1\\.[0-9]+", var.kubernetes_version)
  tags = merge(var.tags, {
    "eniboot:version"    = local.version
    "eniboot:commit"     = local.manifest.commit
    "eniboot:kubernetes" = var.kubernetes_version
    "eniboot:crio"       = var.crio_version
    "eniboot:fedora"     = format("%d", var.fedora_version)
  })
}

source "amazon-ebs" "node" {
  region                      = var.region
  subnet_id                   = var.subnet_id
  associate_public_ip_address = var.ssh_interface == "public_ip"
  ssh_interface               = var.ssh_interface
  # Without either of these, the plugin opens the port to the whole Internet.
  temporary_security_group_source_cidrs     = var.ssh_source_cidrs
  temporary_security_group_source_public_ip = var.ssh_interface == "public_ip" && length(var.ssh_source_cidrs) == 0

  # Fedora accepts no RSA key whose signature uses SHA-1.
  ssh_username            = "fedora"
  temporary_key_pair_type = "ed25519"

  # For the build instance and for every instance of the image. When a launch sets no hop limit, EC2 then uses 2, so launch
  # templates set 1.
  imds_support = "v2.0"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    # If an account turns these tags on, EC2 refuses instances that have a tag key with a space or a slash.
    instance_metadata_tags = "disabled"
  }

  encrypt_boot = true
  kms_key_id   = var.kms_key_id
  launch_block_device_mappings {
    device_name           = "/dev/sda1"
    volume_type           = "gp3"
    volume_size           = var.volume_gib
    delete_on_termination = true
  }

  ami_users   = var.share_with_accounts
  ami_regions = length(var.copy_to_regions) == 0 ? [] : concat([var.region], var.copy_to_regions)
  # A copy does not inherit its source's key. The plugin refuses an empty map together with accounts to share with.
  region_kms_key_ids = length(var.copy_to_regions) == 0 ? {} : merge(
    var.copy_kms_key_ids,
    { for region in distinct(var.copy_to_regions) : region => lookup(var.copy_kms_key_ids, region, "") },
    { (var.region) = var.kms_key_id },
  )
  deprecate_at = timeadd(local.started, "${var.deprecate_after_days * 24}h")
  deregistration_protection {
    enabled       = true
    with_cooldown = true
  }
  force_deregister = false

  run_tags        = local.tags
  run_volume_tags = local.tags

  aws_polling {
    delay_seconds = var.poll_seconds
    max_attempts  = ceil(3600 / var.poll_seconds)
  }
}

build {
  dynamic "source" {
    for_each = local.cpu
    labels   = ["amazon-ebs.node"]
    content {
      name            = source.key
      source_ami      = var.base_images[source.key].id
      instance_type   = var.instance_types[source.key]
      ami_name        = "eniboot-${local.version}-k8s-${var.kubernetes_version}-fedora-${var.fedora_version}-${source.key}-${formatdate("YYYYMMDDhhmmss", local.started)}"
      ami_description = "Kubernetes ${var.kubernetes_version} node with eniboot ${local.version} on ${var.base_images[source.key].name}"
      tags = merge(local.tags, {
        "eniboot:executable" = local.manifest.files["${source.value}/eniboot"].sha256
        "eniboot:base"       = var.base_images[source.key].id
        "eniboot:base-name"  = var.base_images[source.key].name
        # The installed packages are compared with the lock; without a lock, only out/packages-ARCH.lock lists them.
        "eniboot:packages" = var.packages_lock == "" ? "not locked" : sha256(file(format("${abspath(path.root)}/${var.packages_lock}", source.key)))
      })
      snapshot_tags = local.tags
    }
  }

  provisioner "shell-local" {
    # Marks the build to which the files in out/ belong, even when it makes no image.
    inline = ["mkdir -p '${path.root}/out'", "rm -f '${path.root}/out/check-${source.name}.json'", "echo '${local.started}' >'${path.root}/out/started-${source.name}'"]
  }
  provisioner "shell" {
    inline = ["install -d -m 0700 /tmp/eniboot"]
  }
  provisioner "file" {
    sources     = ["${path.root}/keys", "${path.root}/../dist/node-files.tar"]
    destination = "/tmp/eniboot/"
  }
  provisioner "file" {
    source      = "${path.root}/../dist/eniboot-${local.version}-${local.cpu[source.name]}.tar.gz"
    destination = "/tmp/eniboot/bundle.tar.gz"
  }
  # There is no file when no lock is given: Packer leaves out an empty one.
  provisioner "file" {
    content     = var.packages_lock == "" ? "" : file(format("${abspath(path.root)}/${var.packages_lock}", source.name))
    destination = "/tmp/eniboot/packages.lock"
  }

  provisioner "shell" {
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
    environment_vars = [
      "ARCH=${source.name}",
      "REGION=${var.region}",
      "FEDORA_VERSION=${var.fedora_version}",
      "KUBERNETES_VERSION=${var.kubernetes_version}",
      "KUBERNETES_MINOR=${local.kubernetes_minor}",
      "CRIO_VERSION=${var.crio_version}",
      "KUBERNETES_KEY=${var.key_fingerprints["kubernetes"]}",
      "CRIO_KEY=${var.key_fingerprints["crio"]}",
      "SSM_AGENT_KEY=${var.key_fingerprints["ssm_agent"]}",
      "SSM_AGENT_VERSION=${var.ssm_agent.version}",
      "SSM_AGENT_SHA256=${var.ssm_agent.sha256[source.name]}",
      "PAUSE_IMAGE=${var.pause_image}",
      "EXTRA_PACKAGES=${join(" ", var.extra_packages)}",
      "ENIBOOT_VERSION=${local.version}",
      "NODE_FILES_SHA256=${local.manifest.files["node-files.tar"].sha256}",
      "BUNDLE_SHA256=${local.manifest.files["eniboot-${local.version}-${local.cpu[source.name]}.tar.gz"].sha256}",
    ]
    scripts = [for name in ["10-base", "20-packages", "30-modules", "40-eniboot", "50-host", "60-ssm-agent", "70-pause"] : "${path.root}/scripts/${name}.sh"]
  }

  provisioner "file" {
    direction   = "download"
    source      = "/tmp/eniboot-packages.lock"
    destination = "${path.root}/out/packages-${source.name}.lock"
  }
  provisioner "file" {
    direction   = "download"
    source      = "/tmp/eniboot-licences.txt"
    destination = "${path.root}/out/licences-${source.name}.txt"
  }
  # Removes the key by which this build logs in. Later provisioners use the open connection.
  provisioner "shell" {
    execute_command = "sudo bash {{ .Path }}"
    script          = "${path.root}/scripts/80-clean.sh"
    skip_clean      = true
  }
  provisioner "shell" {
    execute_command  = "sudo env {{ .Vars }} bash {{ .Path }}"
    environment_vars = ["KUBERNETES_VERSION=${var.kubernetes_version}", "CRIO_VERSION=${var.crio_version}", "EXTRA_FILES=${join(" ", var.extra_files)}"]
    script           = "${path.root}/scripts/90-check.sh"
  }
  provisioner "file" {
    direction   = "download"
    source      = "/run/eniboot-check.json"
    destination = "${path.root}/out/check-${source.name}.json"
  }
  provisioner "shell-local" {
    inline = ["grep -q '^{\"fit\":true,' '${path.root}/out/check-${source.name}.json' || { echo 'check: a check above says FAIL: no image is made (packer/out/check-${source.name}.json)' >&2; exit 1; }"]
  }

  post-processor "manifest" {
    output     = "${path.root}/out/manifest.json"
    strip_path = true
    custom_data = {
      started    = local.started
      version    = local.version
      commit     = local.manifest.commit
      executable = local.manifest.files["${local.cpu[source.name]}/eniboot"].sha256
      kubernetes = var.kubernetes_version
      crio       = var.crio_version
      ssm_agent  = var.ssm_agent.version
      pause      = var.pause_image
      base       = var.base_images[source.name].id
      base_name  = var.base_images[source.name].name
    }
  }
}
