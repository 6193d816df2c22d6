//! What is told of an instance that is not what was waited for: what was seen, and what to do next.
//! Pure.

use std::fmt::Write as _;

use weft_model::{
    CloudInitReport, InstanceId, InstanceState, InstanceStatus, Phase, WaitFor, shows_itself,
};

use super::Until;
use super::console::{self, Trouble};
use crate::host::SshSeen;
use crate::reconcile::Asked;

/// What is known of the instance.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) id: &'a InstanceId,
    pub(super) until: Until,
    pub(super) status: &'a InstanceStatus,
    pub(super) asked: Asked,
    /// What the prober saw last.
    pub(super) ssh: Option<SshSeen>,
    /// What the security groups have to say of port 22.
    pub(super) groups: &'a str,
    /// The lines of the console's end, or why it could not be read.
    pub(super) console: Result<Vec<String>, String>,
}

impl Seen<'_> {
    /// What was seen, a line for each thing.
    pub(super) fn evidence(&self) -> String {
        let status = self.status;
        let mut evidence = format!("state: {}\n", status.state);
        // Writing to a String cannot fail.
        if let Some(last) = status.phases.last() {
            let _ = writeln!(evidence, "last phase: {} at {}", last.phase, last.at);
        }
        if let Ok(lines) = &self.console
            && let Some((trouble, line)) = console::recognised(lines)
        {
            let _ = writeln!(
                evidence,
                "recognised: {}, as its console says:\n  | {line}",
                trouble.what()
            );
        }
        if self.until_guest_speaks() {
            let _ = writeln!(evidence, "seen on the network: {}", self.asked());
        }
        if let Some(report) = &status.cloud_init {
            let _ = writeln!(evidence, "cloud-init: {}{}", report.outcome, said_by(report));
        }
        if self.until == Until::Ready(WaitFor::Ssh) && self.runs() {
            if let Some(seen) = &self.ssh {
                let _ = writeln!(evidence, "seen on port 22: {seen}");
            }
            let _ = writeln!(evidence, "security groups: {}", self.groups);
        }
        match &self.console {
            Ok(lines) if lines.is_empty() => {
                evidence.push_str("console: nothing was written to it\n");
            }
            Ok(lines) => {
                let _ = write!(evidence, "console, last lines:\n{}", console::tail(lines));
            }
            Err(why) => {
                let _ = writeln!(evidence, "console: {why}");
            }
        }
        let harmless = |c: &char| *c == '\n' || shows_itself(*c);
        evidence.trim_end().chars().filter(harmless).collect()
    }

    /// What to do next.
    pub(super) fn remedy(&self) -> String {
        let id = self.id;
        let look = match self.until {
            Until::Stopped => return format!("`weft console {id}` shows what the guest is doing"),
            Until::Gone => return "see the agent's log".to_owned(),
            Until::Ready(_) if !self.runs() => {
                format!("the instance is kept; `weft logs {id}` shows all of its console")
            }
            Until::Ready(WaitFor::CloudInit) => format!(
                "the instance is kept; look further with `weft console {id}`, or in the guest in \
                 /var/log/cloud-init-output.log and with `cloud-init status --long`"
            ),
            Until::Ready(_) => format!(
                "the instance is kept; look further with `weft console {id}` or `weft logs {id}`"
            ),
        };
        match self.likely() {
            Some(what) => format!("{what}; {look}"),
            None => look,
        }
    }

    /// What mends the likeliest cause.
    fn likely(&self) -> Option<&'static str> {
        let lines = self.console.as_deref().unwrap_or_default();
        if let Some((trouble, _)) = console::recognised(lines) {
            return Some(match trouble {
                Trouble::NoRoot => {
                    "check the weft_image: its kernel_cmdline (root=), its initrd and its disk have to \
                     fit each other"
                }
                Trouble::Panic => "check that the image boots with the instance's size and devices",
                Trouble::OutOfMemory => "choose a larger instance_type, or more memory_mib",
                Trouble::DiskFull => {
                    "choose a larger root_volume.size_gib: the guest's file system grows with it"
                }
                Trouble::Emergency => {
                    "check the image's /etc/fstab and its kernel_cmdline (root=) for disks that are \
                     not there"
                }
            });
        }
        if !self.runs() || !self.until_guest_speaks() {
            return None;
        }
        match &self.ssh {
            Some(SshSeen::WrongKey(_)) => Some(
                "use an image whose cloud-init reads the seed, or set wait_for = \"running\" for \
                 one that makes host keys of its own",
            ),
            Some(SshSeen::Refused) if self.until == Until::Ready(WaitFor::Ssh) => Some(
                "see that an SSH server is installed and started in the guest, or set wait_for = \
                 \"running\" for an image without one",
            ),
            Some(SshSeen::Silent)
                if self.asked.dhcp.is_some() && self.until == Until::Ready(WaitFor::Ssh) =>
            {
                Some(
                    "it has its address: see in the guest whether a firewall of its own drops port 22",
                )
            }
            _ if self.has_shown_nothing() && self.console.is_ok() && lines.is_empty() => Some(
                "check that the image boots in its boot_mode, or with its kernel, and that it writes \
                 to the serial console (console=ttyS0)",
            ),
            _ if self.has_shown_nothing() => Some(
                "see in its console how far it boots: it has not brought its network up, which \
                 needs DHCP on its first interface",
            ),
            _ => None,
        }
    }

    /// Whether nobody has heard of the guest on its network.
    fn has_shown_nothing(&self) -> bool {
        self.asked.nothing() && self.status.reached(Phase::DhcpOrImds).is_none()
    }

    fn runs(&self) -> bool {
        self.status.state == InstanceState::Running
    }

    /// Whether the guest has to do something on its network for the wait to end well.
    fn until_guest_speaks(&self) -> bool {
        matches!(self.until, Until::Ready(WaitFor::Ssh | WaitFor::CloudInit | WaitFor::Signal))
    }

    fn asked(&self) -> String {
        match self.status.reached(Phase::DhcpOrImds) {
            Some(at) if self.asked.nothing() => format!(
                "the guest first asked for its address or its metadata at {at}, and for nothing since \
                 the agent was started"
            ),
            _ => self.asked.to_string(),
        }
    }
}

/// What a report holds besides its outcome, indented as the console's lines are.
fn said_by(report: &CloudInitReport) -> String {
    let detail = (!report.detail.is_empty()).then_some(report.detail.as_str());
    let texts = detail.into_iter().chain(report.errors.iter().map(String::as_str));
    texts.flat_map(str::lines).map(|line| format!("\n  | {line}")).collect()
}

#[cfg(test)]
mod tests;
