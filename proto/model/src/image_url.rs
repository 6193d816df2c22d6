//! Where an image is fetched from.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The longest URL, in bytes: what servers and proxies commonly take.
const MAX_URL_BYTES: usize = 8_000;

/// An `http` or `https` URL.
///
/// `Display` and `Debug` leave out what may be secret: user, password, and the values of a query (a
/// presigned URL has its signature there).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ImageUrl(Url);

/// Text that no image can be fetched from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImageUrl {
    /// Not a URL at all. The text is not repeated: it may hold a password.
    #[error("it is no URL ({0}): use one such as \"https://example.com/image.qcow2\"")]
    NotAUrl(&'static str),
    /// A file of the machine that runs Terraform.
    #[error("the agent does not read file:// URLs: name a file with source_path instead")]
    File,
    /// Another way of transport.
    #[error("the agent does not fetch by \"{0}\": use an http or https URL")]
    Scheme(String),
}

impl ImageUrl {
    /// The whole URL, secrets included: for the request itself.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }

    /// The last part of the path, decoded: what a list of digests calls the file.
    pub fn file_name(&self) -> Option<String> {
        decoded(self.0.path_segments()?.next_back().filter(|name| !name.is_empty())?)
    }

    /// The server's name, its port where one is written, and the path, decoded: where
    /// `wget --force-directories` keeps the file. `None` where that is no text.
    pub fn host_and_path(&self) -> Option<String> {
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}{port}{}", self.0.host_str()?, decoded(self.0.path())?))
    }

    /// Whether the connection is encrypted, and the server known by its certificate.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

/// Text without its escapes, if it is text then.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let digits = (ahead.next().and_then(digit), ahead.next().and_then(digit));
        match (byte, digits) {
            (b'%', (Some(high), Some(low))) => {
                bytes.push(high << 4 | low);
                rest = ahead;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

impl FromStr for ImageUrl {
    type Err = InvalidImageUrl;
    fn from_str(text: &str) -> Result<Self, InvalidImageUrl> {
        if text.len() > MAX_URL_BYTES {
            return Err(InvalidImageUrl::NotAUrl("it is longer than 8000 bytes"));
        }
        let url = Url::parse(text).map_err(|error| {
            InvalidImageUrl::NotAUrl(match error {
                url::ParseError::RelativeUrlWithoutBase => "it has no https:// in front",
                url::ParseError::EmptyHost => "it names no host",
                url::ParseError::InvalidPort => "its port is not a number up to 65535",
                _ => "it does not parse",
            })
        })?;
        match url.scheme() {
            "http" | "https" => Ok(Self(url)),
            "file" => Err(InvalidImageUrl::File),
            other => Err(InvalidImageUrl::Scheme(other.to_owned())),
        }
    }
}

impl fmt::Display for ImageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.0;
        write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or_default())?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(url.path())?;
        if url.query().is_some() { f.write_str("?…") } else { Ok(()) }
    }
}

impl fmt::Debug for ImageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let text = "https://me:s3cret@mirror.example:8443/a/b.qcow2?X-Signature=abc#part";
        let url: ImageUrl = text.parse().unwrap();
        assert_eq!(url.expose(), text);
        assert_eq!(url.to_string(), "https://mirror.example:8443/a/b.qcow2?…");
        assert_eq!(format!("{url:?}"), url.to_string());
    }

    #[test]
    fn the_file_is_called_as_its_publisher_calls_it() {
        let name = |text: &str| text.parse::<ImageUrl>().unwrap().file_name();
        assert_eq!(name("https://e.org/a/b%2Bc%20d.img?x=/y#z").as_deref(), Some("b+c d.img"));
        assert_eq!(name("https://e.org/100%.img").as_deref(), Some("100%.img"));
        assert_eq!(name("https://e.org/a/"), None);
        assert_eq!(name("https://e.org/%ff"), None);
    }

    #[test]
    fn only_http_and_https_are_fetched_and_the_refusal_says_what_to_do() {
        #[rustfmt::skip]
        let cases = [
            ("file:///srv/disk.raw",        "source_path"),
            ("ftp://example.com/disk.raw",  "http or https"),
            ("s3://bucket/disk.raw",        "http or https"),
            ("example.com/disk.raw",        "no https:// in front"),
            ("disk.raw",                    "no https:// in front"),
            ("https://",                    "names no host"),
            ("https://me:s3cret@host:99999/", "port"),
            ("",                            "no https:// in front"),
        ];
        for (text, word) in cases {
            let said = text.parse::<ImageUrl>().unwrap_err().to_string();
            assert!(said.contains(word), "{text}: {said}");
            assert!(!said.contains("s3cret"), "{said}");
        }
    }
}
