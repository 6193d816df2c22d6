//! Scripts of our own beside the user data: one tells us that cloud-init has ended, one takes into use
//! what comes while the guest runs.
//!
//! They are boot hooks of the vendor data: cloud-init runs those on every boot (`PER_ALWAYS` in
//! `handlers/boot_hook.py`), and nothing in user data replaces them, as a user's `runcmd` would
//! replace ours. The first one leaves a process that waits and then reports to the metadata service.

/// The script, for `sh`. Needs what every cloud-init brings: Python 3.
pub(crate) const REPORT_SCRIPT: &str = include_str!("report/report.sh");

/// The script that has udev take processors and memory into use that come later.
pub(crate) const GROW_SCRIPT: &str = include_str!("report/grow.sh");

/// Separates the parts; no part has it in a line of its own.
const BOUNDARY: &str = "==weft-vendor-data==";

/// Vendor data of more than one part, as `(content type, content)`.
///
/// Source: "MIME multi-part archive" of cloud-init's reference.
pub(crate) fn multipart(parts: &[(&str, &str)]) -> String {
    let mut text =
        format!("Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\nMIME-Version: 1.0\n");
    for (content_type, content) in parts {
        text += &format!(
            "\n--{BOUNDARY}\nContent-Type: {content_type}; charset=\"utf-8\"\n\n{content}\n"
        );
    }
    text + &format!("\n--{BOUNDARY}--\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_scripts_are_valid_and_have_no_boundary_in_them() {
        for script in [REPORT_SCRIPT, GROW_SCRIPT] {
            assert!(script.starts_with("#!/bin/sh\n"));
            assert!(!script.contains(BOUNDARY));
            let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            assert!(shell.wait().unwrap().success(), "{script}");
        }
    }

    #[test]
    fn parts_come_back_from_pythons_reader() {
        let text = multipart(&[("text/cloud-config", "#cloud-config\n{}"), ("text/x", "two\n")]);
        let program = "import email, sys\n\
            message = email.message_from_string(sys.stdin.read())\n\
            parts = [p for p in message.walk() if not p.is_multipart()]\n\
            print([(p.get_content_type(), p.get_payload()) for p in parts])";
        let python = Command::new("python3")
            .args(["-c", program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut python) = python else {
            eprintln!("SKIPPED: no python3 on this machine");
            return;
        };
        python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let said = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
        let want = "[('text/cloud-config', '#cloud-config\\n{}\\n'), ('text/x', 'two\\n\\n')]";
        assert_eq!(said.trim(), want);
    }
}
