//! What can go wrong with a request.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio_rustls::rustls;
use weft_model::ImageUrl;

/// Why a file, or the rest of it, did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file with certificates cannot be used.
    #[error("cannot use the certificates in {}: {what}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The directory of copies, or a file in it, cannot be read.
    #[error("cannot read {} of the image mirror", path.display())]
    Mirror {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No client could be made.
    #[error("cannot prepare for {url}: are CA certificates installed (package ca-certificates)?")]
    Client {
        /// What was to be fetched.
        url: ImageUrl,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// No connection.
    #[error("cannot connect to the server of {url}")]
    Connect {
        /// What was to be fetched.
        url: ImageUrl,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server is not who it should be.
    #[error("the certificate of the server of {url} is not trusted")]
    Certificate {
        /// What was to be fetched.
        url: ImageUrl,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Nothing came for too long.
    #[error("the server of {url} sent nothing for {} s", after.as_secs())]
    Timeout {
        /// What was to be fetched.
        url: ImageUrl,
        /// How long was waited.
        after: Duration,
    },
    /// A redirection that is not followed.
    #[error("{url} redirects {what}")]
    Redirect {
        /// What was to be fetched.
        url: ImageUrl,
        /// "from https to http".
        what: &'static str,
    },
    /// The server refuses.
    #[error("{url} answers {status}")]
    Status {
        /// What was to be fetched.
        url: ImageUrl,
        /// "404 Not Found".
        status: reqwest::StatusCode,
        /// When the server wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// An answer to another question than was asked.
    #[error("{url} answers a request for a part with {what}")]
    WrongPart {
        /// What was to be fetched.
        url: ImageUrl,
        /// What came.
        what: String,
    },
    /// The connection broke within the file.
    #[error("the connection to the server of {url} broke off")]
    BrokeOff {
        /// What was to be fetched.
        url: ImageUrl,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

impl FetchError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::WrongPart { .. }
            | Self::BrokeOff { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
            }
            _ => false,
        }
    }

    /// When the server wants to be asked again, if it says.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Why a redirection was not followed; travels through the client's own error.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("redirects {0}")]
pub(crate) struct RefusedRedirect(pub(crate) &'static str);

/// Sorts a failed request. The client's error is kept without its URL, which may have a password.
pub(crate) fn sort(error: reqwest::Error, url: &ImageUrl, idle: Duration) -> FetchError {
    let (url, source) = (url.clone(), error.without_url());
    if let Some(refused) = cause::<RefusedRedirect>(&source) {
        return FetchError::Redirect { url, what: refused.0 };
    }
    if source.is_timeout() {
        return FetchError::Timeout { url, after: idle };
    }
    if let Some(rustls::Error::InvalidCertificate(_)) = cause::<rustls::Error>(&source) {
        return FetchError::Certificate { url, source };
    }
    if source.is_connect() {
        return FetchError::Connect { url, source };
    }
    FetchError::BrokeOff { url, source }
}

/// The first cause of type `T`. I/O errors hide theirs from [`Error::source`].
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
