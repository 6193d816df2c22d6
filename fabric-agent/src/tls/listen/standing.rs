//! Connections without a certificate: they have the place of their handshake until something is attached
//! over them, and leave soon where nothing is.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use weft_model::{Problem, Reason};

use super::door::{MAX_STAYING, Place};

/// How long a connection may be there with nothing attached over it.
const UNATTACHED: Duration = Duration::from_secs(10);

/// What a connection without a certificate is there for.
#[derive(Debug)]
pub(super) struct Standing {
    /// How much is attached over it.
    attached: AtomicUsize,
    place: Mutex<PlaceOf>,
    staying: Arc<Semaphore>,
}

/// Whose places it is counted among.
#[derive(Debug)]
enum PlaceOf {
    Handshake { _place: Place },
    Staying { _permit: OwnedSemaphorePermit },
}

/// While it is there, its connection may stay.
#[derive(Debug)]
pub(crate) struct Stay(Arc<Standing>);

impl Standing {
    pub(super) fn new(place: Place, staying: Arc<Semaphore>) -> Arc<Self> {
        let place = Mutex::new(PlaceOf::Handshake { _place: place });
        Arc::new(Self { attached: AtomicUsize::new(0), place, staying })
    }

    /// From the first time on it has a place among those that stay, and none of a handshake.
    ///
    /// # Errors
    /// As many stay as may.
    pub(super) fn stay(self: &Arc<Self>) -> Result<Stay, Problem> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if let PlaceOf::Handshake { .. } = *place {
            let permit = Arc::clone(&self.staying).try_acquire_owned().map_err(|_| {
                let message = format!("{MAX_STAYING} clients have consoles at this port already");
                Problem::new(Reason::Unavailable, message).remedy("try again later")
            })?;
            *place = PlaceOf::Staying { _permit: permit };
        }
        self.attached.fetch_add(1, Ordering::Relaxed);
        Ok(Stay(Arc::clone(self)))
    }

    fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.attached.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When a connection without a certificate has to be gone.
#[derive(Debug)]
pub(super) struct Leaves {
    at: Pin<Box<Sleep>>,
    standing: Arc<Standing>,
}

impl Leaves {
    pub(super) fn new(standing: Arc<Standing>) -> Self {
        Self { at: Box::pin(tokio::time::sleep(UNATTACHED)), standing }
    }

    /// Whether it has to be gone now; else this task is woken when it is time to ask again.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        while let Poll::Ready(()) = self.at.as_mut().poll(cx) {
            if !self.standing.is_attached() {
                return true;
            }
            self.at.as_mut().reset(Instant::now() + UNATTACHED);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::door::Door;
    use super::*;

    /// As many as get in from one address.
    fn enter(door: &Door) -> Vec<Arc<Standing>> {
        let places = std::iter::from_fn(|| door.enter("192.0.2.1".parse().unwrap()));
        places.map(|place| Standing::new(place, Arc::clone(&door.staying))).collect()
    }

    #[tokio::test]
    async fn who_stays_keeps_nobody_from_shaking_hands() {
        let door = Door::default();
        let first = enter(&door);
        let stays: Vec<Stay> = first.iter().map(|one| one.stay().unwrap()).collect();
        let second = enter(&door);
        assert_eq!(second.len(), first.len(), "their handshakes' places are free again");
        // One more over the same connection takes no other place.
        let again = first[0].stay().unwrap();
        assert_eq!(door.staying.available_permits(), MAX_STAYING - first.len());
        drop((stays, again));
        assert!(first.iter().all(|one| !one.is_attached()));
        drop((first, second));
        assert_eq!(door.staying.available_permits(), MAX_STAYING);
    }

    #[tokio::test]
    async fn no_more_stay_than_may() {
        let door = Door::default();
        let mut kept = Vec::new();
        while door.staying.available_permits() > 0 {
            kept.extend(enter(&door).into_iter().filter_map(|one| one.stay().ok()));
        }
        let late = enter(&door).remove(0);
        let problem = late.stay().unwrap_err();
        assert!(problem.message.contains("128 clients"), "{problem}");
        kept.pop();
        assert!(late.stay().is_ok());
    }
}
