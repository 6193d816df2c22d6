//! TCP with mutual TLS: the certificates, and the listener that asks for them.
//!
//! `fabric-agent init` makes a CA of this agent's own; whoever shows a certificate that it signed
//! may do everything, as root may on the unix socket. There is no mode without certificates.

pub(crate) mod authority;
pub(crate) mod certificates;
pub(crate) mod init;
pub(crate) mod listen;

use std::path::{Path, PathBuf};

/// Where the files are: a folder of the state directory.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    state_dir: PathBuf,
}

/// What the folder is called.
pub(crate) const FOLDER: &str = "tls";

impl Files {
    pub(crate) fn of(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned() }
    }

    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.state_dir.join(FOLDER)
    }

    pub(crate) fn ca_cert(&self) -> PathBuf {
        self.folder().join("ca.crt")
    }

    pub(crate) fn ca_key(&self) -> PathBuf {
        self.folder().join("ca.key")
    }

    pub(crate) fn agent_cert(&self) -> PathBuf {
        self.folder().join("agent.crt")
    }

    pub(crate) fn agent_key(&self) -> PathBuf {
        self.folder().join("agent.key")
    }

    pub(crate) fn clients(&self) -> PathBuf {
        self.folder().join("clients")
    }

    pub(crate) fn client(&self, name: &str) -> PathBuf {
        self.clients().join(name)
    }

    /// `--state-dir DIR ` for command lines in messages, where it is not the default.
    pub(crate) fn flag(&self) -> String {
        match self.state_dir == Path::new(crate::config::STATE_DIR) {
            true => String::new(),
            false => format!("--state-dir {} ", self.state_dir.display()),
        }
    }
}
