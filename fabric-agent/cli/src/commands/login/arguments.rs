//! What ssh is called with. Quoting rules are those of `ssh_config(5)`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use weft_model::{InstanceId, InstanceView, Problem, Reason};

/// Whom ssh may ask for what it lacks, such as a key's passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prompts {
    /// People at a terminal, who end by themselves what takes too long.
    Any,
    /// The same, but a guest that says nothing for [`SILENCE`] is given up.
    Bounded,
    /// Nobody: several logins at a time. As long as `Bounded`.
    None,
}

/// Seconds that a guest has for the beginning of the conversation. It covers ProxyCommand, too
/// (`ConnectTimeout` in `ssh_config(5)`); a guest under software emulation needs some.
const SILENCE: u32 = 30;

/// One call of ssh.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// This program: ssh runs it again as its ProxyCommand.
    pub(super) exe: &'a Path,
    /// The file with [`known_hosts`].
    pub(super) known_hosts: &'a Path,
    /// The instance, which ssh knows by its id.
    pub(super) id: &'a InstanceId,
    /// Who logs in.
    pub(super) user: &'a str,
    /// The private key to log in with.
    pub(super) identity: Option<&'a Path>,
    /// What ssh may ask, and how long it waits for an answer.
    pub(super) prompts: Prompts,
    /// Empty: a shell.
    pub(super) command: &'a [OsString],
}

impl Call<'_> {
    /// # Errors
    /// A [`Problem`] where a path cannot be said in ssh's configuration.
    pub(super) fn arguments(&self) -> Result<Vec<OsString>, Problem> {
        let exe = shell_word(utf8(self.exe)?).replace('%', "%%");
        let mut arguments: Vec<OsString> = Vec::new();
        // Options on the command line win over the user's configuration.
        for option in [
            format!("ProxyCommand={exe} proxy {}", self.id),
            format!("HostKeyAlias={}", self.id),
            format!("UserKnownHostsFile={}", config_word(self.known_hosts)?),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            // Every other source of host keys, and writing to the temporary file.
            "KnownHostsCommand=none".to_owned(),
            "VerifyHostKeyDNS=no".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            // A shared connection would pass by the checks above.
            "ControlPath=none".to_owned(),
            "CanonicalizeHostname=no".to_owned(),
        ] {
            arguments.extend(["-o".into(), option.into()]);
        }
        if self.prompts != Prompts::Any {
            arguments.extend(["-o".into(), format!("ConnectTimeout={SILENCE}").into()]);
        }
        if self.prompts == Prompts::None {
            arguments.extend(["-o".into(), "BatchMode=yes".into()]);
        }
        if let Some(key) = self.identity {
            // Keys of a running ssh-agent would use up the server's tries first.
            arguments.extend(["-o".into(), "IdentitiesOnly=yes".into()]);
            arguments.extend(["-i".into(), key.into()]);
        }
        if !self.command.is_empty() {
            arguments.push("-T".into());
        }
        arguments.extend(["-l".into(), self.user.into(), self.id.to_string().into()]);
        if !self.command.is_empty() {
            // ssh reads options behind the host name, too.
            arguments.push("--".into());
            arguments.extend(self.command.iter().cloned());
        }
        Ok(arguments)
    }
}

/// The lines of a known_hosts file: the instance's id, type and key (`man 8 sshd`).
///
/// # Errors
/// A [`Problem`] where the agent knows no key, or one that is not one line.
pub(super) fn known_hosts(view: &InstanceView) -> Result<String, Problem> {
    let invalid = |message: String| Err(Problem::new(Reason::Internal, message));
    let (id, keys) = (&view.object.id, &view.assigned.ssh_host_public_keys);
    if keys.is_empty() {
        return invalid(format!("the agent knows no SSH host key of {id}"));
    }
    let mut text = String::new();
    for key in keys {
        let words: Vec<&str> = key.split(' ').collect();
        let one_key = words.len() >= 2 && words.iter().all(|word| !word.is_empty());
        if !one_key || key.chars().any(char::is_control) {
            return invalid(format!("\"{}\" is not an SSH host key of {id}", key.escape_debug()));
        }
        text.push_str(&format!("{id} {key}\n"));
    }
    Ok(text)
}

fn utf8(path: &Path) -> Result<&str, Problem> {
    path.to_str().ok_or_else(|| {
        let message = format!("ssh cannot be given the path \"{}\"", path.display());
        Problem::new(Reason::FailedPrecondition, message).remedy("use a path in UTF-8")
    })
}

/// `words` as a guest's shell has to be told them: it reads back exactly these.
pub(crate) fn shell_words<W: AsRef<OsStr>>(words: &[W]) -> OsString {
    let quoted: Vec<Vec<u8>> = words.iter().map(|word| quoted(word.as_ref().as_bytes())).collect();
    OsString::from_vec(quoted.join(&b' '))
}

fn quoted(word: &[u8]) -> Vec<u8> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-+@:,".contains(b);
    if !word.is_empty() && word.iter().all(plain) {
        return word.to_owned();
    }
    let mut quoted = vec![b'\''];
    for byte in word {
        match byte {
            b'\'' => quoted.extend_from_slice(br"'\''"),
            other => quoted.push(*other),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// `text` as one word of a POSIX shell: ssh runs a ProxyCommand with the user's shell.
fn shell_word(text: &str) -> String {
    String::from_utf8_lossy(&quoted(text.as_bytes())).into_owned()
}

/// `path` as one word of an option that takes file names: in double quotes, `%` doubled.
fn config_word(path: &Path) -> Result<String, Problem> {
    let text = utf8(path)?;
    // `${` begins a variable and cannot be escaped; quotes and backslashes end or change a word.
    if text.contains("${") || text.contains(['"', '\\', '\n']) {
        let message = format!("ssh cannot be given the path \"{text}\"");
        return Err(Problem::new(Reason::FailedPrecondition, message)
            .remedy("set TMPDIR to a directory without quotes, backslashes and ${ in its name"));
    }
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

#[cfg(test)]
mod tests;
