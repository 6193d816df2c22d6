//! The attributes of `weft_image`.

use tfplugin::{Attribute, Schema, Validator};
use weft_model::{Architecture, BootMode};

use crate::{checks, tags};

pub(crate) fn schema() -> Schema {
    Schema::new(
        "An immutable disk and how to boot it, uploaded from this machine. It is addressed by its \
         content: a new digest replaces the image, a new path alone does not. Deleting it \
         deregisters it: instances keep what they were made from.",
    )
    .subcategory("Compute")
    .attribute(
        Attribute::string("name", "For people; need not be unique.").required().validate(checks::name()),
    )
    .attribute(
        Attribute::string(
            "source_path",
            "The disk, raw or qcow2 without a backing file, on the machine that runs Terraform. It is needed to create the image and looked at in each plan where it is there.",
        )
        .required(),
    )
    .attribute(Attribute::string(
        "kernel",
        "A Linux kernel (bzImage, a distribution's vmlinuz) that the hypervisor loads itself, on the machine that runs Terraform. A new digest replaces the image.",
    ))
    .attribute(Attribute::string(
        "initrd",
        "The initial RAM filesystem that goes with `kernel`. A new digest replaces the image.",
    ))
    .attribute(
        Attribute::string("kernel_cmdline", "The command line that goes with `kernel`.")
            .replace_on_change(),
    )
    .attribute(
        Attribute::string(
            "boot_mode",
            "`bios` or `direct_kernel`; unset, what fits `kernel`.",
        )
        .optional_computed()
        .replace_on_change()
        .validate(Validator::one_of(BootMode::WORDS.iter().copied())),
    )
    .attribute(
        Attribute::string("architecture", "`x86_64`.")
            .default(Architecture::X86_64.as_str())
            .replace_on_change()
            .validate(Validator::one_of(Architecture::WORDS.iter().copied())),
    )
    .attribute(
        Attribute::string("default_user", "Who logs in over SSH with an instance's keys, such as `debian`: the user that the image's own first boot makes.")
            .required()
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
    .attributes(tags::attributes())
    .attribute(Attribute::string("id", "`img-` and 17 hexadecimal digits.").computed())
    .attribute(Attribute::string("digest", "The SHA-256 of the disk.").computed())
    .attribute(Attribute::string("kernel_digest", "The SHA-256 of `kernel`.").computed())
    .attribute(Attribute::string("initrd_digest", "The SHA-256 of `initrd`.").computed())
    .attribute(Attribute::number("virtual_size_bytes", "What a guest sees of the disk, in bytes.").computed())
}
