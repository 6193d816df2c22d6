//! One download: requests, one after the other, until the blob is whole.
//!
//! A request that breaks is followed by one for the rest. The digest at the end decides: where it is
//! wrong and the file was put together from several answers, it is fetched once more in one piece,
//! so that a file that was changed meanwhile is not taken for a wrong one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use weft_fetch::{Answer, FetchError, Resume};
use weft_image_format::HEAD_BYTES;
use weft_images::BlobError;
use weft_model::{Checksum, Digest, Problem, Reason};
use weft_planner::Action;

use super::{Fetches, Progress, Wanted, refusals};
use crate::host::{Host, HostError, UploadState};
use crate::transfers::{Underway, Way};

/// Appended at once, in bytes.
const CHUNK: usize = 1 << 20;
/// The longest that bytes wait for more of them: what has been appended survives the agent.
const LINGER: Duration = Duration::from_secs(1);
/// Requests in a row that bring less than [`WORTH`].
const MAX_STALLS: u32 = 5;
/// What has to come for a request not to be in vain, in bytes.
const WORTH: u64 = 1 << 20;
/// The pause after the first failure; it doubles.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two lines of the log where the length is not known, in bytes.
const LINE_EVERY: u64 = 64 << 20;

pub(super) struct Download<'a> {
    fetches: &'a Fetches,
    wanted: Wanted,
    progress: &'a watch::Sender<Progress>,
    /// What the server called the file's state in the last answer.
    validator: Option<String>,
    /// The part comes from more than one answer.
    spliced: bool,
    /// The next request is for the whole file.
    afresh: bool,
    logged: u64,
    /// The copy that it comes from, where it does not come from the server.
    mirrored: Option<PathBuf>,
    /// For people who look; there as soon as there was an answer with more of the file.
    underway: Option<Underway>,
}

/// How much of the file the host has.
enum State {
    /// All of it: the blob.
    There(Digest),
    /// So many bytes.
    Part(u64),
}

