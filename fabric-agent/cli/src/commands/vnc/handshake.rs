//! What is said before a display is shown, where viewers have to know a password: RFC 6143, sections 7.1
//! and 7.2. The hypervisor asks nobody for one, so this program stands between the two until they agree.
//!
//! ```text
//!   viewer <- version, VNC authentication, challenge - weft
//!   viewer -           response                     -> weft - version, no authentication -> hypervisor
//!   viewer <- result                                 - weft; from here on bytes pass as they are
//! ```

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use weft_model::{Problem, Reason};

use super::Stream;
use super::password::{CHALLENGE, Password, random};
use crate::failure::Failure;

const VERSION: &[u8; 12] = b"RFB 003.008\n";
/// Security types.
const NO_AUTHENTICATION: u8 = 1;
const VNC_AUTHENTICATION: u8 = 2;

/// Which of the three versions a viewer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// The server decides how it is authenticated.
    V3,
    /// It is told nothing of why it was refused.
    V7,
    V8,
}

impl Version {
    /// What is none of the three is to be treated as 3.3 (section 7.1.1), and what is no version at all is
    /// no viewer.
    fn of(said: &[u8; 12]) -> Option<Self> {
        match said {
            b"RFB 003.008\n" => Some(Self::V8),
            b"RFB 003.007\n" => Some(Self::V7),
            [b'R', b'F', b'B', b' ', .., b'\n'] => Some(Self::V3),
            _ => None,
        }
    }
}

/// Who was on the other side.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// One who knows the password, and waits for the result.
    Knows(Version),
    /// One who does not; it was told so.
    DoesNot,
    /// Nobody who speaks this protocol to its end.
    Nobody,
}

/// Asks a viewer for the password.
///
/// # Errors
/// There is no randomness.
pub(super) async fn ask(
    viewer: &mut (impl AsyncRead + AsyncWrite + Unpin),
    password: &Password,
) -> Result<Asked, Failure> {
    let challenge = random()?;
    // A viewer that goes away is nobody's failure.
    let Ok(Some((version, response))) = exchange(viewer, &challenge).await else {
        return Ok(Asked::Nobody);
    };
    if password.answers(&challenge, &response) {
        return Ok(Asked::Knows(version));
    }
    let _ = refuse(viewer, version, "the password is wrong").await;
    Ok(Asked::DoesNot)
}

async fn exchange(
    viewer: &mut (impl AsyncRead + AsyncWrite + Unpin),
    challenge: &[u8; CHALLENGE],
) -> io::Result<Option<(Version, [u8; CHALLENGE])>> {
    viewer.write_all(VERSION).await?;
    let mut said = [0; 12];
    viewer.read_exact(&mut said).await?;
    let Some(version) = Version::of(&said) else { return Ok(None) };
    if version == Version::V3 {
        viewer.write_u32(VNC_AUTHENTICATION.into()).await?;
    } else {
        viewer.write_all(&[1, VNC_AUTHENTICATION]).await?;
        if viewer.read_u8().await? != VNC_AUTHENTICATION {
            return Ok(None);
        }
    }
    viewer.write_all(challenge).await?;
    let mut response = [0; CHALLENGE];
    viewer.read_exact(&mut response).await?;
    Ok(Some((version, response)))
}

/// Tells a viewer that it may look.
pub(super) async fn admit(viewer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    viewer.write_u32(0).await?;
    viewer.flush().await
}

/// Tells a viewer that it may not, and why.
pub(super) async fn refuse(
    viewer: &mut (impl AsyncWrite + Unpin),
    version: Version,
    why: &str,
) -> io::Result<()> {
    viewer.write_u32(1).await?;
    if version == Version::V8 {
        viewer.write_u32(u32::try_from(why.len()).unwrap_or_default()).await?;
        viewer.write_all(why.as_bytes()).await?;
    }
    viewer.shutdown().await
}

/// Agrees with the hypervisor, as a viewer that is asked for nothing.
///
/// # Errors
/// It says something else than a hypervisor whose displays have no password.
pub(super) async fn enter(stream: &mut Stream) -> Result<(), Failure> {
    let unexpected = |what: &str| {
        let message = format!("the instance's hypervisor shows no display: {what}");
        Failure::from(Problem::new(Reason::FailedPrecondition, message))
    };
    if stream.take().await? != *VERSION {
        return Err(unexpected("it speaks another version of RFB than 3.8"));
    }
    stream.say(VERSION).await;
    let [count] = stream.take().await?;
    let mut has_it = false;
    for _ in 0..count {
        has_it |= stream.take().await? == [NO_AUTHENTICATION];
    }
    if !has_it {
        return Err(unexpected("it wants to know who looks"));
    }
    stream.say(&[NO_AUTHENTICATION]).await;
    match stream.take().await? {
        [0, 0, 0, 0] => Ok(()),
        _ => Err(unexpected("it lets nobody look")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_the_three_of_the_protocol() {
        let cases: [(&[u8; 12], _); 6] = [
            (b"RFB 003.008\n", Some(Version::V8)),
            (b"RFB 003.007\n", Some(Version::V7)),
            (b"RFB 003.003\n", Some(Version::V3)),
            // As Apple's says.
            (b"RFB 003.889\n", Some(Version::V3)),
            (b"GET / HTTP/1", None),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0", None),
        ];
        for (said, want) in cases {
            assert_eq!(Version::of(said), want, "{said:?}");
        }
    }
}
