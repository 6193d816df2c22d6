//! Images.

use weft_model::{
    Architecture, BootMode, ImageContent, ImageId, ImageOrder, ImageSpec, KernelContent, Object,
    Problem,
};

use super::object::{object_from_wire, object_to_wire};
use super::{parse, parse_word, required};
use crate::v1;

/// # Errors
/// A [`Problem`] at the field that is wrong, such as a kernel without `direct_kernel`.
pub fn image_order_from_wire(spec: Option<v1::ImageSpec>) -> Result<ImageOrder, Problem> {
    let v1::ImageSpec {
        name,
        disk_sha256,
        boot_mode,
        kernel,
        architecture,
        default_user,
        min_disk_gib,
        min_memory_mib,
        protected,
        deprecated,
        captured_from,
    } = required("spec", spec)?;
    let boot_mode: BootMode = parse_word("boot_mode", &boot_mode)?;
    let kernel = kernel.map(kernel_from_wire).transpose()?;
    match (boot_mode, &kernel) {
        (BootMode::DirectKernel, None) => {
            return Err(Problem::invalid("kernel", "boot_mode direct_kernel needs a kernel")
                .remedy("set kernel, or boot_mode = \"bios\""));
        }
        (BootMode::Bios | BootMode::Uefi, Some(_)) => {
            let message = format!("a kernel is not used with boot_mode {boot_mode}");
            return Err(Problem::invalid("kernel", message)
                .remedy("remove kernel, or set boot_mode = \"direct_kernel\""));
        }
        _ => {}
    }
    Ok(ImageOrder {
        name: parse::<weft_model::Name>("name", &name)?.to_string(),
        disk: parse("disk_sha256", &disk_sha256)?,
        boot_mode,
        kernel,
        architecture: parse_word::<Architecture>("architecture", &architecture)?,
        default_user: user_from_wire(default_user)?,
        min_disk_gib,
        min_memory_mib,
        protected,
        deprecated,
        captured_from: captured_from.map(|id| parse("captured_from", &id)).transpose()?,
    })
}

/// A Linux user name as `useradd` accepts it (`man 8 useradd`, CAVEATS).
fn user_from_wire(user: String) -> Result<String, Problem> {
    let tail_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    let valid = user.len() <= 32
        && user.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && user.bytes().all(tail_ok);
    if valid {
        return Ok(user);
    }
    Err(Problem::invalid("default_user", format!("\"{user}\" is not a Linux user name"))
        .remedy("use lowercase letters, digits, _ and -, starting with a letter"))
}

fn kernel_from_wire(kernel: v1::Kernel) -> Result<KernelContent, Problem> {
    let v1::Kernel { kernel_sha256, initrd_sha256, cmdline } = kernel;
    Ok(KernelContent {
        kernel: parse("kernel.kernel_sha256", &kernel_sha256)?,
        initrd: initrd_sha256.map(|text| parse("kernel.initrd_sha256", &text)).transpose()?,
        cmdline,
    })
}

/// The wire's form of `order`.
pub fn image_order_to_wire(order: ImageOrder) -> v1::ImageSpec {
    v1::ImageSpec {
        name: order.name,
        disk_sha256: order.disk.to_string(),
        boot_mode: order.boot_mode.to_string(),
        kernel: order.kernel.map(|kernel| v1::Kernel {
            kernel_sha256: kernel.kernel.to_string(),
            initrd_sha256: kernel.initrd.map(|digest| digest.to_string()),
            cmdline: kernel.cmdline,
        }),
        architecture: order.architecture.to_string(),
        default_user: order.default_user,
        min_disk_gib: order.min_disk_gib,
        min_memory_mib: order.min_memory_mib,
        protected: order.protected,
        deprecated: order.deprecated,
        captured_from: order.captured_from.map(|id| id.to_string()),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn image_from_wire(wire: v1::Image) -> Result<Object<ImageId, ImageSpec>, Problem> {
    let v1::Image { metadata, spec, format, virtual_size_bytes, unpacked_sha256 } = wire;
    let order = image_order_from_wire(spec)?;
    let unpacked = unpacked_sha256.map(|text| parse("unpacked_sha256", &text)).transpose()?;
    let content = ImageContent {
        disk: unpacked.unwrap_or(order.disk),
        format: parse_word("format", &format)?,
        virtual_size_bytes,
        boot_mode: order.boot_mode,
        kernel: order.kernel,
    };
    object_from_wire(
        metadata,
        ImageSpec {
            name: order.name,
            content,
            architecture: order.architecture,
            default_user: order.default_user,
            min_disk_gib: order.min_disk_gib,
            min_memory_mib: order.min_memory_mib,
            protected: order.protected,
            deprecated: order.deprecated,
            unpacked_from: unpacked.map(|_| order.disk),
            captured_from: order.captured_from,
        },
    )
}

/// The wire's form of `object`.
pub fn image_to_wire(object: Object<ImageId, ImageSpec>) -> v1::Image {
    let (metadata, spec) = object_to_wire(object);
    let disk = spec.source_digest();
    let content = spec.content;
    let order = ImageOrder {
        name: spec.name,
        disk,
        boot_mode: content.boot_mode,
        kernel: content.kernel,
        architecture: spec.architecture,
        default_user: spec.default_user,
        min_disk_gib: spec.min_disk_gib,
        min_memory_mib: spec.min_memory_mib,
        protected: spec.protected,
        deprecated: spec.deprecated,
        captured_from: spec.captured_from,
    };
    v1::Image {
        metadata: Some(metadata),
        spec: Some(image_order_to_wire(order)),
        format: content.format.to_string(),
        virtual_size_bytes: content.virtual_size_bytes,
        unpacked_sha256: spec.unpacked_from.map(|_| content.disk.to_string()),
    }
}
