//! An agent on a unix socket with three instances and a guest that behaves by its port.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};
use weft_model::{Problem, Reason};
use weft_proto::{status_from_problem, v1};

use super::ssh_server;

/// A guest that sends back what it gets until the client has no more.
pub(crate) const ECHO: u16 = 7;
/// A guest that says how many bytes it got once the client has no more.
pub(crate) const COUNT: u16 = 8;
/// A guest that says "bye", ends its side, and goes on reading.
pub(crate) const SAY_BYE_FIRST: u16 = 9;
/// A guest that hangs up on both sides at once.
pub(crate) const HANG_UP: u16 = 10;
/// An SSH server.
pub(crate) const SSH: u16 = 22;

pub(crate) const WEB: &str = "i-11111111111111111";
pub(crate) const TWIN: &str = "i-22222222222222222";
pub(crate) const STOPPED: &str = "i-33333333333333333";

/// What every display shows.
pub(crate) const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n and so on";

type Answer<T> = Result<Response<T>, Status>;
type Chunks = Pin<Box<dyn Stream<Item = Result<v1::ByteChunk, Status>> + Send>>;

/// What the tests look at afterwards.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Bytes that a [`SAY_BYE_FIRST`] guest got.
    pub(crate) after_bye: AtomicUsize,
    /// Ids and verbs, in order.
    pub(crate) calls: Mutex<Vec<String>>,
}

/// A running agent; it ends with this value.
#[derive(Debug)]
pub(crate) struct FakeAgent {
    pub(crate) seen: Arc<Seen>,
    directory: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl FakeAgent {
    /// Starts one that tells clients `host_key` is the guests'.
    pub(crate) fn start(host_key: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let seen = Arc::new(Seen::default());
        let service = Service { seen: Arc::clone(&seen), host_key: host_key.to_owned() };
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(directory.path().join("agent.sock")).unwrap()
        };
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(weft_proto::version::Handshake::service("0.1.0"))
                .add_service(v1::instances_server::InstancesServer::new(service.clone()))
                .add_service(v1::hosts_server::HostsServer::new(service))
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        Self { seen, directory, _runtime: runtime }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }
}

#[derive(Clone)]
struct Service {
    seen: Arc<Seen>,
    host_key: String,
}

impl Service {
    fn instance(&self, id: &str, name: &str, state: &str) -> v1::Instance {
        v1::Instance {
            metadata: Some(v1::Metadata {
                id: id.to_owned(),
                generation: 1,
                created_at_unix_ms: 1_700_000_000_000,
                claimed: id != STOPPED,
                tags: [("role".to_owned(), name.to_owned()), ("fleet".to_owned(), "a".to_owned())]
                    .into(),
                ..Default::default()
            }),
            spec: Some(v1::InstanceSpec {
                name: Some(name.to_owned()),
                image_id: "img-00000000000000000".to_owned(),
                instance_type: Some("w1.small".to_owned()),
                private_ip: Some("10.0.0.4".to_owned()),
                power_state: Some("running".to_owned()),
                ..Default::default()
            }),
            assigned: Some(v1::InstanceAssigned {
                vcpus: 1,
                memory_mib: 512,
                vpc_id: "vpc-00000000000000000".to_owned(),
                interface_id: "eni-00000000000000000".to_owned(),
                mac_address: "02:00:00:00:00:01".to_owned(),
                ipv6_addresses: Vec::new(),
                host_id: "host-00000000000000000".to_owned(),
                default_user: "weft".to_owned(),
                ssh_host_public_keys: vec![self.host_key.clone()],
                run_epoch: 1,
                root_size_bytes: 1 << 30,
                public_ip: None,
            }),
            status: Some(v1::InstanceStatus { state: state.to_owned(), ..Default::default() }),
        }
    }

    fn all(&self) -> Vec<v1::Instance> {
        vec![
            self.instance(WEB, "web", "running"),
            self.instance(TWIN, "twin", "running"),
            self.instance(STOPPED, "twin", "stopped"),
        ]
    }

    fn find(&self, id: &str) -> Result<v1::Instance, Status> {
        let has_id = |item: &v1::Instance| item.metadata.as_ref().is_some_and(|m| m.id == id);
        self.all().into_iter().find(has_id).ok_or_else(|| {
            let problem = Problem::not_found(format!("instance {id} does not exist"))
                .at("id")
                .evidence("deleted an hour ago\nby nobody")
                .remedy("see weft ls");
            status_from_problem(&problem)
        })
    }

    fn note(&self, verb: &str, id: &str) {
        self.seen.calls.lock().unwrap().push(format!("{verb} {id}"));
    }

    /// All but [`TWIN`] have one.
    fn with_display(&self, id: &str) -> Result<(), Status> {
        self.find(id)?;
        if id != TWIN {
            return Ok(());
        }
        let message = format!("instance {id} has no display");
        let problem =
            Problem::new(Reason::FailedPrecondition, message).remedy("set display = true");
        Err(status_from_problem(&problem))
    }

