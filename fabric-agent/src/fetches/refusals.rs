//! What people are told when a blob cannot be fetched: what came, and what to do.

use std::error::Error;

use weft_fetch::FetchError;
use weft_image_format::{detect, detect_kernel, is_page, wrong_and_remedy};
use weft_image_unpack::{Compression, glance};
use weft_model::{BlobRole, Checksum, ImageUrl, Problem, Reason};

use super::Wanted;
use crate::error_chain::causes;

/// How much of a page is shown, in characters.
const SHOWN: usize = 200;

/// `error` as a refusal.
pub(super) fn failed(error: &FetchError) -> Problem {
    let remedy = match error {
        FetchError::Status { status, .. } => match status.as_u16() {
            401 | 403 | 407 => {
                "check the URL; a file that is not public needs a presigned URL, or one with user and password"
            }
            404 | 410 => "check the URL: there is no such file any more, or it never was",
            408 | 425 | 429 | 500.. => "try again later, or use another mirror",
            _ => "check the URL",
        },
        FetchError::Connect { .. } => {
            "check the URL's host and port, and that the agent's machine reaches it (it is the agent that fetches; HTTPS_PROXY and NO_PROXY of its environment are honoured)"
        }
        FetchError::Certificate { .. } => {
            "for a private mirror start the agent with --fetch-ca FILE, else check the host name and the clock"
        }
        FetchError::Mirror { .. } => {
            "repair or remove the file in the directory that the agent was started with (--image-mirror)"
        }
        FetchError::Redirect { .. } => "use the URL that it leads to in the end",
        FetchError::Client { .. } | FetchError::Certificates { .. } => {
            "install CA certificates on the agent's machine"
        }
        FetchError::Timeout { .. } | FetchError::WrongPart { .. } | FetchError::BrokeOff { .. } => {
            "apply again: what has come is kept and gone on with; or use another mirror"
        }
    };
    let problem = Problem::new(Reason::FailedPrecondition, error.to_string());
    let problem = problem.at("url").remedy(remedy);
    // The message says what failed; what the HTTP client wraps around the first cause says nothing.
    match root_cause(error) {
        Some(cause) => problem.evidence(cause.to_string()),
        None => problem,
    }
}

/// As [`failed`], of an answer that stopped when the file was there up to byte `at`.
pub(super) fn failed_at(error: &FetchError, at: u64, total: Option<u64>) -> Problem {
    let mut problem = failed(error);
    if let FetchError::BrokeOff { .. } | FetchError::Timeout { .. } = error {
        problem.message.push_str(&match total {
            Some(total) => format!(" after {at} of {total} bytes"),
            None => format!(" after {at} bytes"),
        });
    }
    problem
}

fn root_cause(error: &FetchError) -> Option<&(dyn Error + 'static)> {
    causes(error).skip(1).last()
}

/// Whether a file that begins with `head` can be what it is wanted for.
pub(super) fn judge(head: &[u8], total: Option<u64>, wanted: &Wanted) -> Result<(), Problem> {
    let url = &wanted.url;
    let invalid = |message: String| Problem::invalid("url", message);
    if head.is_empty() {
        return Err(invalid(format!("{url} is empty"))
            .remedy("check the URL, and that the file was uploaded there completely"));
    }
    if is_page(head) {
        let text: String = String::from_utf8_lossy(&head[..head.len().min(4 * SHOWN)])
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .filter(|c| !c.is_control())
            .take(SHOWN)
            .collect();
        return Err(invalid(format!("{url} answers with a web page (HTML or XML), not a file"))
            .evidence(format!("it begins: {text}"))
            .remedy(
                "use the link of the download itself; a page may also be an error or a login",
            ));
    }
    // Where the length is not known, what the header says is judged when all of it is there.
    let len = total.unwrap_or(weft_image_format::MAX_VIRTUAL_SIZE);
    let found = match wanted.role {
        BlobRole::Disk => match Compression::detect(head) {
            Some(kind) => glance(head, total, kind).map(drop).map_err(|error| error.to_string()),
            None => detect(head, len).map(drop).map_err(|error| error.to_string()),
        },
        BlobRole::Kernel => detect_kernel(head).map(drop).map_err(|error| error.to_string()),
        BlobRole::Initrd => Ok(()),
    };
    found.map_err(|what| {
        let (wrong, remedy) = wrong_and_remedy(&what);
        let remedy = match wrong.contains("compressed with") {
            true => {
                "the agent unpacks gzip, xz and zstd, once, and of a disk alone: publish the unpacked file, or unpack it here and use source_path"
            }
            false => remedy.unwrap_or("use the URL of a raw or qcow2 disk, or of a kernel for kernel"),
        };
        invalid(format!("{url}: {wrong}")).remedy(remedy)
    })
}

/// More than may come.
pub(super) fn too_large(url: &ImageUrl, total: Option<u64>, max_bytes: u64) -> Problem {
    let what = match total {
        Some(total) => format!("has {total} bytes"),
        None => "does not end".to_owned(),
    };
    Problem::invalid("url", format!("{url} {what}: the agent fetches at most {max_bytes} bytes"))
        .remedy("check the URL, or start the agent with a larger --max-image-gib")
}

/// Other bytes than were announced. Where the server did not say how many to expect, an answer that
/// broke off looks like a file that ends.
pub(super) fn mismatch(
    url: &ImageUrl,
    (wanted, actual): (Checksum, Checksum),
    bytes: u64,
    length_was_known: bool,
) -> Problem {
    let thrown = format!("the {bytes} bytes that came were thrown away");
    let message = match length_was_known {
        true => format!("{url} has the digest {actual}, {wanted} was given: {thrown}"),
        false => format!(
            "{url} broke off or is another file: its server does not say how long it is, and what came has the digest {actual}, {wanted} was given; {thrown}"
        ),
    };
    let remedy = match length_was_known {
        true => {
            "if the file was updated there, check where the digest comes from and write the new one; else use another mirror"
        }
        false => {
            "apply again, or use a mirror that sends Content-Length; if the file was updated there, write its new digest"
        }
    };
    let field = match wanted {
        Checksum::Sha256(_) => "sha256",
        Checksum::Sha512(_) => "sha512",
    };
    Problem::invalid(field, message).remedy(remedy)
}
