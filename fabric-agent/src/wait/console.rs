//! What a guest's console says of a guest that does not come: its end as text, and what is recognised
//! in it. Pure.

use weft_model::shows_itself;

/// Bytes of the console that are looked at: a panic's call trace fits many times.
pub(super) const BYTES: usize = 64 * 1024;
/// Lines that are shown, and characters of one.
const LINES: usize = 40;
const LINE_CHARS: usize = 200;

/// What a line of the console gives away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The kernel panicked because it found nothing to boot into.
    NoRoot,
    /// The kernel panicked.
    Panic,
    /// The guest's kernel killed a process because the guest's memory ran out.
    OutOfMemory,
    /// A file system of the guest is full.
    DiskFull,
    /// systemd, or the initramfs, gave up booting and waits for somebody to log in.
    Emergency,
}

/// What is looked for, the gravest first. The kernel's words are of `panic()` and `mount_block_root()`
/// (Linux kernel/panic.c, init/do_mounts.c) and of mm/oom_kill.c, the disk's are ENOSPC's of glibc and
/// musl, the last two of systemd (emergency.service) and of initramfs-tools.
const TELLING: [(&str, Trouble); 7] = [
    ("Kernel panic - not syncing: VFS:", Trouble::NoRoot),
    ("Kernel panic - not syncing: No working init found", Trouble::NoRoot),
    ("Kernel panic - not syncing", Trouble::Panic),
    ("Out of memory: Kill", Trouble::OutOfMemory),
    ("No space left on device", Trouble::DiskFull),
    ("You are in emergency mode", Trouble::Emergency),
    ("ALERT!", Trouble::Emergency),
];
/// With this a kernel begins (init/version.c): what stands before it is of an earlier boot.
const BOOT: &str = "] Linux version ";

impl Trouble {
    /// For people, before the line itself.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::NoRoot => "the guest's kernel panicked: it found no system to boot into",
            Self::Panic => "the guest's kernel panicked",
            Self::OutOfMemory => "the guest's memory ran out, and its kernel killed a process",
            Self::DiskFull => "a disk of the guest is full",
            Self::Emergency => "the guest gave up booting and waits at its console",
        }
    }
}

/// The lines that a console's end has, without what steers a terminal and without empty ones.
pub(super) fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // ECMA-48 control sequences: ESC [ parameters, then one final byte from @ to ~.
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                chars.next();
            }
            '\n' => clean.push('\n'),
            '\t' => clean.push(' '),
            c if shows_itself(c) => clean.push(c),
            _ => {}
        }
    }
    let lines = clean.lines().map(str::trim_end).filter(|line| !line.trim_start().is_empty());
    lines.map(shortened).collect()
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(LINE_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// The last lines, indented.
pub(super) fn tail(lines: &[String]) -> String {
    let start = lines.len().saturating_sub(LINES);
    lines[start..].iter().map(|line| format!("  | {line}\n")).collect()
}

/// The gravest trouble of the last boot that the lines show, and the first line that tells of it.
pub(super) fn recognised(lines: &[String]) -> Option<(Trouble, &str)> {
    let boot = lines.iter().rposition(|line| line.contains(BOOT)).unwrap_or(0);
    TELLING.into_iter().find_map(|(words, trouble)| {
        let line = lines[boot..].iter().find(|line| line.contains(words))?;
        Some((trouble, line.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_shown_without_what_steers_a_terminal() {
        let bytes =
            b"\x1b[1;32mboot\x1b[0m ok\r\n\r\n\x1b]0;title\x07login: \x07\xff\n\xe2\x80\xaeevil\tx";
        let lines = lines(bytes);
        assert_eq!(tail(&lines), "  | boot ok\n  | ]0;titlelogin: \u{fffd}\n  | evil x\n");
        assert!(lines.concat().chars().all(shows_itself));
    }

    #[test]
    fn long_lines_and_long_consoles_are_cut() {
        let console = format!("{}\n", "x".repeat(300)).repeat(60);
        let tail = tail(&lines(console.as_bytes()));
        assert_eq!(tail.lines().count(), LINES);
        assert!(tail.lines().all(|line| line.chars().count() == LINE_CHARS + 5), "{tail}");
    }

    #[test]
    fn the_gravest_trouble_of_the_last_boot_is_recognised_with_its_line() {
        #[rustfmt::skip]
        let cases = [
            ("[    0.9] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n\
              [    0.9] CPU: 0 PID: 1\n[    0.9] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs ]---\n",
             Some((Trouble::NoRoot, "[    0.9] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"))),
            ("No space left on device\nKernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n",
             Some((Trouble::Panic, "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"))),
            ("[   31.2] Out of memory: Killed process 411 (mysqld) total-vm:1786012kB\n",
             Some((Trouble::OutOfMemory, "[   31.2] Out of memory: Killed process 411 (mysqld) total-vm:1786012kB"))),
            ("tar: write error: No space left on device\n",
             Some((Trouble::DiskFull, "tar: write error: No space left on device"))),
            ("You are in emergency mode. After logging in, type \"journalctl -xb\"\n",
             Some((Trouble::Emergency, "You are in emergency mode. After logging in, type \"journalctl -xb\""))),
            ("ALERT!  UUID=77 does not exist.  Dropping to a shell!\n",
             Some((Trouble::Emergency, "ALERT!  UUID=77 does not exist.  Dropping to a shell!"))),
            ("Kernel panic - not syncing: of the last boot\n[    0.0] Linux version 6.1.0\nlogin:\n", None),
            ("", None),
        ];
        for (console, want) in cases {
            assert_eq!(recognised(&lines(console.as_bytes())), want, "{console}");
        }
    }
}
