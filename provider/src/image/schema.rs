//! The attributes of `weft_image`.

use tfplugin::timeouts::{self, Operation};
use tfplugin::{Attribute, Schema, Type, Validator};
use weft_model::{Architecture, BootMode, InstanceId, SnapshotId};

use crate::{checks, tags};

pub(crate) fn schema() -> Schema {
    Schema::new(
        "An immutable disk and how to boot it, uploaded from this machine or fetched by the agent. \
         It is addressed by its content: a new digest replaces the image, a new path or URL alone \
         does not. Deleting it deregisters it: instances keep what they were made from.",
    )
    .subcategory("Compute")
    .attribute(
        Attribute::string("name", "For people; need not be unique.").required().validate(checks::name()),
    )
    .attribute(
        Attribute::string(
            "source_path",
            "The disk, raw or qcow2 without a backing file, as it is or compressed by gzip, xz or zstd, on the machine that runs Terraform. It is needed to create the image and looked at in each plan where it is there. If it changes between `terraform plan -out` and the apply of that plan, Terraform refuses it as an \"inconsistent final plan\": plan again. Either this, or `source_url` and its digest, or `source_instance_id`, or `source_snapshot_id`.",
        )
        .validate(checks::not_empty()),
    )
    .attribute(Attribute::string(
        "source_url",
        "The disk, raw or qcow2, as it is or compressed by gzip, xz or zstd, as an http or https URL that the agent fetches: it is the agent's machine that has to reach it. A download that breaks goes on where it was. A password in it is in the state; it is not logged.",
    ))
    .attribute(
        Attribute::string("sha256", "The SHA-256 of what is at `source_url`, as its publisher gives it: of the compressed file, where it is one. A new one replaces the image.")
            .validate(checks::digest()),
    )
    .attribute(
        Attribute::string("sha512", "Instead of `sha256`: the SHA-512 of what is at `source_url`, where its publisher gives that one, as Debian does. `digest` is known after the apply then. A new one replaces the image.")
            .validate(checks::sha512()),
    )
    .attribute(
        Attribute::string(
            "source_instance_id",
            "The instance whose root disk is captured. How it boots and `default_user` are inherited from its image. What the instance does to its disk afterwards does not change the image; `terraform apply -replace` captures it again. Its own host key, users and logs are in the image: see the guide to own images.",
        )
        .replace_on_change()
        .validate(checks::id::<InstanceId>(InstanceId::PREFIX, "an instance")),
    )
    .attribute(
        Attribute::string(
            "source_snapshot_id",
            "The snapshot of an instance's root disk that becomes the image.",
        )
        .replace_on_change()
        .validate(checks::id::<SnapshotId>(SnapshotId::PREFIX, "a snapshot")),
    )
    .attribute(Attribute::bool(
        "snapshot_without_reboot",
        "With `source_instance_id`: `true`, which it is unless set, captures the instance as it runs, as if it had lost power at that moment. With `false` its guest shuts down first, so that its file systems are clean, and is started again at once. A change alone changes nothing.",
    ))
    .attribute(
        Attribute::string(
            "consistency",
            "Instead of `snapshot_without_reboot`: `crash` is its `true`, `stopped` its `false`. With `frozen` the guest runs on, and the agent that it runs (the package `qemu-guest-agent`) writes all out and freezes its file systems for the moment in which they are captured; where none answers within seconds, that is an error. A change alone changes nothing.",
        )
        .validate(Validator::one_of(super::capture::CONSISTENCIES)),
    )
    .attribute(Attribute::string(
        "sha256_url",
        "Instead of `sha256`: a list of digests that its publisher has beside the file, such as SHA256SUMS, SHA512SUMS or Fedora's CHECKSUM, which the agent reads while planning, or in the apply. It is read once: what it says later changes nothing, until `source_url` or `sha256_url` changes.",
    ))
    .attribute(Attribute::list(
        "mirrors",
        Type::String,
        "Other URLs of the same file, tried in order where `source_url` fails.",
    ))
    .attribute(
        Attribute::string(
        "kernel",
        "A Linux kernel (bzImage, a distribution's vmlinuz) that the hypervisor loads itself: on the machine that runs Terraform, or, with `source_url`, a URL. A new digest replaces the image.",
        )
        .validate(checks::not_empty()),
    )
    .attribute(
        Attribute::string("kernel_sha256", "The SHA-256 of `kernel`, where that is a URL.")
            .validate(checks::digest()),
    )
    .attribute(
        Attribute::string(
        "initrd",
        "The initial RAM filesystem that goes with `kernel`, a path or URL as that. A new digest replaces the image.",
        )
        .validate(checks::not_empty()),
    )
    .attribute(
        Attribute::string("initrd_sha256", "The SHA-256 of `initrd`, where that is a URL.")
            .validate(checks::digest()),
    )
    .attribute(timeouts::attribute([Operation::Create]))
    .attribute(
        Attribute::string("kernel_cmdline", "The command line that goes with `kernel`.")
            .optional_computed()
            .replace_on_change(),
    )
    .attribute(
        Attribute::string(
            "boot_mode",
            "`bios`, `uefi` or `direct_kernel`; unset, `direct_kernel` with `kernel` and else `bios`.",
        )
        .optional_computed()
        .replace_on_change()
        .validate(Validator::one_of(BootMode::WORDS.iter().copied())),
    )
    .attribute(
        Attribute::string("architecture", "`x86_64` or `aarch64`; an instance is only made on a host whose guests have it.")
            .default(Architecture::X86_64.as_str())
            .replace_on_change()
            .validate(Validator::one_of(Architecture::WORDS.iter().copied())),
    )
    .attribute(
        Attribute::string("default_user", "Who logs in over SSH with an instance's keys, such as `debian`: the user that the image's own first boot makes. Required unless the image is made of an instance or a snapshot (`source_instance_id`, `source_snapshot_id`): unset, it is that one's then.")
            .optional_computed()
            .validate(checks::user_name()),
    )
    .attribute(
        Attribute::number("min_disk_gib", "The smallest root disk, in GiB.")
            .default(0)
            .validate(checks::number("GiB of disk", 0..=65536)),
    )
    .attribute(
        Attribute::number("min_memory_mib", "The smallest memory, in MiB.")
            .default(0)
            .validate(checks::number("MiB of memory", 0..=4_194_304)),
    )
    .attribute(
        Attribute::bool("protected", "Whether the image can neither be deleted nor replaced, by nobody. The way out: set it to `false`, apply that, then delete.")
            .default(false),
    )
    .attribute(
        Attribute::bool("deprecated", "Whether data sources pass it over, unless they say `include_deprecated = true`. Instances of it stay as they are, and it can be used by its id.")
            .default(false),
    )
    .attributes(tags::attributes())
    .attribute(Attribute::string("id", "`img-` and 17 hexadecimal digits.").computed())
    .attribute(Attribute::string("digest", "The SHA-256 of the disk's file, as it was given: of the compressed one, where it is one.").computed())
    .attribute(Attribute::string("kernel_digest", "The SHA-256 of `kernel`.").computed())
    .attribute(Attribute::string("initrd_digest", "The SHA-256 of `initrd`.").computed())
    .attribute(Attribute::number("virtual_size_bytes", "What a guest sees of the disk, in bytes.").computed())
}
