//! What a guest without our seed is given: the host key and the reporter, by way of SMBIOS.
//!
//! cloud-init's Ec2 source knows no vendor data, and user data is the user's alone. systemd 252
//! and newer takes credentials from SMBIOS strings of type 11, and `systemd-tmpfiles` carries out
//! the lines of the credential `tmpfiles.extra` at every boot. Older guests take no notice, and
//! guests with the NoCloud seed get the same twice.
//!
//! Source: systemd's "System and Service Credentials", `tmpfiles.d(5)`.

use weft_model::SshHostKey;

use crate::report::REPORT_SCRIPT;
use crate::seed::host_key_config;

/// Guest-side folder of what must not outlive the boot: a disk that starts elsewhere keeps only
/// a symbolic link that leads nowhere and a script that does nothing.
const FOLDER: &str = "/run/weft";

/// The whole SMBIOS string of type 11. As secret as the host key: it must not be on a command line.
///
/// Before version 257, systemd reads no more than one page of the table's entry (its pull request
/// 33539), hence no base64 and no comments.
pub fn smbios_credentials(host_key: &SshHostKey) -> String {
    let config = host_key_config(host_key).to_string();
    let start = format!("#!/bin/sh\n[ ! -f {FOLDER}/report ] || exec sh {FOLDER}/report\n");
    let lines = [
        format!("d {FOLDER} 0700"),
        write(&format!("{FOLDER}/cloud.cfg"), "0600", &config),
        write(&format!("{FOLDER}/report"), "0600", &without_comments(REPORT_SCRIPT)),
        // cloud-init reads its base configuration here: under what user data says, as vendor data.
        format!("L+ /etc/cloud/cloud.cfg.d/95_weft.cfg - - - - {FOLDER}/cloud.cfg"),
        "d /var/lib/cloud/scripts/per-boot 0755".to_owned(),
        write("/var/lib/cloud/scripts/per-boot/weft-report", "0755", &start),
    ];
    format!("io.systemd.credential:tmpfiles.extra={}\n", lines.join("\n"))
}

/// A file with this content, over what is there. The content is unescaped as a C string is, and
/// `%` begins a specifier.
fn write(path: &str, mode: &str, content: &str) -> String {
    let content = content.replace('\\', "\\\\").replace('%', "%%").replace('\n', "\\n");
    format!("f+ {path} {mode} - - - {content}")
}

fn without_comments(script: &str) -> String {
    let lines = script.lines().filter(|line| !line.trim_start().starts_with("# "));
    lines.filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page, without the entry's header and the NULs at its end.
    const MAX_BYTES: usize = 4096 - 5 - 2;

    #[test]
    fn the_string_holds_key_and_script_and_fits_into_what_systemd_reads() {
        let key = crate::generate_host_key([1; 32], "i-0123456789abcdef0").unwrap();
        let string = smbios_credentials(&key);
        assert!(string.len() <= MAX_BYTES, "{} bytes", string.len());
        let lines = string.strip_prefix("io.systemd.credential:tmpfiles.extra=").unwrap();
        let content = |path: &str| {
            let start = format!("f+ {path} 0600 - - - ");
            let line = lines.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
            unescape(line)
        };
        let config: serde_json::Value =
            serde_json::from_str(&content("/run/weft/cloud.cfg")).unwrap();
        assert_eq!(config["ssh_keys"]["ed25519_private"], key.private_pem);
        assert_eq!(content("/run/weft/report"), without_comments(REPORT_SCRIPT));
        assert_eq!(lines.lines().count(), 6);
        assert!(!string.contains('\0') && string.is_ascii());
    }

    fn unescape(text: &str) -> String {
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '\\' if chars.next() == Some('n') => out.push('\n'),
                '\\' => out.push('\\'),
                '%' => out.extend(chars.next()),
                other => out.push(other),
            }
        }
        out
    }
}