enum Failure {
    /// It may go better next time; after this long at least.
    Again(Problem, Duration),
    Refused(Problem),
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        match error.cause() {
            // Somebody uploads the same blob: go on where both have come to together.
            Some(BlobError::WrongOffset { .. } | BlobError::NoUpload { .. }) => {
                Self::Again(error.problem(), Duration::ZERO)
            }
            _ => Self::Refused(error.problem()),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl<'a> Download<'a> {
    pub(super) fn new(
        fetches: &'a Fetches,
        wanted: Wanted,
        progress: &'a watch::Sender<Progress>,
    ) -> Self {
        Self {
            fetches,
            wanted,
            progress,
            validator: None,
            spliced: false,
            afresh: false,
            logged: 0,
            mirrored: None,
            underway: None,
        }
    }

    /// Returns when the blob is there.
    pub(super) async fn run(mut self) -> Result<Digest, Problem> {
        let outcome = self.attempts().await;
        if let Some(underway) = self.underway.take() {
            underway.end(&outcome);
        }
        outcome
    }

    async fn attempts(&mut self) -> Result<Digest, Problem> {
        let (mut stalls, mut reached) = (0, 0);
        loop {
            let (problem, at_least) = match self.attempt().await {
                Ok(digest) => return Ok(digest),
                Err(Failure::Refused(problem)) => return Err(problem),
                Err(Failure::Again(problem, at_least)) => (problem, at_least),
            };
            let received = self.progress.borrow().received_bytes;
            stalls = if received >= reached + WORTH { 1 } else { stalls + 1 };
            reached = reached.max(received);
            if stalls > MAX_STALLS {
                return Err(gave_up(problem));
            }
            let trouble = match &problem.evidence {
                Some(evidence) => format!("{}: {evidence}", problem.message),
                None => problem.message,
            };
            tracing::warn!(blob.checksum = %self.wanted.checksum, bytes = received, trouble, "the download broke, going on");
            if let Some(underway) = &self.underway {
                underway.troubled(&trouble);
            }
            self.progress.send_modify(|progress| progress.trouble = Some(trouble));
            tokio::time::sleep((PAUSE * (1 << (stalls - 1))).max(at_least)).await;
        }
    }

    fn host(&self) -> &dyn Host {
        self.fetches.reconciler.host.as_ref()
    }

    async fn attempt(&mut self) -> Result<Digest, Failure> {
        let digest = self.part();
        let have = match self.look().await? {
            State::There(blob) => return Ok(blob),
            State::Part(offset_bytes) => offset_bytes,
        };
        let offset = if self.afresh { 0 } else { have };
        let resume = Resume { offset, validator: self.validator.take() };
        let url = &self.wanted.url;
        let opened = self.fetches.fetcher.open(url, Some(&resume)).await;
        let mut answer = match opened {
            Ok(answer) => answer,
            Err(error) => {
                // A server that cannot send this part is asked for the whole file.
                self.afresh |= matches!(error, FetchError::WrongPart { .. });
                return Err(sort(&error));
            }
        };
        self.mirrored = answer.mirrored().map(Path::to_owned);
        let max_bytes = self.fetches.max_bytes;
        if answer.total.is_some_and(|total| total > max_bytes) {
            return Err(Failure::Refused(refusals::too_large(url, answer.total, max_bytes)));
        }
        let buffer = if answer.offset > 0 {
            self.spliced = true;
            Vec::new()
        } else {
            let head = self.head(&mut answer).await?;
            refusals::judge(&head, answer.total, &self.wanted).map_err(Failure::Refused)?;
            if have > 0 {
                self.host().apply(&Action::AbandonUpload { digest }).await?;
            }
            (self.spliced, self.afresh) = (false, false);
            head
        };
        self.validator.clone_from(&answer.validator);
        let action = Action::BeginUpload { digest, size_bytes: answer.total };
        self.host().apply(&action).await?;
        match self.look().await? {
            State::There(blob) => return Ok(blob),
            State::Part(offset_bytes) if offset_bytes != answer.offset => {
                let message = format!("somebody else is at byte {offset_bytes} of the same file");
                let problem = Problem::new(Reason::Unavailable, message);
                return Err(Failure::Again(problem, Duration::ZERO));
            }
            State::Part(_) => {}
        }
        tracing::info!(blob.checksum = %self.wanted.checksum, url = %self.wanted.url, from = answer.offset, bytes = answer.total, mirror = self.mirrored.as_ref().map(|path| tracing::field::display(path.display())), "fetching");
        let size = self.copy(&mut answer, buffer).await?;
        self.finish(size, answer.total.is_some()).await
    }

    /// What the file goes by while it comes.
    fn part(&self) -> Digest {
        self.wanted.checksum.stand_in()
    }

    /// The state; a blob that is there stays for whoever asks for it.
    async fn look(&self) -> Result<State, Failure> {
        let state = self.state().await?;
        let State::There(blob) = state else { return Ok(state) };
        // Until it is kept a sweep may take it: it is looked for again.
        self.fetches.reconciler.pins.keep([blob]).await;
        self.state().await
    }

    async fn state(&self) -> Result<State, Failure> {
        if let Checksum::Sha512(sha512) = &self.wanted.checksum
            && let Some(blob) = self.fetches.reconciler.blob_by_sha512(sha512).await?
        {
            return Ok(State::There(blob));
        }
        let part = self.part();
        Ok(match self.host().upload_state(&part).await? {
            UploadState::Complete => State::There(part),
            UploadState::Partial { offset_bytes } => State::Part(offset_bytes),
        })
    }

    /// The first bytes of the file, enough to judge it by.
    async fn head(&self, answer: &mut Answer) -> Result<Vec<u8>, Failure> {
        let mut head = Vec::new();
        while head.len() < HEAD_BYTES {
            let chunk = answer.chunk().await;
            match chunk.map_err(|error| sort_at(&error, 0, answer.total))? {
                Some(bytes) => head.extend_from_slice(&bytes),
                None => break,
            }
        }
        Ok(head)
    }

    /// Appends everything that comes; returns the file's size.
    async fn copy(&mut self, answer: &mut Answer, mut buffer: Vec<u8>) -> Result<u64, Failure> {
        let (mut at, total) = (answer.offset, answer.total);
        let mut last = Instant::now();
        self.report(at, total);
        loop {
            let chunk = answer.chunk().await;
            if let Ok(Some(bytes)) = &chunk {
                buffer.extend_from_slice(bytes);
            }
            let goes_on = matches!(chunk, Ok(Some(_)));
            if !goes_on || buffer.len() >= CHUNK || last.elapsed() >= LINGER {
                at = self.append(at, std::mem::take(&mut buffer)).await?;
                last = Instant::now();
                self.report(at, total);
            }
            match chunk {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(at),
                Err(error) => return Err(sort_at(&error, at, total)),
            }
        }
    }

    async fn append(&self, offset_bytes: u64, data: Vec<u8>) -> Result<u64, Failure> {
        let (digest, len) = (self.part(), data.len() as u64);
        if len == 0 {
            return Ok(offset_bytes);
        }
        let max_bytes = self.fetches.max_bytes;
        if offset_bytes + len > max_bytes {
            self.host().apply(&Action::AbandonUpload { digest }).await?;
            return Err(Failure::Refused(refusals::too_large(&self.wanted.url, None, max_bytes)));
        }
        let action = Action::AppendUpload { digest, offset_bytes, data };
        if let Err(error) = self.host().apply(&action).await {
            // The room is worth more to running guests than what has come.
            if error.cause().is_some_and(BlobError::is_out_of_space) {
                self.host().apply(&Action::AbandonUpload { digest }).await?;
            }
            return Err(error.into());
        }
        Ok(offset_bytes + len)
    }

    async fn finish(&mut self, size_bytes: u64, length_was_known: bool) -> Result<Digest, Failure> {
        let (digest, wanted) = (self.part(), self.wanted.checksum);
        let pins = &self.fetches.reconciler.pins;
        let sha512 = match wanted {
            Checksum::Sha256(digest) => {
                pins.keep([digest]).await;
                None
            }
            Checksum::Sha512(sha512) => Some(sha512),
        };
        let action = Action::FinishUpload { digest, size_bytes, sha512 };
        let Err(error) = self.host().apply(&action).await else {
            let State::There(blob) = self.look().await? else {
                let message = format!("what came with the digest {wanted} is gone again");
                let problem = Problem::new(Reason::Unavailable, message);
                return Err(Failure::Again(problem, Duration::ZERO));
            };
            if let Some(sha512) = &sha512 {
                self.fetches.reconciler.remember_sha512(sha512, blob).await;
            }
            return Ok(blob);
        };
        match error.cause() {
            Some(BlobError::DigestMismatch { actual, .. }) => {
                let url = &self.wanted.url;
                let digests = (wanted, **actual);
                let mut problem = refusals::mismatch(url, digests, size_bytes, length_was_known);
                if let Some(path) = &self.mirrored {
                    problem =
                        problem.evidence(format!("it came from the mirror's {}", path.display()));
                }
                // What came before may have been another version of the file, or an upload's.
                match std::mem::take(&mut self.spliced) {
                    true => Err(Failure::Again(problem, Duration::ZERO)),
                    false => Err(Failure::Refused(problem)),
                }
            }
            // The server has ended the file in good order, and before its announced end.
            Some(BlobError::Incomplete { .. }) => {
                Err(Failure::Again(error.problem(), Duration::ZERO))
            }
            _ => Err(error.into()),
        }
    }

    /// Tells those who ask, and the log at each tenth.
    fn report(&mut self, received_bytes: u64, total_bytes: Option<u64>) {
        let begin = || {
            let name = self.wanted.url.to_string();
            self.fetches.transfers.begin(Way::Download, name, received_bytes, total_bytes)
        };
        self.underway.get_or_insert_with(begin).reached(received_bytes, total_bytes);
        self.progress.send_modify(|progress| {
            if received_bytes > progress.received_bytes {
                progress.trouble = None;
            }
            (progress.received_bytes, progress.total_bytes) = (received_bytes, total_bytes);
        });
        let line = match total_bytes {
            Some(total) => received_bytes.saturating_mul(10) / total.max(1),
            None => received_bytes / LINE_EVERY,
        };
        if line > self.logged {
            self.logged = line;
            tracing::info!(blob.checksum = %self.wanted.checksum, bytes = received_bytes, of = total_bytes, "fetching");
        }
    }
}

fn sort(error: &FetchError) -> Failure {
    failure(error, refusals::failed(error))
}

fn sort_at(error: &FetchError, at: u64, total: Option<u64>) -> Failure {
    failure(error, refusals::failed_at(error, at, total))
}

fn failure(error: &FetchError, problem: Problem) -> Failure {
    if error.is_retryable() {
        Failure::Again(problem, error.retry_after().unwrap_or_default())
    } else {
        Failure::Refused(problem)
    }
}

fn gave_up(mut problem: Problem) -> Problem {
    problem.message.push_str(&format!(" (tried {} times)", MAX_STALLS + 1));
    problem.reason = Reason::FailedPrecondition;
    problem
}
