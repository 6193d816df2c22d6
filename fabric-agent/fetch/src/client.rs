//! Requests, and what servers answer.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, Response, StatusCode};
use weft_model::ImageUrl;

use crate::error::{FetchError, RefusedRedirect, sort};
use crate::mirror::{Mirror, MirroredFile};

/// Redirections that are followed one after the other; browsers follow 20.
const MAX_REDIRECTS: usize = 10;
/// The longest that a server may ask to be left alone.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// What may be chosen for a [`Fetcher`].
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Certificates in PEM that are trusted besides the system's: of a private mirror's CA.
    pub ca_file: Option<PathBuf>,
    /// A directory with copies of files, which are taken instead of what their servers have.
    pub mirror: Option<PathBuf>,
    /// For name, connection and TLS together.
    pub connect_timeout: Duration,
    /// How long nothing may come within an answer.
    pub idle_timeout: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            ca_file: None,
            mirror: None,
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// Sends requests. Follows redirections, but never from https to http.
#[derive(Debug)]
pub struct Fetcher {
    options: FetchOptions,
    certificates: Vec<Certificate>,
    mirror: Option<Mirror>,
    /// Made when it is first needed: a host without CA certificates is none of the agent's business
    /// until somebody wants a file by https.
    https: OnceLock<Client>,
    http: OnceLock<Client>,
}

/// Where an earlier answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Bytes that are there.
    pub offset: u64,
    /// What the server called the file's state then: the rest is only asked for if it still is.
    pub validator: Option<String>,
}

/// A file on its way.
#[derive(Debug)]
pub struct Answer {
    /// Where in the file [`Self::chunk`] begins: where it was asked to, or 0 where the server does
    /// not send parts or has another file by now.
    pub offset: u64,
    /// The whole file's length in bytes, if the server says.
    pub total: Option<u64>,
    /// What the server calls the file's state.
    pub validator: Option<String>,
    url: ImageUrl,
    idle: Duration,
    body: Body,
}

/// Where an answer's bytes come from.
#[derive(Debug)]
enum Body {
    /// Everything is there already.
    Empty,
    Server(Response),
    Mirror(MirroredFile),
}

impl Fetcher {
    /// # Errors
    /// [`FetchError::Certificates`], [`FetchError::Mirror`].
    pub fn new(options: FetchOptions) -> Result<Self, FetchError> {
        let certificates = match &options.ca_file {
            Some(path) => read_certificates(path.clone())?,
            None => Vec::new(),
        };
        let mirror = options.mirror.clone().map(Mirror::new).transpose()?;
        let (https, http) = Default::default();
        Ok(Self { options, certificates, mirror, https, http })
    }

    /// Asks for the file, or for the rest of it: where the mirror has it, nobody else.
    ///
    /// # Errors
    /// [`FetchError`] says which stage failed; it never shows a password.
    pub async fn open(
        &self,
        url: &ImageUrl,
        resume: Option<&Resume>,
    ) -> Result<Answer, FetchError> {
        let idle = self.options.idle_timeout;
        let reached = resume.map_or(0, |resume| resume.offset);
        if let Some(mirror) = &self.mirror
            && let Some(file) = mirror.open(url, reached)?
        {
            return Ok(Answer {
                offset: file.offset(),
                total: Some(file.len),
                validator: None,
                url: url.clone(),
                idle,
                body: Body::Mirror(file),
            });
        }
        let mut request = self.client(url)?.get(url.expose());
        let resume = resume.filter(|resume| resume.offset > 0);
        if let Some(Resume { offset, validator }) = resume {
            request = request.header(RANGE, format!("bytes={offset}-"));
            if let Some(validator) = validator {
                request = request.header(IF_RANGE, validator);
            }
        }
        let response = request.send().await.map_err(|error| sort(error, url, idle))?;
        let offset = resume.map_or(0, |resume| resume.offset);
        self.answer(url, offset, response)
    }

    fn answer(&self, url: &ImageUrl, asked: u64, response: Response) -> Result<Answer, FetchError> {
        let (headers, status) = (response.headers(), response.status());
        let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let wrong = |what: String| FetchError::WrongPart { url: url.clone(), what };
        let (offset, total, whole) = match status {
            StatusCode::OK => (0, response.content_length(), false),
            StatusCode::PARTIAL_CONTENT if asked > 0 => {
                let (first, total) = range.and_then(content_range).ok_or_else(|| {
                    wrong(format!("Content-Range {:?}", range.unwrap_or_default()))
                })?;
                if first != asked {
                    return Err(wrong(format!("what begins at byte {first}, not at {asked}")));
                }
                (first, total, false)
            }
            // Nothing is left where the length is what we have; else it is another file now.
            StatusCode::RANGE_NOT_SATISFIABLE if asked > 0 => {
                match range.and_then(|text| text.strip_prefix("bytes */")?.parse().ok()) {
                    Some(total) if total == asked => (asked, Some(total), true),
                    Some(total) => {
                        return Err(wrong(format!("that it has {total} bytes, {asked} have come")));
                    }
                    None => return Err(wrong(status.to_string())),
                }
            }
            _ => {
                let retry_after = retry_after(headers);
                return Err(FetchError::Status { url: url.clone(), status, retry_after });
            }
        };
        let validator = validator(headers);
        let body = if whole { Body::Empty } else { Body::Server(response) };
        Ok(Answer {
            offset,
            total,
            validator,
            url: url.clone(),
            idle: self.options.idle_timeout,
            body,
        })
    }

