//! Images.

use serde_json::{Value, json};
use weft_model::{ImageId, ImageSpec, Object, Timestamp};

use super::{Noun, common_details, common_json};
use crate::output::{age, size};

impl Noun for Object<ImageId, ImageSpec> {
    const HEADER: &'static [&'static str] =
        &["ID", "NAME", "FORMAT", "SIZE", "BOOT", "ARCH", "USER", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        let spec = &self.spec;
        vec![
            self.id.to_string(),
            spec.name.clone(),
            spec.content.format.to_string(),
            size(spec.content.virtual_size_bytes),
            spec.content.boot_mode.to_string(),
            spec.architecture.to_string(),
            spec.default_user.clone(),
            age(now, self.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let (spec, content) = (&self.spec, &self.spec.content);
        let mut pairs = vec![
            ("id", self.id.to_string()),
            ("name", spec.name.clone()),
            ("disk", format!("sha256:{}", spec.source_digest())),
            ("format", content.format.to_string()),
            ("virtual size", size(content.virtual_size_bytes)),
            ("boot mode", content.boot_mode.to_string()),
        ];
        if let Some(kernel) = &content.kernel {
            pairs.push(("kernel", format!("sha256:{}", kernel.kernel)));
            if let Some(initrd) = &kernel.initrd {
                pairs.push(("initrd", format!("sha256:{initrd}")));
            }
            pairs.push(("command line", kernel.cmdline.clone()));
        }
        pairs.extend([
            ("architecture", spec.architecture.to_string()),
            ("user", spec.default_user.clone()),
            ("smallest disk", format!("{} GiB", spec.min_disk_gib)),
            ("smallest memory", format!("{} MiB", spec.min_memory_mib)),
            ("protected", spec.protected.to_string()),
            ("deprecated", spec.deprecated.to_string()),
        ]);
        if spec.unpacked_from.is_some() {
            pairs.push(("unpacked", format!("sha256:{}", content.disk)));
        }
        if let Some(instance) = &spec.captured_from {
            pairs.push(("captured from", instance.to_string()));
        }
        pairs.extend(common_details(self));
        pairs
    }

    fn json(&self) -> Value {
        let (spec, content) = (&self.spec, &self.spec.content);
        let kernel = content.kernel.as_ref().map(|kernel| {
            json!({
                "kernel_sha256": kernel.kernel,
                "initrd_sha256": kernel.initrd,
                "cmdline": kernel.cmdline,
            })
        });
        let specific = json!({
            "name": spec.name,
            "disk_sha256": spec.source_digest(),
            "unpacked_sha256": spec.unpacked_from.map(|_| content.disk),
            "format": content.format,
            "virtual_size_bytes": content.virtual_size_bytes,
            "boot_mode": content.boot_mode,
            "kernel": kernel,
            "architecture": spec.architecture,
            "default_user": spec.default_user,
            "min_disk_gib": spec.min_disk_gib,
            "min_memory_mib": spec.min_memory_mib,
            "protected": spec.protected,
            "deprecated": spec.deprecated,
            "captured_from": spec.captured_from,
        });
        common_json(self, specific)
    }
}
