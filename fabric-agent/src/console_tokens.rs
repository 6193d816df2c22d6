//! Tokens for the console of one instance, for people and programs without a certificate.
//!
//! They live for minutes and in memory only; of the secret there is its SHA-256. What is attached with a
//! token ends with it, by time or because it was revoked.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use weft_model::{InstanceId, Problem, Reason};

use crate::random;

/// How long one may live before it is renewed, in seconds.
pub(crate) const LIFETIME_SECONDS: RangeInclusive<u32> = 60..=3600;
/// How many there may be at a time.
const MAX_TOKENS: usize = 1024;

/// The tokens that are alive, by their id.
#[derive(Debug, Default)]
pub(crate) struct ConsoleTokens(Mutex<BTreeMap<String, Held>>);

#[derive(Debug)]
struct Held {
    digest: [u8; 32],
    instance: InstanceId,
    /// When it ends; dropped when it has ended or is revoked.
    ends: watch::Sender<Instant>,
}

/// A new token.
pub(crate) struct Minted {
    pub(crate) id: String,
    /// The id and the secret.
    pub(crate) token: String,
}

/// What a token that is alive is good for.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) id: String,
    pub(crate) instance: InstanceId,
    ends: watch::Receiver<Instant>,
}

impl Grant {
    /// Returns when the token has ended.
    pub(crate) async fn ended(mut self) {
        loop {
            let at = *self.ends.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(at) => {
                    // It may have been renewed in this moment.
                    if *self.ends.borrow() <= Instant::now() {
                        return;
                    }
                }
                changed = self.ends.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

impl ConsoleTokens {
    /// # Errors
    /// [`Reason::ResourceExhausted`] where there are too many.
    pub(crate) fn mint(&self, instance: InstanceId, lifetime: Duration) -> Result<Minted, Problem> {
        let now = Instant::now();
        let mut tokens = self.lock();
        tokens.retain(|_, held| *held.ends.borrow() > now);
        if tokens.len() >= MAX_TOKENS {
            let message = format!("there are {MAX_TOKENS} console tokens already");
            return Err(Problem::new(Reason::ResourceExhausted, message)
                .remedy("revoke some, or wait until they end"));
        }
        let (id, secret) = (hex::encode(random::bytes::<8>()), hex::encode(random::bytes::<32>()));
        let token = format!("{id}.{secret}");
        let digest = Sha256::digest(&secret).into();
        tokens.insert(
            id.clone(),
            Held { digest, instance, ends: watch::Sender::new(now + lifetime) },
        );
        Ok(Minted { id, token })
    }

    /// What `token` is good for; `None` for one that is wrong, has ended or was revoked.
    pub(crate) fn check(&self, token: &str) -> Option<Grant> {
        let (id, secret) = token.split_once('.')?;
        let digest: [u8; 32] = Sha256::digest(secret).into();
        let tokens = self.lock();
        let held = tokens.get(id)?;
        verify_slices_are_equal(&digest, &held.digest).ok()?;
        let ends = held.ends.subscribe();
        let is_alive = *ends.borrow() > Instant::now();
        is_alive.then(|| Grant { id: id.to_owned(), instance: held.instance.clone(), ends })
    }

    /// Its instance; `None` where it has ended.
    pub(crate) fn renew(&self, id: &str, lifetime: Duration) -> Option<InstanceId> {
        let (now, tokens) = (Instant::now(), self.lock());
        let held = tokens.get(id).filter(|held| *held.ends.borrow() > now)?;
        held.ends.send_replace(now + lifetime);
        Some(held.instance.clone())
    }

    /// Its instance, where it was there.
    pub(crate) fn revoke(&self, id: &str) -> Option<InstanceId> {
        self.lock().remove(id).map(|held| held.instance)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn instance() -> InstanceId {
        InstanceId::from_random([7; 9])
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_until_it_ends_or_is_revoked() {
        let tokens = ConsoleTokens::default();
        let made = tokens.mint(instance(), MINUTE).unwrap();
        assert_eq!(tokens.check(&made.token).unwrap().instance, instance());
        tokio::time::advance(MINUTE / 2).await;
        assert!(tokens.renew(&made.id, MINUTE).is_some());
        tokio::time::advance(MINUTE * 3 / 4).await;
        assert!(tokens.check(&made.token).is_some());
        tokio::time::advance(MINUTE).await;
        assert!(tokens.check(&made.token).is_none());
        assert!(tokens.renew(&made.id, MINUTE).is_none());

        let made = tokens.mint(instance(), MINUTE).unwrap();
        assert!(tokens.revoke(&made.id).is_some());
        assert!(tokens.check(&made.token).is_none() && tokens.revoke(&made.id).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_attached_hears_of_the_end_and_not_before() {
        let tokens = ConsoleTokens::default();
        let made = tokens.mint(instance(), MINUTE).unwrap();
        let attached = tokio::spawn(tokens.check(&made.token).unwrap().ended());
        let other = tokio::spawn(tokens.check(&made.token).unwrap().ended());
        tokio::time::advance(MINUTE / 2).await;
        tokens.renew(&made.id, MINUTE).unwrap();
        tokio::time::advance(MINUTE * 3 / 4).await;
        tokio::task::yield_now().await;
        assert!(!attached.is_finished());
        tokens.revoke(&made.id).unwrap();
        attached.await.unwrap();
        other.await.unwrap();

        let made = tokens.mint(instance(), MINUTE).unwrap();
        tokens.check(&made.token).unwrap().ended().await;
        assert!(tokens.check(&made.token).is_none());
    }

    #[test]
    fn no_other_text_is_a_token() {
        let tokens = ConsoleTokens::default();
        let made = tokens.mint(instance(), MINUTE).unwrap();
        let other = tokens.mint(instance(), MINUTE).unwrap();
        let (id, secret) = made.token.split_once('.').unwrap();
        let swapped = format!("{}.{secret}", other.id);
        let shorter = made.token[..made.token.len() - 1].to_owned();
        let longer = format!("{}0", made.token);
        for text in ["", ".", id, secret, &swapped, &shorter, &longer, &format!("{id}.")] {
            assert!(tokens.check(text).is_none(), "{text:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_no_more_than_there_is_room_for() {
        let tokens = ConsoleTokens::default();
        for _ in 0..MAX_TOKENS {
            tokens.mint(instance(), MINUTE).unwrap();
        }
        assert!(tokens.mint(instance(), MINUTE).is_err());
        tokio::time::advance(MINUTE).await;
        assert!(tokens.mint(instance(), MINUTE).is_ok());
    }
}
