//! Create, the same for every kind: once per token, adopting what a dead client left.

use sha2::{Digest as _, Sha256};
use weft_model::{Claim, ContentHash, Problem, Reason, Record};
use weft_proto::convert::Creation;
use weft_store::Txn;

use crate::context::Context;
use crate::repo::{Kind, RecordOf, decode, encode, object_key};
use crate::turns::Turn;

/// What a Create with a token made; kept for retries.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct TokenRecord {
    kind: String,
    id: String,
    content: ContentHash,
    pub(crate) at: weft_model::Timestamp,
}

pub(crate) const TOKENS: &str = "tokens/";

/// A key for a client's token: any bytes, so in hexadecimal.
fn token_key(token: &str) -> String {
    format!("{TOKENS}{}", hex::encode(token))
}

/// The hash of a Create's content: kind, specification, tags and client data.
pub(crate) fn content_hash<K: Kind>(spec: &[u8], creation: &Creation) -> ContentHash {
    let mut hash = Sha256::new();
    let tags = encode(&creation.tags);
    for part in [K::NAME.as_bytes(), spec, &tags, creation.client_data.as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    ContentHash(hex::encode(hash.finalize()))
}

/// What became of a Create.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// An earlier Create with the same token or content made it.
    Known(T),
    /// It has to be made.
    New(Novelty),
}

/// How often a Create is tried again because something that it refers to was changed meanwhile.
pub(crate) const CREATE_RETRIES: usize = 20;

/// The content of something new, and the turn to make it: a retry that comes meanwhile waits, and
/// then finds what was made.
#[derive(Debug)]
pub(crate) struct Novelty {
    content: ContentHash,
    _turn: Turn,
}

impl Context {
    /// Looks for what this Create has made before: by its token, or, where its maker's session is
    /// dead, by its content.
    ///
    /// # Errors
    /// [`Reason::AlreadyExists`] where the token was used for something else.
    pub(crate) async fn known<K: Kind>(
        &self,
        spec: &[u8],
        creation: &Creation,
    ) -> Result<Outcome<RecordOf<K>>, Problem> {
        let content = content_hash::<K>(spec, creation);
        let key = token_key(&creation.client_token);
        let turn = self.turns().take(&key).await;
        if let Some(token) = self.repo.read::<TokenRecord>(&key).await? {
            let token = token.value;
            if token.kind != K::NAME || token.content != content {
                return Err(Problem::new(
                    Reason::AlreadyExists,
                    "the client token was used before with other content",
                )
                .at("context.client_token")
                .remedy("use a new token for a new object"));
            }
            let id = token.id.parse().map_err(|error: weft_model::InvalidId| {
                Problem::new(Reason::Internal, error.to_string())
            })?;
            return Ok(Outcome::Known(self.repo.get::<K>(&id).await?.value));
        }
        match self.adopt::<K>(&content, creation).await? {
            Some(record) => Ok(Outcome::Known(record)),
            None => Ok(Outcome::New(Novelty { content, _turn: turn })),
        }
    }

    /// Takes over at most one unclaimed object with this content whose session is dead.
    async fn adopt<K: Kind>(
        &self,
        content: &ContentHash,
        creation: &Creation,
    ) -> Result<Option<RecordOf<K>>, Problem> {
        let prefix = format!("{}{}/", crate::repo::OBJECTS, K::NAME);
        let orphans: Vec<String> = self
            .cache
            .read()
            .unclaimed
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter(|(_, claim)| match claim {
                Claim::Unclaimed { session, content: of } => {
                    of == content && !self.sessions.is_alive(session)
                }
                Claim::Claimed => false,
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in orphans {
            let Some(item) =
                self.repo.store().get(&key).await.map_err(crate::repo::store_problem)?
            else {
                continue;
            };
            let mut record: RecordOf<K> = decode(&key, &item.value)?;
            let still_orphaned = matches!(&record.claim, Claim::Unclaimed { session, content: of }
                if of == content && !self.sessions.is_alive(session));
            if record.deleting_since.is_some() || !still_orphaned {
                continue;
            }
            record.claim = claim_of(creation, content);
            let txn = Txn::new().when_at(&key, item.mod_revision).put(&key, encode(&record)).put(
                token_key(&creation.client_token),
                encode(&self.token_record::<K>(&record.id, content)),
            );
            // Who loses the race looks at the next one.
            if self.repo.try_commit(txn).await?.is_ok() {
                tracing::info!(kind = K::NAME, id = %record.id, "adopted what a dead session had made");
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn token_record<K: Kind>(&self, id: &K::Id, content: &ContentHash) -> TokenRecord {
        TokenRecord {
            kind: K::NAME.to_owned(),
            id: id.to_string(),
            content: content.clone(),
            at: self.clock.now(),
        }
    }

    /// A record for a new object.
    pub(crate) fn new_record<K: Kind>(
        &self,
        id: K::Id,
        spec: K::Spec,
        creation: &Creation,
        novelty: &Novelty,
    ) -> RecordOf<K> {
        Record {
            id,
            generation: 1,
            spec,
            tags: creation.tags.clone(),
            client_data: creation.client_data.clone(),
            created_at: self.clock.now(),
            deleting_since: None,
            claim: claim_of(creation, &novelty.content),
        }
    }

    /// Stores a new object and its token, with what `txn` already holds.
    ///
    /// # Errors
    /// [`Reason::StaleGeneration`] where one of the transaction's conditions did not hold.
    pub(crate) async fn store_new<K: Kind>(
        &self,
        record: &RecordOf<K>,
        creation: &Creation,
        novelty: &Novelty,
        txn: Txn,
    ) -> Result<(), Problem> {
        let (key, token) = (object_key::<K>(&record.id), token_key(&creation.client_token));
        let txn = txn
            .when_absent(&key)
            .when_absent(&token)
            .put(key, encode(record))
            .put(token, encode(&self.token_record::<K>(&record.id, &novelty.content)));
        let revision = self.repo.commit(txn).await?;
        tracing::info!(kind = K::NAME, id = %record.id, "created");
        self.cache.reached(revision).await;
        Ok(())
    }
}

fn claim_of(creation: &Creation, content: &ContentHash) -> Claim {
    match &creation.session {
        Some(session) => Claim::Unclaimed { session: session.clone(), content: content.clone() },
        None => Claim::Claimed,
    }
}
