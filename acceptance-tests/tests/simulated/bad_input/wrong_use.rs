//! Functions called wrongly, and user data in no state that are wrong.

use anyhow::Result;
use weft_acceptance::Lab;

use super::cases::{Case, Fails};
use crate::module::image;

pub(super) fn all(lab: &Lab) -> Result<Vec<Case>> {
    let mut cases = functions();
    let image = image(lab)?;
    cases.extend(user_data().into_iter().map(|case| case.with(&image)));
    Ok(cases)
}

fn functions() -> Vec<Case> {
    let bad = |name, call: &str| {
        let hcl = format!("output \"bad\" {{\n  value = provider::weft::{call}\n}}\n");
        Case::new(name, Fails::InPlan, hcl)
    };
    vec![
        bad("no part", "cloud_init([])"),
        bad(
            "a part that cloud-init cannot know",
            r##"cloud_init([{ content = "#cloud-config" }, { content = "echo hello" }])"##,
        ),
        bad(
            "a mistyped key of a part",
            r##"cloud_init([{ content = "#!/bin/sh", file_name = "a.sh" }])"##,
        ),
        bad(
            "two parts of one name",
            r##"cloud_init([{ content = "#!/bin/sh", filename = "a" }, { content = "#!/bin/sh", filename = "a" }])"##,
        ),
        bad(
            "more user data than fit",
            r##"cloud_init([{ content = format("#!/bin/sh%s", join("", [for i in range(1000) : format("%080d", i)])) }])"##,
        ),
        bad("a name instead of an id", r#"parse_id("web-1")"#),
        bad("an id that is cut short", r#"parse_id("i-0123456789")"#),
        bad(
            "an attachment's ids the wrong way round",
            r#"parse_id("vol-0123456789abcdef0/i-0123456789abcdef0")"#,
        ),
        bad(
            "a line break in ssh's configuration",
            r#"ssh_config_entry("web", { host_name = "10.0.0.7\nProxyCommand touch x" })"#,
        ),
        bad("nowhere to log in", r#"ssh_config_entry("web", { user = "debian" })"#),
        bad("an alias with a pattern", r#"ssh_config_entry("*", { host_name = "10.0.0.7" })"#),
    ]
}

fn user_data() -> Vec<Case> {
    let bad = |name, more: &str| {
        let hcl = format!(
            "resource \"weft_instance\" \"bad\" {{\n  name          = \"bad\"\n  \
             image_id      = weft_image.it.id\n  instance_type = \"w1.nano\"\n{more}}}\n"
        );
        Case::new(name, Fails::InPlan, hcl)
    };
    vec![
        bad("user data in no state without a version", "  user_data_wo  = \"#!/bin/sh\"\n"),
        bad("a version of no user data", "  user_data_wo_version = 1\n"),
        bad(
            "user data in a state and in none",
            "  user_data            = \"a\"\n  user_data_wo         = \"b\"\n  user_data_wo_version = 1\n",
        ),
    ]
}
