//! The guest's console: always drained, logged, and served to whoever attaches.
//!
//! ```text
//! QEMU stdout ──> log, replay buffer, every client      (a slow client misses output)
//! QEMU stdin  <── every client's input, in turn         (a full pipe stops reading clients)
//! QEMU stderr ──> the tail that exit.json gets
//! ```

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::log::BoundedLog;
use super::{HolderError, at};
use crate::layout::{EVENTS, GuestDir};
use crate::record::{GuestEvents, now_unix_ms};

/// What a new client sees of the past.
const REPLAY_BYTES: usize = 4 * 1024;
const STDERR_TAIL_BYTES: usize = 8 * 1024;
const MAX_CLIENTS: usize = 16;
/// Output that waits for one client; what comes on top is dropped for it.
const CLIENT_BACKLOG_BYTES: usize = 64 * 1024;
/// Input that waits for QEMU, from all clients.
const INPUT_BACKLOG_BYTES: usize = 4 * 1024;
/// What is still read from the pipes when QEMU has ended: more than a pipe holds (pipe(7)).
const LAST_WORDS_BYTES: usize = 1 << 20;

pub(super) struct Console {
    dir: GuestDir,
    log: BoundedLog,
    log_failed: bool,
    seen_output: bool,
    replay: VecDeque<u8>,
    stderr_tail: VecDeque<u8>,
    input: VecDeque<u8>,
    listener: UnixListener,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    clients: Vec<Client>,
}

struct Client {
    stream: UnixStream,
    output: VecDeque<u8>,
    gone: bool,
}

impl Console {
    pub(super) fn new(
        dir: &GuestDir,
        listener: UnixListener,
        child: &mut Child,
    ) -> Result<Self, HolderError> {
        let failed = at("prepare the console");
        listener.set_nonblocking(true).map_err(&failed)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        for fd in [
            stdin.as_ref().map(AsFd::as_fd),
            stdout.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ] {
            fd.map_or(Ok(()), set_nonblocking).map_err(&failed)?;
        }
        Ok(Self {
            dir: dir.clone(),
            log: BoundedLog::open(dir).map_err(&failed)?,
            log_failed: false,
            seen_output: false,
            replay: VecDeque::new(),
            stderr_tail: VecDeque::new(),
            input: VecDeque::new(),
            listener,
            stdin,
            stdout,
            stderr,
            clients: Vec::new(),
        })
    }

    /// Serves until `ended` becomes readable and everything QEMU wrote is taken.
    pub(super) fn serve_until(&mut self, ended: BorrowedFd<'_>) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        while !self.wait(ended)? {
            self.read_stdout(&mut buffer);
            self.read_stderr(&mut buffer);
            self.accept();
            self.read_clients(&mut buffer);
            self.write_stdin();
            self.clients.iter_mut().for_each(Client::flush);
            self.clients.retain(|client| !client.gone);
        }
        for _ in 0..LAST_WORDS_BYTES / buffer.len() {
            let more = self.read_stdout(&mut buffer) | self.read_stderr(&mut buffer);
            if !more {
                break;
            }
        }
        self.clients.iter_mut().for_each(Client::flush);
        Ok(())
    }

    pub(super) fn stderr_tail(&self) -> String {
        let bytes: Vec<u8> = self.stderr_tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sleeps until there is something to do; true when QEMU has ended.
    fn wait(&self, ended: BorrowedFd<'_>) -> io::Result<bool> {
        let mut fds = vec![
            PollFd::new(ended, PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.stdout.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.stderr.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        if let Some(stdin) = self.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLOUT));
        }
        for client in &self.clients {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, self.input.len() < INPUT_BACKLOG_BYTES);
            flags.set(PollFlags::POLLOUT, !client.output.is_empty());
            // With no flags poll still reports a hang-up, which nobody would act on: a busy loop.
            if !flags.is_empty() {
                fds.push(PollFd::new(client.stream.as_fd(), flags));
            }
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => Ok(fds[0].any().unwrap_or(true)),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads once; true when there was something.
    fn read_stdout(&mut self, buffer: &mut [u8]) -> bool {
        let bytes = match read_pipe(&mut self.stdout, buffer) {
            Some(0) | None => return false,
            Some(length) => &buffer[..length],
        };
        if !self.seen_output {
            self.seen_output = true;
            let first = GuestEvents { first_console_byte_at_unix_ms: Some(now_unix_ms()) };
            if let Err(error) = self.dir.write(EVENTS, &first) {
                eprintln!("write {EVENTS}: {error}");
            }
        }
        if let Err(error) = self.log.write(bytes) {
            // The console must be drained all the same; said once, as it may fail for long.
            if !std::mem::replace(&mut self.log_failed, true) {
                eprintln!("write the console's log: {error}");
            }
        }
        append_bounded(&mut self.replay, bytes, REPLAY_BYTES);
        self.clients.iter_mut().for_each(|client| client.offer(bytes));
        true
    }

    fn read_stderr(&mut self, buffer: &mut [u8]) -> bool {
        match read_pipe(&mut self.stderr, buffer) {
            Some(0) | None => false,
            Some(length) => {
                append_bounded(&mut self.stderr_tail, &buffer[..length], STDERR_TAIL_BYTES);
                true
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            // One more than enough is closed at once, which its owner sees.
            if self.clients.len() < MAX_CLIENTS && stream.set_nonblocking(true).is_ok() {
                let output = self.replay.clone();
                self.clients.push(Client { stream, output, gone: false });
            }
        }
    }

    fn read_clients(&mut self, buffer: &mut [u8]) {
        for client in &mut self.clients {
            let room = INPUT_BACKLOG_BYTES.saturating_sub(self.input.len()).min(buffer.len());
            if room == 0 {
                return;
            }
            match client.stream.read(&mut buffer[..room]) {
                Ok(0) => client.gone = true,
                Ok(length) => self.input.extend(&buffer[..length]),
                Err(error) => client.gone |= is_fatal(&error),
            }
        }
    }

    fn write_stdin(&mut self) {
        let Some(stdin) = &mut self.stdin else {
            self.input.clear();
            return;
        };
        if drain_into(&mut self.input, stdin).is_err() {
            self.stdin = None;
        }
    }
}

impl Client {
    fn offer(&mut self, bytes: &[u8]) {
        if self.output.len() + bytes.len() <= CLIENT_BACKLOG_BYTES {
            self.output.extend(bytes);
        }
    }

    fn flush(&mut self) {
        self.gone |= drain_into(&mut self.output, &mut self.stream).is_err();
    }
}

/// Reads once from a pipe; closes it at its end. None: nothing there, or closed.
fn read_pipe(pipe: &mut Option<impl Read>, buffer: &mut [u8]) -> Option<usize> {
    match pipe.as_mut()?.read(buffer) {
        Ok(length) if length > 0 => Some(length),
        Err(error) if !is_fatal(&error) => None,
        Ok(_) | Err(_) => {
            *pipe = None;
            None
        }
    }
}

/// Writes as much as goes without waiting.
fn drain_into(from: &mut VecDeque<u8>, to: &mut impl Write) -> io::Result<()> {
    while !from.is_empty() {
        match to.write(from.as_slices().0) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => drop(from.drain(..length)),
            Err(error) if is_fatal(&error) => return Err(error),
            Err(_) => break,
        }
    }
    Ok(())
}

fn is_fatal(error: &io::Error) -> bool {
    !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn append_bounded(to: &mut VecDeque<u8>, bytes: &[u8], bound: usize) {
    to.extend(bytes);
    to.drain(..to.len().saturating_sub(bound));
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
