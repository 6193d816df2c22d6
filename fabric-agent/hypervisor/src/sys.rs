//! System calls that neither std nor nix wrap.
#![expect(unsafe_code, reason = "raw system calls")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::raw::{c_int, c_short, c_uint};

use tokio::io::unix::AsyncFd;

/// pidfd_open(2), Linux 5.3; works for processes that are not children.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = c_int::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// pidfd_send_signal(2), Linux 5.1.
pub(crate) fn pidfd_kill(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means the same as kill(2).
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits on a descriptor with the runtime's poll.
pub(crate) fn async_fd(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the AsyncFd from here on and nobody can close it before.
    unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)
}

/// `struct ifreq` of Linux `include/uapi/linux/if.h` with its flags; 40 bytes on 64-bit.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: c_short,
    padding: [u8; 22],
}

/// Attaches an open `/dev/net/tun` to the tap `name` (TUNSETIFF, Linux
/// `Documentation/networking/tuntap.rst`).
pub(crate) fn attach_tap(tun: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let mut request = InterfaceRequest {
        name: [0; libc::IFNAMSIZ],
        flags: c_short::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?,
        padding: [0; 22],
    };
    if name.len() >= request.name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the request is a whole `struct ifreq` that lives through the call.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets the next exec inherit nothing but the standard streams: whoever started the agent may have
/// left descriptors open. close_range(2), the flag since Linux 5.11; an older kernel leaves them as
/// they are. Async-signal-safe: for use between fork and exec.
pub(crate) fn inherit_standard_streams_only() {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: marks descriptors, closes none and touches no memory.
    unsafe { libc::syscall(libc::SYS_close_range, 3, c_uint::MAX, flags) };
}

/// Moves the calling process into the control group whose `cgroup.procs` is open (cgroups(7): 0
/// means the writer). Async-signal-safe: for use between fork and exec.
pub(crate) fn enter_cgroup(procs: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: writes one byte of a static string.
    let written = unsafe { libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets the next exec inherit `fd`. Async-signal-safe: for use between fork and exec.
pub(crate) fn clear_cloexec(fd: c_int) -> io::Result<()> {
    // SAFETY: F_SETFD takes an integer and touches no memory of ours.
    let result = unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A descriptor that this process was started with, by its number; nothing else here may own it.
pub(crate) fn take_inherited(fd: c_int) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD takes an integer and touches no memory of ours; a number that is no open
    // descriptor is refused.
    if fd <= libc::STDERR_FILENO || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0
    {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and was made by whoever started us for whoever takes it here, once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives up every privilege: no other groups than `groups`, user and group `uid`, no way back.
/// Async-signal-safe: for use between fork and exec.
pub(crate) fn become_user(uid: u32, groups: &[libc::gid_t]) -> io::Result<()> {
    let ok = |result: c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: plain system calls; the pointer and its length describe one live slice.
    unsafe {
        ok(libc::setgroups(groups.len(), groups.as_ptr()))?;
        ok(libc::setresgid(uid, uid, uid))?;
        ok(libc::setresuid(uid, uid, uid))?;
        let zero: c_uint = 0;
        ok(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, zero, zero, zero))
    }
}

/// What an exec'd program expects to find: default actions, nothing blocked, no core files.
/// Async-signal-safe: for use between fork and exec.
pub(crate) fn reset_process_state() -> io::Result<()> {
    // SAFETY: SIG_DFL is a valid disposition for these signals, the mask is a local that
    // sigemptyset fills, and the limit is read only during the call.
    unsafe {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE] {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut mask = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut mask);
        libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut());
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::setrlimit(libc::RLIMIT_CORE, &none) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Ignores signals that a terminal or a service manager sends to whole process groups.
pub(crate) fn ignore_session_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE] {
        // SAFETY: SIG_IGN is a valid disposition for these signals.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
