//! Problems of the agent and of the model as diagnostics: the field becomes the attribute.

use tfplugin::{Diagnostic, Schema, Value};
use weft_model::Problem;

/// The API's fields that have other names in HCL. Where several attributes can mean the field, the
/// one that is set is shown, else the first.
const ATTRIBUTES: &[(&str, &[&str])] = &[
    ("disk_sha256", &["source_path", "source_url"]),
    ("source_path", &["source_path", "source_url"]),
    ("kernel.kernel_sha256", &["kernel"]),
    ("kernel.initrd_sha256", &["initrd"]),
    ("kernel.cmdline", &["kernel_cmdline"]),
    ("root_volume_size_gib", &["root_volume.size_gib"]),
    ("root_volume_iops", &["root_volume.iops"]),
    ("root_volume_throughput_mibps", &["root_volume.throughput_mibps"]),
    ("user_data", &["user_data", "user_data_base64", "user_data_wo"]),
    ("cidr_ipv4", &["cidr_ipv4", "cidr_ipv6", "prefix_list_id", "referenced_security_group_id"]),
    ("instance_type", &["instance_type", "vcpus"]),
    ("context.tags", &["tags"]),
];

/// Two characters of indentation set the evidence off from the sentences around it.
const INDENT: &str = "\n  ";

/// `problem` as an error titled `summary`. `schema` and `config` tell which attributes there are.
pub(crate) fn diagnostic(
    summary: impl Into<String>,
    problem: &Problem,
    schema: &Schema,
    config: &Value,
) -> Diagnostic {
    let diagnostic = plain(summary, problem);
    match problem.field.as_deref().and_then(|field| attribute(field, schema, config)) {
        Some(path) => diagnostic.at(path),
        None => diagnostic,
    }
}

/// `problem` as an error of no attribute in particular.
pub(crate) fn plain(summary: impl Into<String>, problem: &Problem) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(summary).cause(&problem.message);
    if let Some(evidence) = &problem.evidence {
        let lines: Vec<&str> = evidence.trim_end().lines().collect();
        diagnostic.detail.push_str(&format!("\n{INDENT}{}", lines.join(INDENT)));
    }
    match &problem.remedy {
        Some(remedy) => diagnostic.remedy(remedy),
        None => diagnostic,
    }
}

fn attribute(field: &str, schema: &Schema, config: &Value) -> Option<String> {
    let candidates = ATTRIBUTES.iter().find(|(wire, _)| *wire == field).map(|(_, names)| *names);
    let names = candidates.unwrap_or(&[]);
    let chosen = names
        .iter()
        .copied()
        .find(|name| config.get(*name).is_set())
        .or_else(|| names.first().copied())
        .unwrap_or(field);
    // Fields that are no attribute here (the provider's endpoint, a session) point nowhere.
    let top = chosen.split(['.', '[']).next().unwrap_or(chosen);
    schema.get(top).map(|_| chosen.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tfplugin::Attribute;
    use weft_model::Reason;

    fn schema() -> Schema {
        let names = ["source_path", "user_data", "user_data_base64", "root_volume", "name"];
        Schema::new("x").attributes(names.map(|name| Attribute::string(name, "x")))
    }

    #[test]
    fn fields_lead_to_the_attribute_that_was_written() {
        let config = Value::object([("user_data_base64", "aGk=")]);
        #[rustfmt::skip]
        let cases = [
            ("disk_sha256",          Some("source_path")),
            ("user_data",            Some("user_data_base64")),
            ("root_volume_size_gib", Some("root_volume.size_gib")),
            ("root_volume.size_gib", Some("root_volume.size_gib")),
            ("name",                 Some("name")),
            ("endpoint",             None),
            ("context.session_id",   None),
        ];
        for (field, want) in cases {
            assert_eq!(attribute(field, &schema(), &config).as_deref(), want, "{field}");
        }
    }

    #[test]
    fn evidence_stands_between_cause_and_remedy() {
        let problem = Problem::new(Reason::DeadlineExceeded, "no SSH banner within 60 s")
            .evidence("kernel: 1.2 s\nconsole: ...\n")
            .remedy("run weft console i-1");
        let diagnostic = plain("x", &problem);
        assert_eq!(
            diagnostic.detail,
            "No SSH banner within 60 s.\n\n  kernel: 1.2 s\n  console: ...\n\nRun weft console i-1."
        );
    }
}
