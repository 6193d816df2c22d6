//! A web server for images, with the faults that real ones have: answers that break off, that
//! stop half-way, that say nothing of their length.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

/// Written at once, in bytes.
const CHUNK: usize = 16 << 10;

/// What is at a path.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// All of it.
    pub body: Vec<u8>,
    /// Each answer ends after this many bytes, whatever was announced.
    pub breaks_after: Option<usize>,
    /// Nothing is sent from this byte of the file on, until [`Site::release`].
    pub waits_at: Option<usize>,
    /// The length is not announced: the end of the connection is the end of the file.
    pub no_length: bool,
}

impl Page {
    /// A page without faults.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }
}

/// One request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What was asked for.
    pub path: String,
    /// From which byte on.
    pub from: usize,
    /// How many bytes of the body were handed to the connection.
    pub sent: usize,
}

/// The server, on a port of the loopback interface. Its threads end with the process.
#[derive(Debug)]
pub struct Site {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pages: BTreeMap<String, Page>,
    requests: Vec<Request>,
}

impl Site {
    /// An empty site.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen for the site")?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = Arc::clone(&serving);
                // A client that goes away is its own affair.
                thread::spawn(move || drop(serving.serve(&stream)));
            }
        });
        Ok(Self { address, shared })
    }

    /// Puts `page` at `path`, which begins with a slash; returns its URL.
    pub fn put(&self, path: &str, page: Page) -> String {
        self.shared.lock().pages.insert(path.to_owned(), page);
        format!("http://{}{path}", self.address)
    }

    /// Lets go on what waits at `path`, now and from now on.
    pub fn release(&self, path: &str) {
        if let Some(page) = self.shared.lock().pages.get_mut(path) {
            page.waits_at = None;
        }
        self.shared.released.notify_all();
    }

    /// The requests for `path` so far.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        self.shared.lock().requests.iter().filter(|one| one.path == path).cloned().collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut from = 0;
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            let range = line.strip_prefix("range: bytes=").and_then(|text| text.strip_suffix('-'));
            from = range.and_then(|text| text.parse().ok()).unwrap_or(from);
        }
        let (page, index) = {
            let mut state = self.lock();
            state.requests.push(Request { path: path.clone(), from, sent: 0 });
            (state.pages.get(&path).cloned(), state.requests.len() - 1)
        };
        let Some(page) = page else {
            let head = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            return stream.write_all(head.as_bytes());
        };
        let from = from.min(page.body.len());
        stream.write_all(head(&page, from).as_bytes())?;
        let end = page.breaks_after.map_or(page.body.len(), |n| (from + n).min(page.body.len()));
        for start in (from..end).step_by(CHUNK) {
            let stop = end.min(start + CHUNK);
            drop(self.wait(&path, stop));
            stream.write_all(&page.body[start..stop])?;
            self.lock().requests[index].sent += stop - start;
        }
        Ok(())
    }

    /// Returns when bytes before `stop` may be sent.
    fn wait(&self, path: &str, stop: usize) -> MutexGuard<'_, State> {
        let held = |state: &mut State| {
            let page = state.pages.get(path);
            page.and_then(|page| page.waits_at).is_some_and(|at| stop > at)
        };
        self.released.wait_while(self.lock(), held).unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 9110: 15.3.7 for parts, 8.8.3 for the tag, by which a client knows that it is the same file.
fn head(page: &Page, from: usize) -> String {
    let whole = page.body.len();
    let mut head = match from {
        0 => "HTTP/1.1 200 OK\r\n".to_owned(),
        _ => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{whole}\r\n",
            whole.saturating_sub(1)
        ),
    };
    if !page.no_length {
        head.push_str(&format!("Content-Length: {}\r\n", whole - from));
    }
    head + "ETag: \"one\"\r\nConnection: close\r\n\r\n"
}
