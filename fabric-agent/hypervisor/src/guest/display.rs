//! What a guest shows: a picture of it, and the streams of those who look and type.
//!
//! QEMU's VNC server has no address. Whoever looks has a pair of sockets, one end of which QEMU is handed
//! (`getfd`, `add_client` in QEMU's `qapi/misc.json`); who may look is decided before. A picture
//! (`screendump` in `qapi/ui.json`) is written into memory that only QEMU and the agent have open.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::json;
use tokio::net::UnixStream;
use weft_model::InstanceId;

use super::devices::Devices;
use super::{ANSWER_DEADLINE, GuestError, Guests};
use crate::layout;
use crate::qemu::GuestSpec;

/// The largest picture: the card's 16 MiB of pixels as a PNG that does not get any smaller, and room.
const MAX_PICTURE_BYTES: u64 = 24 << 20;
/// QEMU draws and packs the picture; on a busy machine that takes its time.
const PICTURE_DEADLINE: Duration = Duration::from_secs(20);

/// Names of descriptors that QEMU is given.
static NEXT_VIEWER: AtomicU64 = AtomicU64::new(0);

impl Guests {
    /// What the guest's display shows now, as a PNG.
    ///
    /// # Errors
    /// It does not run, or has no display; QEMU does not answer.
    pub async fn screenshot(&self, id: &InstanceId) -> Result<Vec<u8>, GuestError> {
        let devices = self.with_display(id).await?;
        let failed = |step| move |source| GuestError::Display { id: id.clone(), step, source };
        let (picture, end) = memory().map_err(failed("make room for a picture"))?;
        let given = devices.client.add_fd(end.as_fd(), "screenshot", ANSWER_DEADLINE).await;
        let given = given.map_err(devices.failed("add-fd"))?;
        let arguments = json!({ "filename": given, "format": "png" });
        let taken = devices.client.execute("screendump", Some(arguments), PICTURE_DEADLINE).await;
        devices.take_back(&[given]).await?;
        taken.map_err(devices.failed("screendump"))?;
        read(picture).map_err(failed("read the picture of the display"))
    }

    /// A viewer's stream to the guest's display, in the protocol of VNC (RFB, RFC 6143), without
    /// authentication. Several may look at once.
    ///
    /// # Errors
    /// It does not run, or has no display; QEMU does not answer.
    pub async fn open_display(&self, id: &InstanceId) -> Result<UnixStream, GuestError> {
        let devices = self.with_display(id).await?;
        let failed = |source| GuestError::Display { id: id.clone(), step: "make a socket", source };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let name = format!("viewer-{}", NEXT_VIEWER.fetch_add(1, Ordering::Relaxed));
        let given = devices.client.give(&name, theirs.as_fd(), ANSWER_DEADLINE).await;
        given.map_err(devices.failed("getfd"))?;
        let arguments = json!({ "protocol": "vnc", "fdname": name, "skipauth": true });
        if let Err(error) = devices.execute("add_client", arguments).await {
            devices.execute_or_not("closefd", json!({ "fdname": name })).await?;
            return Err(error);
        }
        Ok(ours)
    }

    /// QEMU says nothing where there is no VNC server, so what it was started with is asked.
    async fn with_display<'a>(&self, id: &'a InstanceId) -> Result<Devices<'a>, GuestError> {
        let devices = Devices::of(self, id).await?;
        match self.read::<GuestSpec>(id, layout::SPEC)? {
            Some(spec) if spec.display => Ok(devices),
            _ => Err(GuestError::NoDisplay { id: id.clone() }),
        }
    }
}

/// A file in memory, to be read, and the same one opened for writing alone: QEMU opens a descriptor
/// that it was given only in the mode that it has (`monitor_fdset_dup_fd_add` in its `monitor/fds.c`).
/// Its pages are charged to who writes them, the guest's control group.
fn memory() -> io::Result<(File, File)> {
    let file = File::from(memfd_create(c"weft-screenshot", MFdFlags::MFD_CLOEXEC)?);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let end = OpenOptions::new().write(true).open(path)?;
    Ok((file, end))
}

/// QEMU wrote through another description of the file: this one still is at its beginning.
fn read(picture: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    picture.take(MAX_PICTURE_BYTES + 1).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(1..=MAX_PICTURE_BYTES) => Ok(bytes),
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty")),
        _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than any display")),
    }
}
