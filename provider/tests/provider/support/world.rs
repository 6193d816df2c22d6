//! What the fake agent has.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

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
    pub(crate) types: Objects<v1::InstanceType>,
    pub(crate) groups: Objects<v1::SecurityGroup>,
    pub(crate) rules: Objects<v1::SecurityGroupRule>,
    pub(crate) vpcs: Objects<v1::Vpc>,
    pub(crate) subnets: Objects<v1::Subnet>,
    pub(crate) interfaces: Objects<v1::NetworkInterface>,
    pub(crate) attachments: Objects<v1::NetworkInterfaceAttachment>,
    pub(crate) prefix_lists: Objects<v1::PrefixList>,
    pub(crate) snapshots: Objects<v1::Snapshot>,
    /// What the host says of its root key; at first nothing, as older agents.
    pub(crate) encrypts_volumes: Option<bool>,
    /// Who is told of changes.
    pub(super) watchers: Vec<super::watch::Watcher>,
    pub(super) revision: i64,
    /// The next watches end at once.
    pub(crate) watches_break: u32,
    /// Why the next snapshots cannot be made.
    pub(crate) snapshots_fail: Option<String>,
    pub(crate) elastic_ips: Objects<v1::ElasticIp>,
    pub(crate) associations: Objects<v1::ElasticIpAssociation>,
    pub(crate) port_forwards: Objects<v1::PortForward>,
    pub(crate) route_tables: Objects<v1::RouteTable>,
    pub(crate) route_table_associations: Objects<v1::RouteTableAssociation>,
    pub(crate) volumes: Objects<v1::Volume>,
    pub(crate) volume_attachments: Objects<v1::VolumeAttachment>,
    pub(crate) instances: Objects<v1::Instance>,
    /// Id by client token.
    tokens: HashMap<String, String>,
    /// "Instances.Create", in order.
    pub(crate) calls: Vec<&'static str>,
    /// What the sessions did: "open", "again" (another stream of the same one), "end", "broken".
    pub(crate) sessions: Vec<&'static str>,
    /// The sessions that are alive, each with the number of its newest stream. An agent that is
    /// restarted knows none.
    pub(crate) alive: BTreeMap<String, u64>,
    /// A session is opened and forgotten.
    pub(crate) sessions_die_at_once: bool,
    /// The session ids that Creates came with.
    pub(crate) created_in: Vec<String>,
    /// The answer of the next waits.
    pub(crate) wait_fails: Option<Problem>,
    /// Waits never end.
    pub(crate) wait_hangs: bool,
    /// The blobs whose uploads were begun, in order.
    pub(crate) begun: Vec<String>,
    /// The next upload breaks after so many bytes.
    pub(crate) upload_breaks_after: Option<usize>,
    /// What another run sends of the same file when the next upload begins.
    pub(crate) other_run_sends: Option<Vec<u8>>,
    /// Every upload is told to go on elsewhere.
    pub(crate) uploads_go_on_elsewhere: bool,
    /// What the agent finds at URLs.
    pub(crate) remote: BTreeMap<String, Vec<u8>>,
    /// The next fetches break off in the middle.
    pub(crate) fetches_break: u32,
    /// The next captures break off at once.
    pub(crate) captures_break: u32,
    /// Why nothing can be captured.
    pub(crate) captures_fail: Option<Problem>,
    /// Fetches never end.
    pub(crate) fetch_hangs: bool,
    /// BeginUpload takes so long.
    pub(crate) begin_takes: Duration,
    /// The next update is made, and its answer is lost.
    pub(crate) lose_next_answer: bool,
    /// So many answers in a row say that it cannot be done just now.
    pub(crate) not_now: u32,
    /// So many deletes in a row lose a race.
    pub(crate) stale_deletes: u32,
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
        self.has_time()?;
        let context = weft_proto::convert::creation_from_wire(context).map_err(refused)?;
        let session = context.session.map(|id| id.to_string()).unwrap_or_default();
        if !session.is_empty() && !self.alive.contains_key(&session) {
            let message = format!("{session} is not alive");
            let problem = Problem::new(Reason::FailedPrecondition, message);
            return Err(refused(problem.at("context.session_id")));
        }
        self.created_in.push(session);
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

    /// Opens a session, or takes it over; its id, and the number of the stream.
    pub(crate) fn open_session(&mut self, wanted: String) -> (String, u64) {
        self.sessions.push(if wanted.is_empty() { "open" } else { "again" });
        let id = if wanted.is_empty() { self.new_id("session-") } else { wanted };
        let stream = self.sessions.len() as u64;
        if !self.sessions_die_at_once {
            self.alive.insert(id.clone(), stream);
        }
        (id, stream)
    }

    /// The stream has ended; the session with it, unless another stream has taken over.
    pub(crate) fn close_session(&mut self, id: &str, stream: u64, ended: bool) {
        if self.alive.get(id) == Some(&stream) {
            self.alive.remove(id);
            self.sessions.push(if ended { "end" } else { "broken" });
        }
    }

    /// What the agent says as long as it cannot do what is asked.
    pub(crate) fn has_time(&mut self) -> Result<(), Status> {
        match self.not_now.checked_sub(1) {
            None => Ok(()),
            Some(left) => {
                self.not_now = left;
                Err(refused(Problem::new(Reason::Unavailable, "the agent's store failed")))
            }
        }
    }

    /// What becomes of a delete before the object is looked for.
    pub(crate) fn begin_delete(&mut self, call: &'static str) -> Result<(), Status> {
        self.calls.push(call);
        match self.stale_deletes.checked_sub(1) {
            None => Ok(()),
            Some(left) => {
                self.stale_deletes = left;
                let message = "it was changed at the same moment";
                Err(refused(Problem::new(Reason::StaleGeneration, message)))
            }
        }
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

/// Those of `objects` that a List asks for.
pub(crate) fn named<W: Clone>(
    objects: &Objects<W>,
    request: &v1::ListRequest,
    name: impl Fn(&W) -> Option<&str>,
) -> Vec<W> {
    let fits = |one: &&W| request.name.is_empty() || name(one) == Some(&request.name);
    objects.values().filter(fits).cloned().collect()
}