    /// The guest's end of a connection to `port`.
    fn connect(&self, port: u16) -> Result<DuplexStream, Status> {
        let (agent_side, guest_side) = tokio::io::duplex(64 * 1024);
        let seen = Arc::clone(&self.seen);
        match port {
            SSH => drop(tokio::spawn(ssh_server::serve(guest_side))),
            ECHO | COUNT | SAY_BYE_FIRST | HANG_UP => {
                drop(tokio::spawn(guest(port, guest_side, seen)));
            }
            _ => {
                let problem = Problem::new(
                    Reason::FailedPrecondition,
                    format!("nobody listens on port {port} of the guest"),
                );
                return Err(status_from_problem(&problem));
            }
        }
        Ok(agent_side)
    }
}

async fn guest(port: u16, stream: DuplexStream, seen: Arc<Seen>) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    match port {
        ECHO => {
            tokio::io::copy(&mut reader, &mut writer).await?;
            writer.shutdown().await
        }
        COUNT => {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).await?;
            writer.write_all(all.len().to_string().as_bytes()).await?;
            writer.shutdown().await
        }
        SAY_BYE_FIRST => {
            writer.write_all(b"bye").await?;
            writer.shutdown().await?;
            let mut all = Vec::new();
            reader.read_to_end(&mut all).await?;
            seen.after_bye.store(all.len(), Ordering::SeqCst);
            Ok(())
        }
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl v1::instances_server::Instances for Service {
    async fn get(&self, request: Request<v1::GetRequest>) -> Answer<v1::Instance> {
        self.find(&request.into_inner().id).map(Response::new)
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Answer<v1::InstanceList> {
        let v1::ListRequest { name, tags } = request.into_inner();
        let has_name = |item: &v1::Instance| {
            name.is_empty() || item.spec.as_ref().and_then(|s| s.name.as_ref()) == Some(&name)
        };
        let has_tags = |item: &v1::Instance| {
            let own = &item.metadata.as_ref().unwrap().tags;
            tags.iter().all(|(key, value)| own.get(key) == Some(value))
        };
        let matches = |item: &v1::Instance| has_name(item) && has_tags(item);
        let items = self.all().into_iter().filter(matches).collect();
        Ok(Response::new(v1::InstanceList { items }))
    }

    async fn hibernate(&self, request: Request<v1::GetRequest>) -> Answer<v1::Instance> {
        let id = request.into_inner().id;
        self.note("hibernate", &id);
        self.find(&id).map(Response::new)
    }

    async fn reset(&self, request: Request<v1::GetRequest>) -> Answer<v1::Instance> {
        let id = request.into_inner().id;
        self.note("reset", &id);
        self.find(&id).map(Response::new)
    }

    async fn stop(&self, request: Request<v1::StopRequest>) -> Answer<v1::Instance> {
        let v1::StopRequest { id, timeout_seconds, .. } = request.into_inner();
        match timeout_seconds {
            Some(0) => self.note("stop at once", &id),
            Some(_) => self.note("stop in time", &id),
            None => self.note("stop", &id),
        }
        self.find(&id).map(Response::new)
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Answer<v1::DeleteResponse> {
        let id = request.into_inner().id;
        self.note("delete", &id);
        self.find(&id).map(|_| Response::new(v1::DeleteResponse {}))
    }

    type WaitStream = Pin<Box<dyn Stream<Item = Result<v1::WaitEvent, Status>> + Send>>;

    async fn wait(&self, request: Request<v1::WaitRequest>) -> Answer<Self::WaitStream> {
        let v1::WaitRequest { id, until, .. } = request.into_inner();
        let (now, then) = match until {
            Some(v1::wait_request::Until::Stopped(true)) => ("stopping", "stopped"),
            Some(v1::wait_request::Until::Gone(true)) => ("terminating", "gone"),
            other => return Err(Status::invalid_argument(format!("{other:?}"))),
        };
        self.note(&format!("wait {then}"), &id);
        let event = |state: &str, done| {
            Ok(v1::WaitEvent { state: state.to_owned(), phase: String::new(), done })
        };
        let events = [event(now, false), event(then, true)];
        Ok(Response::new(Box::pin(futures::stream::iter(events))))
    }

    async fn console_tail(
        &self,
        request: Request<v1::ConsoleTailRequest>,
    ) -> Answer<v1::ConsoleTailResponse> {
        let text = b"boot\r\nlogin: \xff";
        let most = text.len().min(request.into_inner().max_bytes as usize);
        let data = text[text.len() - most..].to_vec();
        Ok(Response::new(v1::ConsoleTailResponse { data }))
    }

    type OpenPortStream = Chunks;

    async fn open_port(&self, request: Request<Streaming<v1::PortInput>>) -> Answer<Chunks> {
        let mut input = request.into_inner();
        let hello = input.message().await?.ok_or_else(|| Status::internal("no first message"))?;
        self.find(&hello.id)?;
        let port = u16::try_from(hello.port).map_err(|_| Status::internal("no port"))?;
        let (mut from_guest, mut to_guest) = tokio::io::split(self.connect(port)?);
        let input = tokio::spawn(async move {
            while let Ok(Some(message)) = input.message().await {
                if to_guest.write_all(&message.data).await.is_err() {
                    return;
                }
            }
            let _ = to_guest.shutdown().await;
        });
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(length @ 1..) = from_guest.read(&mut buffer).await {
                let chunk = v1::ByteChunk { data: buffer[..length].to_vec() };
                if sender.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
            // The guest has ended its side; the connection is over when the client has, too.
            let end_of_output = v1::ByteChunk { data: Vec::new() };
            let _ = (sender.send(Ok(end_of_output)).await, input.await);
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    type AttachConsoleStream = Chunks;

    /// Echoes in capitals, and ends when the client does.
    async fn attach_console(
        &self,
        request: Request<Streaming<v1::ConsoleInput>>,
    ) -> Answer<Chunks> {
        let input = request.into_inner().map(|message| {
            message.map(|message| v1::ByteChunk { data: message.data.to_ascii_uppercase() })
        });
        Ok(Response::new(input.boxed()))
    }

    type ScreenshotStream = Chunks;

    /// In three pieces.
    async fn screenshot(&self, request: Request<v1::ScreenshotRequest>) -> Answer<Chunks> {
        let id = request.into_inner().id;
        self.with_display(&id)?;
        let pieces = PICTURE.chunks(PICTURE.len().div_ceil(3));
        let pieces = pieces.map(|data| Ok(v1::ByteChunk { data: data.to_vec() }));
        Ok(Response::new(futures::stream::iter(pieces.collect::<Vec<_>>()).boxed()))
    }

    type OpenDisplayStream = Chunks;

    /// Says its version, then sends back what it gets in capitals; ends when the client does, or is told "bye".
    async fn open_display(&self, request: Request<Streaming<v1::DisplayInput>>) -> Answer<Chunks> {
        let mut input = request.into_inner();
        let hello = input.message().await?.ok_or_else(|| Status::internal("no first message"))?;
        self.with_display(&hello.id)?;
        self.note("display", &hello.id);
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            // As QEMU's, in pieces that no length tells of.
            let mut pieces =
                [&b"RFB 003"[..], b".008\n", b"\x02\x05", b"\x01", &[0; 4]].into_iter();
            for is_answered in [false, true, false, true, false] {
                let data = pieces.next().unwrap_or_default().to_vec();
                if sender.send(Ok(v1::ByteChunk { data })).await.is_err() {
                    return;
                }
                if is_answered && !matches!(input.message().await, Ok(Some(_))) {
                    return;
                }
            }
            while let Ok(Some(message)) = input.message().await {
                let is_end = message.data == b"bye";
                let data = if is_end { Vec::new() } else { message.data.to_ascii_uppercase() };
                if sender.send(Ok(v1::ByteChunk { data })).await.is_err() || is_end {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    async fn create(&self, _: Request<v1::CreateInstanceRequest>) -> Answer<v1::Instance> {
        Err(Status::unimplemented("create"))
    }

    async fn batch_get(&self, _: Request<v1::BatchGetRequest>) -> Answer<v1::InstanceList> {
        Err(Status::unimplemented("batch_get"))
    }

    async fn update(&self, _: Request<v1::UpdateInstanceRequest>) -> Answer<v1::Instance> {
        Err(Status::unimplemented("update"))
    }

    async fn start(&self, _: Request<v1::GetRequest>) -> Answer<v1::Instance> {
        Err(Status::unimplemented("start"))
    }

    async fn reboot(&self, _: Request<v1::GetRequest>) -> Answer<v1::Instance> {
        Err(Status::unimplemented("reboot"))
    }
}

#[tonic::async_trait]
impl v1::hosts_server::Hosts for Service {
    async fn get(&self, _: Request<v1::GetRequest>) -> Answer<v1::Host> {
        Err(Status::unimplemented("get"))
    }

    async fn list(&self, _: Request<v1::ListRequest>) -> Answer<v1::HostList> {
        Err(Status::unimplemented("list"))
    }

    async fn doctor(&self, _: Request<v1::DoctorRequest>) -> Answer<v1::DoctorResponse> {
        let check = v1::DoctorCheck {
            name: "disk".to_owned(),
            result: "failed".to_owned(),
            finding: "the state directory is full".to_owned(),
            remedy: "remove images".to_owned(),
        };
        Ok(Response::new(v1::DoctorResponse { checks: vec![check] }))
    }

    async fn check_placement(
        &self,
        _: Request<v1::CheckPlacementRequest>,
    ) -> Result<Response<v1::CheckPlacementResponse>, Status> {
        Err(Status::unimplemented("no command asks this"))
    }

    async fn get_capacity(
        &self,
        _: Request<v1::GetCapacityRequest>,
    ) -> Result<Response<v1::GetCapacityResponse>, Status> {
        Err(Status::unimplemented("no command asks this"))
    }
}
