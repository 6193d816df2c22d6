//! Tokens for the console of one instance, for people and programs without a certificate.
//!
//! They live for minutes and in memory only; of the secret there is its SHA-256. What is attached with a
//! token ends with it, by time or because it was revoked.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use weft_model::{InstanceId, Problem, Reason};

use crate::quiet::Quiet;
use crate::random;

/// How long one may live before it is renewed, in seconds.
pub(crate) const LIFETIME_SECONDS: RangeInclusive<u32> = 60..=3600;
/// How many there may be at a time.
const MAX_TOKENS: usize = 1024;

/// How many consoles may be attached with one token, and with all tokens of an instance: a console has 16
/// places (`hypervisor/src/holder/console.rs`), and who has a certificate finds one.
const MAX_ATTACHED: usize = 4;
const MAX_ATTACHED_TO_ONE: usize = 12;

/// The tokens that are alive, by their id.
#[derive(Debug, Default)]
pub(crate) struct ConsoleTokens(Mutex<BTreeMap<String, Held>>);

#[derive(Debug)]
struct Held {
    digest: [u8; 32],
    instance: InstanceId,
    /// When it ends; dropped when it has ended or is revoked.
    ends: watch::Sender<Instant>,
    attached: Arc<AtomicUsize>,
    quiet: Arc<Quiet>,
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
    /// What is said of who has it.
    pub(crate) quiet: Arc<Quiet>,
    ends: watch::Receiver<Instant>,
    attached: Arc<AtomicUsize>,
}

/// A console that is attached with a token, counted for as long as this is there.
#[derive(Debug)]
pub(crate) struct Attached(Arc<AtomicUsize>);

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Grant {
    /// Returns when the token has ended, with what to tell who has it.
    pub(crate) async fn ended(mut self) -> Problem {
        let ended = |message| {
            Problem::new(Reason::FailedPrecondition, message).remedy(
                "get another token from where this one came (WEFT_CONSOLE_TOKEN or --token-file)",
            )
        };
        loop {
            let at = *self.ends.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(at) => {
                    // It may have been renewed in this moment.
                    if *self.ends.borrow() <= Instant::now() {
                        return ended("the console token has ended, and what was attached with it");
                    }
                }
                changed = self.ends.changed() => {
                    if changed.is_err() {
                        return ended("the console token was revoked: what was attached with it ends");
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
            Held {
                digest,
                instance,
                ends: watch::Sender::new(now + lifetime),
                attached: Arc::default(),
                quiet: Arc::default(),
            },
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
        is_alive.then(|| Grant {
            id: id.to_owned(),
            instance: held.instance.clone(),
            quiet: Arc::clone(&held.quiet),
            ends,
            attached: Arc::clone(&held.attached),
        })
    }

    /// One more console that is attached.
    ///
    /// # Errors
    /// [`Reason::ResourceExhausted`] where as many are as may be, with this token or of its instance.
    pub(crate) fn attach(&self, grant: &Grant) -> Result<Attached, Problem> {
        let tokens = self.lock();
        let of_one = tokens.values().filter(|held| held.instance == grant.instance);
        let of_one: usize = of_one.map(|held| held.attached.load(Ordering::Relaxed)).sum();
        let refuse = |message: String| {
            Problem::new(Reason::ResourceExhausted, message)
                .remedy("detach one (Ctrl-] in weft console), then try again")
        };
        if grant.attached.load(Ordering::Relaxed) >= MAX_ATTACHED {
            let what = "consoles are attached with this console token already";
            return Err(refuse(format!("{MAX_ATTACHED} {what}")));
        }
        if of_one >= MAX_ATTACHED_TO_ONE {
            let what = "consoles of the instance are attached with console tokens already";
            return Err(refuse(format!("{of_one} {what}")));
        }
        grant.attached.fetch_add(1, Ordering::Relaxed);
        Ok(Attached(Arc::clone(&grant.attached)))
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
        for one in [attached, other] {
            let told = one.await.unwrap().message;
            assert!(told.starts_with("the console token was revoked"), "{told}");
        }

        let made = tokens.mint(instance(), MINUTE).unwrap();
        let told = tokens.check(&made.token).unwrap().ended().await.message;
        assert!(told.starts_with("the console token has ended"), "{told}");
        assert!(tokens.check(&made.token).is_none());
    }

    #[test]
    fn holders_leave_room_at_a_console_for_others() {
        let tokens = ConsoleTokens::default();
        let minted = |_| tokens.mint(instance(), MINUTE).unwrap();
        let grants: Vec<Grant> =
            (0..4).map(minted).map(|made| tokens.check(&made.token).unwrap()).collect();
        let mut attached = Vec::new();
        for grant in &grants[..3] {
            attached.extend((0..4).map(|_| tokens.attach(grant).unwrap()));
            let problem = tokens.attach(grant).unwrap_err();
            assert_eq!(problem.reason, Reason::ResourceExhausted);
            assert!(problem.message.starts_with("4 consoles are attached with this"), "{problem}");
        }
        let problem = tokens.attach(&grants[3]).unwrap_err();
        assert!(problem.message.starts_with("12 consoles of the instance"), "{problem}");
        attached.pop();
        tokens.attach(&grants[2]).unwrap();
        // Those of another instance are counted for themselves.
        let other = tokens.mint(InstanceId::from_random([8; 9]), MINUTE).unwrap();
        tokens.attach(&tokens.check(&other.token).unwrap()).unwrap();
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
