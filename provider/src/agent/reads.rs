//! Reads that come at the same time become one BatchGet of each kind.
//!
//! Terraform refreshes every resource with a call of its own; a thousand of them are five requests.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use weft_model::{Problem, Reason};
use weft_proto::v1;

use super::Connection;
use crate::kind::Kind;
use crate::kind::wire::Wire;

/// How long the first read waits for company: what Terraform asks at once comes within it, and a
/// thousand resources, ten at a time, do not wait for long in all.
const WINDOW: Duration = Duration::from_millis(2);
/// Ids in one request: as many instances with the largest user data fit into one message.
const BATCH: usize = 200;

/// One queue for each kind.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    pub(crate) images: Queue<v1::Image>,
    pub(crate) key_pairs: Queue<v1::KeyPair>,
    pub(crate) types: Queue<v1::InstanceType>,
    pub(crate) groups: Queue<v1::SecurityGroup>,
    pub(crate) rules: Queue<v1::SecurityGroupRule>,
    pub(crate) vpcs: Queue<v1::Vpc>,
    pub(crate) subnets: Queue<v1::Subnet>,
    pub(crate) interfaces: Queue<v1::NetworkInterface>,
    pub(crate) attachments: Queue<v1::NetworkInterfaceAttachment>,
    pub(crate) prefix_lists: Queue<v1::PrefixList>,
    pub(crate) elastic_ips: Queue<v1::ElasticIp>,
    pub(crate) associations: Queue<v1::ElasticIpAssociation>,
    pub(crate) port_forwards: Queue<v1::PortForward>,
    pub(crate) route_tables: Queue<v1::RouteTable>,
    pub(crate) route_table_associations: Queue<v1::RouteTableAssociation>,
    pub(crate) volumes: Queue<v1::Volume>,
    pub(crate) volume_attachments: Queue<v1::VolumeAttachment>,
    pub(crate) snapshots: Queue<v1::Snapshot>,
    pub(crate) instances: Queue<v1::Instance>,
}

type Answer<W> = Result<Option<W>, Problem>;
/// By claim, then by id.
type Waiting<W> = BTreeMap<Claim, BTreeMap<String, Vec<oneshot::Sender<Answer<W>>>>>;

/// Whether the reader has the object in its state, which the agent wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// Only looking, or not in the state yet.
    No,
    Yes,
}

/// Reads of one kind that are waiting.
#[derive(Debug)]
pub(crate) struct Queue<W>(std::sync::Mutex<Waiting<W>>);

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self(std::sync::Mutex::default())
    }
}

impl<W> Queue<W> {
    fn with<T>(&self, act: impl FnOnce(&mut Waiting<W>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The object called `id` as the agent has it now; `None` where it does not exist.
pub(crate) async fn read<K: Kind>(
    connection: &Arc<Connection>,
    id: &str,
    claim: Claim,
) -> Answer<K::Wire> {
    let (sender, answer) = oneshot::channel();
    let is_first = K::Wire::queue(&connection.reads).with(|waiting| {
        let is_first = waiting.is_empty();
        let by_id = waiting.entry(claim).or_default();
        by_id.entry(id.to_owned()).or_default().push(sender);
        is_first
    });
    if is_first {
        // A task of its own: the first reader may be cancelled, the others still want an answer.
        tokio::spawn(answer_all::<K>(connection.clone()));
    }
    answer.await.unwrap_or_else(|_| Err(Problem::new(Reason::Internal, "a read was dropped")))
}

async fn answer_all<K: Kind>(connection: Arc<Connection>) {
    tokio::time::sleep(WINDOW).await;
    for (claim, mut waiting) in K::Wire::queue(&connection.reads).with(std::mem::take) {
        while !waiting.is_empty() {
            let rest = waiting.keys().nth(BATCH).cloned().map(|key| waiting.split_off(&key));
            let ids: Vec<String> = waiting.keys().cloned().collect();
            let request = v1::BatchGetRequest { ids, claim: claim == Claim::Yes };
            let found =
                connection.call(|channel| K::Wire::batch_get(channel, request.clone())).await;
            match found {
                Ok(items) => {
                    for item in items {
                        let id = item.metadata().map(|metadata| metadata.id.clone());
                        let readers = id.and_then(|id| waiting.remove(&id)).unwrap_or_default();
                        answer(readers, &Ok(Some(item)));
                    }
                    answer(waiting.into_values().flatten(), &Ok(None));
                }
                Err(problem) => answer(waiting.into_values().flatten(), &Err(problem)),
            }
            waiting = rest.unwrap_or_default();
        }
    }
}

fn answer<W: Clone>(
    readers: impl IntoIterator<Item = oneshot::Sender<Answer<W>>>,
    answer: &Answer<W>,
) {
    for reader in readers {
        // A reader that was cancelled does not listen any more.
        let _ = reader.send(answer.clone());
    }
}
