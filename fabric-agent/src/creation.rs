//! Create, the same for every kind: once per token, adopting what a dead client left.

use sha2::{Digest as _, Sha256};
use weft_model::{Claim, ContentHash, Problem, Reason, Record};
use weft_proto::convert::Creation;
use weft_store::Txn;

use crate::context::Context;
use crate::random;
use crate::repo::{Kind, RecordOf, decode, encode, object_key, store_problem, token_key};
use crate::turns::Turn;

/// What a Create with a token made; kept for retries.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct TokenRecord {
    kind: String,
    id: String,
    content: ContentHash,
    pub(crate) at: weft_model::Timestamp,
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
        self.known_where::<K>(spec, creation, |_| true).await
    }

    /// The same, where not everything that a dead session left can be taken over.
    ///
    /// # Errors
    /// As [`Self::known`].
    pub(crate) async fn known_where<K: Kind>(
        &self,
        spec: &[u8],
        creation: &Creation,
        adoptable: impl Fn(&K::Spec) -> bool,
    ) -> Result<Outcome<RecordOf<K>>, Problem> {
        if let Some(session) = creation.session.as_ref().filter(|id| !self.sessions.is_alive(id)) {
            let message = format!("session {session} is not open");
            return Err(Problem::new(Reason::FailedPrecondition, message)
                .at("context.session_id")
                .remedy("open it again with Sessions.Open and its id, then repeat the request"));
        }
        let content = content_hash::<K>(spec, creation);
        let key = token_key(&creation.client_token);
        let turn = self.turns().creation(&key).await;
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
            return self.known_by_token::<K>(&id, creation, &content).await.map(Outcome::Known);
        }
        match self.adopt::<K>(&content, creation, adoptable).await? {
            Some(record) => Ok(Outcome::Known(record)),
            None => Ok(Outcome::New(Novelty { content, _turn: turn })),
        }
    }

    /// What an earlier try of this Create made, in the session of this one.
    async fn known_by_token<K: Kind>(
        &self,
        id: &K::Id,
        creation: &Creation,
        content: &ContentHash,
    ) -> Result<RecordOf<K>, Problem> {
        let _turn = self.turns().object(&id.to_string()).await;
        let mut stored = self.repo.get::<K>(id).await?;
        let claim = claim_of(creation, content);
        if stored.value.claim == Claim::Claimed || stored.value.claim == claim {
            return Ok(stored.value);
        }
        stored.value.claim = claim;
        let key = object_key::<K>(id);
        let txn = Txn::new().when_at(&key, stored.revision).put(key, encode(&stored.value));
        let revision = self.repo.commit(txn).await?;
        self.cache.reached(revision).await;
        Ok(stored.value)
    }

    /// The keys of unclaimed objects with this content whose session is dead.
    fn orphans<K: Kind>(&self, content: &ContentHash) -> Vec<String> {
        let prefix = format!("{}{}/", crate::repo::OBJECTS, K::NAME);
        let world = self.cache.read();
        let of_kind = world.unclaimed.range(prefix.clone()..);
        let of_kind = of_kind.take_while(|(key, _)| key.starts_with(&prefix));
        let is_orphan = |claim: &Claim| match claim {
            Claim::Unclaimed { session, content: of, .. } => {
                of == content && !self.sessions.is_alive(session)
            }
            Claim::Claimed => false,
        };
        of_kind.filter(|(_, claim)| is_orphan(claim)).map(|(key, _)| key.clone()).collect()
    }

    /// The unclaimed objects with the content of `novelty` whose session is dead: what was made
    /// instead of them takes their place.
    pub(crate) fn superseded<K: Kind>(&self, novelty: &Novelty) -> Vec<K::Id> {
        let orphans = self.orphans::<K>(&novelty.content);
        let id = |key: &String| key.rsplit_once('/').and_then(|(_, id)| id.parse().ok());
        orphans.iter().filter_map(id).collect()
    }

    /// Takes over at most one unclaimed object with this content whose session is dead.
    async fn adopt<K: Kind>(
        &self,
        content: &ContentHash,
        creation: &Creation,
        adoptable: impl Fn(&K::Spec) -> bool,
    ) -> Result<Option<RecordOf<K>>, Problem> {
        let orphans = self.orphans::<K>(content);
        for key in orphans {
            let Some(item) =
                self.repo.store().get(&key).await.map_err(crate::repo::store_problem)?
            else {
                continue;
            };
            let mut record: RecordOf<K> = decode(&key, &item.value)?;
            let former_token = match &record.claim {
                Claim::Unclaimed { session, content: of, token_key }
                    if of == content && !self.sessions.is_alive(session) =>
                {
                    token_key.clone()
                }
                _ => continue,
            };
            if record.deleting_since.is_some() || !adoptable(&record.spec) {
                continue;
            }
            record.claim = claim_of(creation, content);
            // A late retry of the dead client's Create must not find what is somebody else's now.
            let txn = Txn::new()
                .when_at(&key, item.mod_revision)
                .put(&key, encode(&record))
                .delete(former_token)
                .put(
                    token_key(&creation.client_token),
                    encode(&self.token_record::<K>(&record.id, content)),
                );
            // Who loses the race looks at the next one.
            if let Ok(revision) = self.repo.try_commit(txn).await? {
                self.cache.reached(revision).await;
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

    /// Makes something whose name only one of its kind may have; `key` stands for the name in the
    /// store until the object is removed.
    ///
    /// # Errors
    /// `taken` where another one has the name; the store's.
    pub(crate) async fn make_named<K: Kind>(
        &self,
        key: &str,
        taken: Problem,
        spec: K::Spec,
        creation: &Creation,
        novelty: &Novelty,
    ) -> Result<RecordOf<K>, Problem> {
        if self.repo.store().get(key).await.map_err(store_problem)?.is_some() {
            return Err(taken);
        }
        let id = K::new_id(random::bytes(), &spec);
        let txn = Txn::new().when_absent(key).put(key, id.to_string());
        let record = self.new_record::<K>(id, spec, creation, novelty);
        match self.store_new::<K>(&record, creation, novelty, txn).await {
            Err(problem) if problem.reason == Reason::StaleGeneration => Err(taken),
            other => other.map(|()| record),
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
            .keeping_reserve()
            .when_absent(&key)
            .when_absent(&token)
            .put(key, encode(record))
            .put(token, encode(&self.token_record::<K>(&record.id, &novelty.content)));
        let revision = self.reconciler.metering.keep(record, txn).await?;
        tracing::info!(kind = K::NAME, id = %record.id, "created");
        self.cache.reached(revision).await;
        Ok(())
    }
}

fn claim_of(creation: &Creation, content: &ContentHash) -> Claim {
    match &creation.session {
        Some(session) => Claim::Unclaimed {
            session: session.clone(),
            content: content.clone(),
            token_key: token_key(&creation.client_token),
        },
        None => Claim::Claimed,
    }
}
