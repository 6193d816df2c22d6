//! A clock that tests move by hand: what it says is in a file, so it outlives `kill -9` of the agent,
//! and can be set back, or be another boot's.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use weft_metering::Moment;

use super::Clock;

/// How often the file is looked at by who sleeps.
const LOOK: Duration = Duration::from_millis(5);

/// A clock that stands still until its file (a [`Moment`] as JSON) is replaced.
#[derive(Debug)]
pub(crate) struct ScriptedClock {
    path: PathBuf,
    last: Mutex<Moment>,
}

impl ScriptedClock {
    /// # Errors
    /// There is no such file, or it holds no moment.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.to_owned(), last: Mutex::new(read(path)?) })
    }
}

fn read(path: &Path) -> std::io::Result<Moment> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

#[async_trait]
impl Clock for ScriptedClock {
    fn moment(&self) -> Moment {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.path) {
            Ok(moment) => *last = moment,
            Err(error) => {
                tracing::warn!(%error, "the scripted clock cannot be read: it stands still")
            }
        }
        last.clone()
    }

    async fn sleep(&self, duration: Duration) {
        self.sleep_from(&self.moment(), duration).await;
    }

    async fn sleep_from(&self, begun: &Moment, duration: Duration) {
        while u128::from(self.moment().since_ms(begun)) < duration.as_millis() {
            tokio::time::sleep(LOOK).await;
        }
    }
}