    fn client(&self, url: &ImageUrl) -> Result<&Client, FetchError> {
        let cell = if url.is_https() { &self.https } else { &self.http };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        // Without roots of its own, http needs none of the system's either. If it is redirected to
        // https, the verifier of the full client is wanted: that is tried first.
        let full = self.builder().tls_certs_merge(self.certificates.clone()).build();
        let made = match full {
            Err(_) if !url.is_https() => {
                self.builder().tls_certs_only(self.certificates.clone()).build()
            }
            made => made,
        };
        let made = made.map_err(|source| FetchError::Client {
            url: url.clone(),
            source: source.without_url(),
        })?;
        Ok(cell.get_or_init(|| made))
    }

    fn builder(&self) -> reqwest::ClientBuilder {
        Client::builder()
            .user_agent(concat!("weft/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.options.connect_timeout)
            .read_timeout(self.options.idle_timeout)
            // A server that has sent half a file keeps nothing for the next one.
            .pool_max_idle_per_host(0)
            .redirect(Policy::custom(follow))
    }
}

impl Answer {
    /// What came next; `None` at the end.
    ///
    /// # Errors
    /// [`FetchError::BrokeOff`] also where the file is shorter than announced.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        match &mut self.body {
            Body::Server(body) => {
                body.chunk().await.map_err(|error| sort(error, &self.url, self.idle))
            }
            Body::Mirror(file) => file.chunk().await,
            Body::Empty => Ok(None),
        }
    }

    /// The copy that it is read from, where it does not come from its server.
    pub fn mirrored(&self) -> Option<&Path> {
        match &self.body {
            Body::Mirror(file) => Some(&file.path),
            Body::Server(_) | Body::Empty => None,
        }
    }
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    match attempt.url().scheme() {
        _ if attempt.previous().len() > MAX_REDIRECTS => {
            attempt.error(RefusedRedirect("more than 10 times"))
        }
        "http" if from_https => attempt.error(RefusedRedirect("from https to http")),
        "http" | "https" => attempt.follow(),
        _ => attempt.error(RefusedRedirect("to something that is not http")),
    }
}

fn read_certificates(path: PathBuf) -> Result<Vec<Certificate>, FetchError> {
    let wrong = |what: String| FetchError::Certificates { path: path.clone(), what };
    let pem = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
    let certificates =
        Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("there is none in it; PEM (BEGIN CERTIFICATE) is expected".to_owned()));
    }
    Ok(certificates)
}

/// First byte and total length, if that is known. RFC 9110, 14.4: `bytes 0-499/1234`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    // A server that leaves the end out is asked for it again.
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

/// Only strong ones say that the bytes are the same (RFC 9110, 13.1.5).
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let etag = text(ETAG).filter(|tag| !tag.starts_with("W/"));
    etag.or_else(|| text(LAST_MODIFIED)).map(str::to_owned)
}

/// In seconds only; the form with a date is not worth a parser.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn content_ranges_that_make_no_sense_are_none() {
        #[rustfmt::skip]
        let cases = [
            ("bytes 0-499/1234",    Some((0, Some(1234)))),
            ("bytes 500-1233/1234", Some((500, Some(1234)))),
            ("bytes 500-600/*",     Some((500, None))),
            ("bytes 500-1234/1234", None),
            ("bytes 9-3/1234",      None),
            ("bytes */1234",        None),
            ("500-600/1234",        None),
            ("bytes -5/10",         None),
            ("bytes 0-99999999999999999999/5", None),
        ];
        for (text, want) in cases {
            assert_eq!(content_range(text), want, "{text}");
        }
    }
}

#[cfg(test)]
mod fuzz {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn no_header_of_a_server_panics_or_promises_a_part_that_is_none() {
        let good = ["bytes 0-499/1234", "bytes 500-600/*", "bytes */1234", "W/\"a\"", "120"];
        let good = good.map(|text| text.as_bytes().to_vec()).to_vec();
        weft_fuzz::fuzz(2000, weft_fuzz::hostile(good), |bytes| {
            if let Ok(text) = std::str::from_utf8(&bytes)
                && let Some((first, Some(total))) = content_range(text)
            {
                prop_assert!(first < total);
            }
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let headers = [ETAG, LAST_MODIFIED, RETRY_AFTER].map(|name| (name, value.clone()));
            let headers = HeaderMap::from_iter(headers);
            let _ = validator(&headers);
            prop_assert!(retry_after(&headers).is_none_or(|after| after <= MAX_RETRY_AFTER));
            Ok(())
        });
    }
}
