//! What the fake agent has.

use std::collections::{BTreeMap, HashMap};

use tonic::Status;
use weft_model::{Problem, Reason};
use weft_proto::{status_from_problem, v1};

pub(crate) type Objects<W> = BTreeMap<String, W>;

#[derive(Default)]
pub(crate) struct World {
    next: u64,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) images: Objects<v1::Image>,
    pub(crate) key_pairs: Objects<v1::KeyPair>,
    pub(crate) groups: Objects<v1::SecurityGroup>,
    pub(crate) rules: Objects<v1::SecurityGroupRule>,
    pub(crate) instances: Objects<v1::Instance>,
    /// Id by client token.
    tokens: HashMap<String, String>,
    /// "Instances.Create", in order.
    pub(crate) calls: Vec<&'static str>,
    /// What the sessions did: "open", "end", "broken".
    pub(crate) sessions: Vec<&'static str>,
    /// The session ids that Creates came with.
    pub(crate) created_in: Vec<String>,
    /// The answer of the next waits.
    pub(crate) wait_fails: Option<Problem>,
    /// Waits never end.
    pub(crate) wait_hangs: bool,
    /// The next upload breaks after so many bytes.
    pub(crate) upload_breaks_after: Option<usize>,
    /// The next update is made, and its answer is lost.
    pub(crate) lose_next_answer: bool,
}

impl World {
    pub(crate) fn new_id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{:017x}", self.next)
    }

    /// Metadata of a new object, or the id of the one that this token has made already.
    pub(crate) fn begin_create(
        &mut self,
        call: &'static str,
        prefix: &str,
        context: Option<v1::CreateContext>,
    ) -> Result<Result<v1::Metadata, String>, Status> {
        self.calls.push(call);
        let context = weft_proto::convert::creation_from_wire(context).map_err(refused)?;
        self.created_in.push(context.session.map(|id| id.to_string()).unwrap_or_default());
        if let Some(id) = self.tokens.get(&context.client_token) {
            return Ok(Err(id.clone()));
        }
        let id = self.new_id(prefix);
        self.tokens.insert(context.client_token, id.clone());
        Ok(Ok(v1::Metadata {
            id,
            generation: 1,
            tags: context.tags.into_map().into_iter().collect(),
            client_data: context.client_data,
            created_at_unix_ms: 1_700_000_000_000 + i64::try_from(self.next).unwrap(),
            deleting_since_unix_ms: None,
            claimed: false,
        }))
    }

    /// Whether the answer of this update gets lost.
    pub(crate) fn loses_answer(&mut self) -> Result<(), Status> {
        match std::mem::take(&mut self.lose_next_answer) {
            true => Err(Status::unavailable("the connection broke")),
            false => Ok(()),
        }
    }
}

/// Takes over an update's context.
pub(crate) fn begin_update(
    metadata: &mut v1::Metadata,
    context: &v1::UpdateContext,
) -> Result<(), Status> {
    if ![0, metadata.generation].contains(&context.expected_generation) {
        let message = format!(
            "{} has generation {}, not {}",
            metadata.id, metadata.generation, context.expected_generation
        );
        return Err(refused(Problem::new(Reason::StaleGeneration, message)));
    }
    metadata.generation += 1;
    metadata.tags = context.tags.clone();
    metadata.client_data = context.client_data.clone();
    Ok(())
}

pub(crate) fn refused(problem: Problem) -> Status {
    status_from_problem(&problem)
}

pub(crate) fn missing(id: &str) -> Status {
    refused(Problem::not_found(format!("{id} does not exist")))
}

pub(crate) fn get<W: Clone>(objects: &Objects<W>, id: &str) -> Result<W, Status> {
    objects.get(id).cloned().ok_or_else(|| missing(id))
}

pub(crate) fn batch<W: Clone>(objects: &Objects<W>, ids: &[String]) -> Vec<W> {
    ids.iter().filter_map(|id| objects.get(id).cloned()).collect()
}
