//! Lists of digests, as publishers put them beside their images.

use std::time::Duration;

use weft_fetch::Fetcher;
use weft_model::{Checksum, ImageUrl, MAX_CHECKSUMS_BYTES, Problem, find_checksum};

use super::refusals;

/// Requests at most: a plan waits for the answer.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);

/// What the list at `url` says of `file`.
pub(super) async fn find(
    fetcher: &Fetcher,
    url: &ImageUrl,
    file: &str,
) -> Result<Checksum, Problem> {
    let text = String::from_utf8_lossy(&read(fetcher, url).await?).into_owned();
    find_checksum(&text, file).map_err(|error| {
        Problem::invalid("url", format!("{url} says no digest of the image: {error}"))
            .remedy("give the URL of the list that belongs to the file, or set sha256 or sha512")
    })
}

async fn read(fetcher: &Fetcher, url: &ImageUrl) -> Result<Vec<u8>, Problem> {
    let mut tried = 0;
    loop {
        tried += 1;
        match attempt(fetcher, url).await {
            Ok(bytes) => return Ok(bytes),
            Err((problem, true)) if tried < TRIES => {
                tracing::warn!(%url, error = %problem, "a list of digests did not come, asking again");
                tokio::time::sleep(PAUSE * tried).await;
            }
            Err((problem, _)) => return Err(problem),
        }
    }
}

/// The whole list; with an error, whether it may go better next time.
async fn attempt(fetcher: &Fetcher, url: &ImageUrl) -> Result<Vec<u8>, (Problem, bool)> {
    let failed = |error: weft_fetch::FetchError| (refusals::failed(&error), error.is_retryable());
    let mut answer = fetcher.open(url, None).await.map_err(failed)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_CHECKSUMS_BYTES {
            let message = format!("{url} is larger than a list of digests (1 MiB)");
            let problem = Problem::invalid("url", message);
            return Err((problem.remedy("give the URL of a SHA256SUMS file"), false));
        }
    }
    Ok(bytes)
}
