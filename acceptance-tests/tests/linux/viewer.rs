//! A VNC viewer (RFB, RFC 6143) that looks at nothing: it types and clicks, by `weft vnc`.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use weft_acceptance::{Background, Lab, eventually, spawn, within};

/// Return, of X's `keysymdef.h`; the keys of ASCII's letters are their codes.
const RETURN: u32 = 0xff0d;
const LEFT_BUTTON: u8 = 1;
const BETWEEN_KEYS: Duration = Duration::from_millis(50);

/// One that is connected, and the program that it is connected by.
pub(crate) struct Viewer {
    stream: UnixStream,
    weft: Background,
    socket: PathBuf,
    /// Width and height.
    pub(crate) size: (u16, u16),
}

impl Viewer {
    /// Up to the size of the screen: RFC 6143, section 7.1 to 7.3, without authentication.
    pub(crate) fn connect(lab: &Lab, instance: &str) -> Result<Self> {
        let socket = lab.directory().join("vnc.sock");
        let weft = lab.weft_command(&["vnc", instance, "--socket", &socket.to_string_lossy()])?;
        let weft = spawn(weft)?;
        let mut stream =
            eventually("a place for viewers", within(), || Ok(UnixStream::connect(&socket).ok()))?;
        stream.set_read_timeout(Some(within()))?;
        let mut version = [0; 12];
        stream.read_exact(&mut version)?;
        ensure!(&version == b"RFB 003.008\n", "{version:?}");
        stream.write_all(&version)?;
        let mut security = [0; 2];
        stream.read_exact(&mut security)?;
        ensure!(security == [1, 1], "the security types are {security:?}");
        stream.write_all(&[1])?;
        let mut result = [0; 4];
        stream.read_exact(&mut result)?;
        ensure!(result == [0; 4], "refused: {result:?}");
        stream.write_all(&[1])?;
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        let [a, b, c, d] = size;
        let size = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        // SetEncodings, raw: QEMU asks what kind of pointer the guest has when it comes, and moves none before.
        stream.write_all(&[2, 0, 0, 1, 0, 0, 0, 0])?;
        Ok(Self { stream, weft, socket, size })
    }

    /// Small letters, digits and what else needs no shift; Return before, for what was typed in vain, and
    /// after. As fast as a person: QEMU's keyboards keep 16 events for a guest that is slow, and drop more.
    pub(crate) fn type_line(&mut self, text: &str) -> Result<()> {
        for key in [RETURN].into_iter().chain(text.chars().map(u32::from)).chain([RETURN]) {
            for down in [1, 0] {
                self.stream.write_all(&[&[4, down, 0, 0], &key.to_be_bytes()[..]].concat())?;
                std::thread::sleep(BETWEEN_KEYS);
            }
        }
        Ok(())
    }

    pub(crate) fn click(&mut self, x: u16, y: u16) -> Result<()> {
        for buttons in [0, LEFT_BUTTON, 0] {
            let place = [x.to_be_bytes(), y.to_be_bytes()].concat();
            self.stream.write_all(&[&[5, buttons], &place[..]].concat())?;
        }
        Ok(())
    }

    /// Ends the program; nothing of it is left.
    pub(crate) fn close(self) -> Result<()> {
        self.weft.signal(Signal::SIGINT)?;
        self.weft.finish(within())?.success()?;
        ensure!(!self.socket.exists(), "the socket is left");
        Ok(())
    }
}
