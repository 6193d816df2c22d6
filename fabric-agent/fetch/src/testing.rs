//! A web server for tests, which can behave badly. HTTP/1.1, one request for each connection.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What is at a path.
#[derive(Clone, Debug, Default)]
pub struct Page {
    body: Vec<u8>,
    content_type: Option<&'static str>,
    status: Option<(u16, u32)>,
    redirect: Option<String>,
    etag: Option<String>,
    breaks_after: VecDeque<usize>,
    no_ranges: bool,
    no_length: bool,
    endless: bool,
    hangs_after: Option<usize>,
}

impl Page {
    /// Answers with `body`, whole or in part.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// Leads elsewhere.
    pub fn redirect(to: impl Into<String>) -> Self {
        Self { redirect: Some(to.into()), ..Self::default() }
    }

    /// Sends [`Self::new`]'s bytes again and again, and announces no length.
    #[must_use]
    pub fn endless(mut self) -> Self {
        (self.endless, self.no_length, self.no_ranges) = (true, true, true);
        self
    }

    /// The next answers break after so many bytes, each in turn.
    #[must_use]
    pub fn breaks_after(mut self, bytes: impl IntoIterator<Item = usize>) -> Self {
        self.breaks_after = bytes.into_iter().collect();
        self
    }

    /// Answers stop after so many bytes, with the connection open.
    #[must_use]
    pub fn hangs_after(mut self, bytes: usize) -> Self {
        self.hangs_after = Some(bytes);
        self
    }

    /// The next `times` answers are this status.
    #[must_use]
    pub fn status(mut self, status: u16, times: u32) -> Self {
        self.status = Some((status, times));
        self
    }

    /// Knows nothing of ranges.
    #[must_use]
    pub fn no_ranges(mut self) -> Self {
        self.no_ranges = true;
        self
    }

    /// Does not say how long it is.
    #[must_use]
    pub fn no_length(mut self) -> Self {
        self.no_length = true;
        self
    }

    /// Has a name for its state.
    #[must_use]
    pub fn etag(mut self, tag: &str) -> Self {
        self.etag = Some(format!("\"{tag}\""));
        self
    }

    /// Says what it is.
    #[must_use]
    pub fn content_type(mut self, content_type: &'static str) -> Self {
        self.content_type = Some(content_type);
        self
    }
}

/// A request that came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// "/disk.raw".
    pub path: String,
    /// Lower-case names.
    pub headers: HashMap<String, String>,
    /// Bytes of the body that were sent in answer, so far.
    pub sent: usize,
}

/// A server on 127.0.0.1. Ends with the value.
#[derive(Debug)]
pub struct Site {
    scheme: &'static str,
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    pages: Mutex<HashMap<String, Page>>,
    seen: Mutex<Vec<Seen>>,
    let_go: tokio::sync::Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Site {
    /// Serves http.
    ///
    /// # Errors
    /// Where no socket can be opened.
    pub async fn start() -> std::io::Result<Self> {
        Self::with(None).await
    }

    /// Serves https with a certificate for `localhost`.
    ///
    /// # Errors
    /// Where no socket can be opened.
    pub async fn with(tls: Option<TlsAcceptor>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let site = shared.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (site, tls) = (site.clone(), tls.clone());
                tokio::spawn(async move {
                    // A client that goes away is the client's business.
                    match tls {
                        None => drop(site.serve(stream).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(site.serve(stream).await);
                            }
                        }
                    }
                });
            }
        });
        Ok(Self { scheme, address, shared, serving })
    }

    /// Puts `page` at `path`; returns its URL.
    pub fn put(&self, path: &str, page: Page) -> String {
        lock(&self.shared.pages).insert(path.to_owned(), page);
        self.url(path)
    }

    /// Where `path` is.
    pub fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.address.port())
    }

    /// Connections that hang break.
    pub fn let_go(&self) {
        self.shared.let_go.notify_waiters();
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            if line.trim().is_empty() {
                break;
            }
            lines.push(line);
        }
        let Some(first) = lines.first() else { return Ok(()) };
        let path = first.split(' ').nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let header = |line: &String| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_lowercase(), value.trim().to_owned()))
        };
        let headers: HashMap<String, String> = lines[1..].iter().filter_map(header).collect();
        let index = {
            let mut seen = lock(&self.seen);
            seen.push(Seen { path: path.clone(), headers: headers.clone(), sent: 0 });
            seen.len() - 1
        };
        let answer = self.answer(&path, &headers);
        stream.write_all(answer.head.as_bytes()).await?;
        let mut left = answer.limit;
        loop {
            for chunk in answer.body.chunks(16 << 10) {
                let chunk = &chunk[..chunk.len().min(left)];
                stream.write_all(chunk).await?;
                stream.flush().await?;
                left -= chunk.len();
                lock(&self.seen)[index].sent += chunk.len();
                if left == 0 {
                    break;
                }
            }
            if !answer.endless || left == 0 {
                break;
            }
        }
        if answer.hangs {
            self.let_go.notified().await;
        }
        // Without this TLS would end as if nothing had been cut off, which is the point of breaking.
        if left > 0 { stream.shutdown().await } else { Ok(()) }
    }

    fn answer(&self, path: &str, headers: &HashMap<String, String>) -> Response {
        let mut pages = lock(&self.pages);
        let Some(page) = pages.get_mut(path) else { return Response::status(404, "") };
        if let Some((status, times)) = &mut page.status
            && *times > 0
        {
            *times -= 1;
            return Response::status(*status, "");
        }
        if let Some(to) = &page.redirect {
            return Response::status(302, &format!("Location: {to}\r\n"));
        }
        let whole = page.body.len();
        let is_same = headers.get("if-range").is_none_or(|tag| Some(tag) == page.etag.as_ref());
        let wanted = headers.get("range").filter(|_| is_same && !page.no_ranges);
        let from =
            wanted.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let mut more = String::new();
        if let Some(tag) = &page.etag {
            more.push_str(&format!("ETag: {tag}\r\n"));
        }
        if let Some(content_type) = page.content_type {
            more.push_str(&format!("Content-Type: {content_type}\r\n"));
        }
        let (status, from) = match from {
            Some(from) if from >= whole => {
                more.push_str(&format!("Content-Range: bytes */{whole}\r\n"));
                return Response::status(416, &more);
            }
            Some(from) => {
                more.push_str(&format!("Content-Range: bytes {from}-{}/{whole}\r\n", whole - 1));
                ("206 Partial Content", from)
            }
            None => ("200 OK", 0),
        };
        let body = page.body[from..].to_vec();
        if !page.no_length {
            more.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let limit = page.breaks_after.pop_front().or(page.hangs_after).unwrap_or(usize::MAX);
        Response {
            head: format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n"),
            body,
            limit,
            endless: page.endless,
            hangs: page.hangs_after.is_some(),
        }
    }
}

struct Response {
    head: String,
    body: Vec<u8>,
    limit: usize,
    endless: bool,
    hangs: bool,
}

impl Response {
    fn status(status: u16, more: &str) -> Self {
        let head = format!(
            "HTTP/1.1 {status} Because\r\nConnection: close\r\nContent-Length: 0\r\n{more}\r\n"
        );
        Self { head, body: Vec::new(), limit: usize::MAX, endless: false, hangs: false }
    }
}
