//! From an open set of files to a running, unprivileged QEMU.

#![expect(unsafe_code, reason = "work between fork and exec")]

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::HolderError;
use super::files::GuestFiles;
use crate::qemu::{GuestSpec, command_line};
use crate::sys;

/// Starts QEMU as the guest's own user, with its console on pipes.
pub(super) fn qemu(spec: &GuestSpec, files: &GuestFiles) -> Result<Child, HolderError> {
    let (uid, groups, inherited) = (spec.uid, files.groups(), files.inherited());
    let mut command = Command::new(&spec.qemu.path);
    command
        .args(command_line(spec, files.fds()))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: the closure only makes system calls and reads memory that exists before the fork.
    unsafe {
        command.pre_exec(move || {
            sys::reset_process_state()?;
            sys::inherit_standard_streams_only();
            inherited.iter().try_for_each(|fd| sys::clear_cloexec(*fd))?;
            sys::become_user(uid, &groups)
        });
    }
    command.spawn().map_err(|source| HolderError::Qemu { program: spec.qemu.path.clone(), source })
}
