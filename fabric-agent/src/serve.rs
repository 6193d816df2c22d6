//! Composition: opens everything, starts everything, ends everything.

mod tasks;

use std::fs::{DirBuilder, Permissions};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use weft_fetch::{FetchOptions, Fetcher};
use weft_model::{HostId, InstanceSpec, Problem};
use weft_store::{Store, Txn};

use crate::alone;
use crate::api::{self, Network};
use crate::cache::Cache;
use crate::clock::{Clock, ScriptedClock, SystemClock};
use crate::config::pool::{self, GivenPool};
use crate::config::{Directories, HostKind, ServeArgs};
use crate::console_tokens::ConsoleTokens;
use crate::context::Context;
use crate::default_network;
use crate::fetches::Fetches;
use crate::hits::{self, HitCounts};
use crate::host::Host;
use crate::host::linux::LinuxHost;
use crate::host::pools::Pools;
use crate::host::sim::SimHost;
use crate::ledger::Ledger;
use crate::metering::{self, Metering};
use crate::monitoring::{self, Monitor};
use crate::random;
use crate::reconcile::{Loaded, Merges, Reconciler};
use crate::repo::{HOST, Instances, NetworkInterfaces, Repo, Volumes, encode};
use crate::services;
use crate::sessions::Sessions;
use crate::store_mark;
use crate::tfstate::{self, States};
use crate::tls;
use crate::tls::certificates::Certificates;
use crate::transfers::Transfers;
use crate::volume_keys::VolumeKeys;
use tasks::Tasks;

/// How long a step under way may take at the end: a guest that was frozen is thawed before. More than any
/// step takes where all goes well.
const DRAIN: Duration = weft_hypervisor::FREEZE_ENDS_WITHIN;
/// How long a Create may be retried with its token, and how often the old ones are forgotten.
const TOKEN_LIFE: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);
const TOKEN_SWEEP: Duration = Duration::from_secs(3600);
/// How often the end of the certificates is looked at.
const CERTIFICATES_LOOK: Duration = Duration::from_secs(24 * 3600);
/// Files that an agent with dozens of guests can have open.
const ENOUGH_FILES: u64 = 16 * 1024;
/// The unix group that may use the agent besides root.
const GROUP: &str = "weft";

/// What the directory is called in which the socket is made.
pub(crate) const SOCKET_NURSERY: &str = ".socket-";

/// What identifies this host in the store.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct HostRecord {
    id: HostId,
}

/// Guests' connections to the services of their networks are files of the agent: it takes all that
/// it may have.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(limit) if limit < ENOUGH_FILES => tracing::warn!(
            limit,
            "the agent may have few files open (ulimit -n): many guests that use their network's \
             services at once could keep it from anything else"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

/// Runs the agent until it is told to end.
pub(crate) async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let directories = &args.directories;
    raise_open_files();
    make_dir(&directories.state_dir, 0o700)?;
    let given = pool::check(&args.pool, directories)?;
    // Before anything is touched: an agent that cannot be reached as asked does not start.
    let files = tls::Files::of(&directories.state_dir);
    let mut certificates = None;
    let said = "listening on TCP, to clients with a certificate";
    let network = open_network(&files, &mut certificates, args.listen, said).await?;
    let said = "serving consoles on TCP, to holders of tokens";
    let consoles = open_network(&files, &mut certificates, args.console_listen, said).await?;
    let console_port = match &consoles {
        Some(consoles) => Some(consoles.listener.local_addr()?.port()),
        None => None,
    };
    let metrics = monitoring::server::listen(args.metrics_listen).await?;
    make_dir(&directories.runtime_dir, 0o711)?;
    let keys = VolumeKeys::open(args.volume_key_file.as_deref())?;
    if let Some(id) = keys.id() {
        // A core file would have the key, wherever the kernel leaves it.
        nix::sys::prctl::set_dumpable(false).context("cannot keep core files from being made")?;
        tracing::info!(root_key.id = %id, "volumes can be encrypted");
    }
    let prices = metering::read_prices(args.prices.as_deref())?;
    let (ca_file, mirror) = (args.fetch_ca.clone(), args.image_mirror.clone());
    let fetcher = Fetcher::new(FetchOptions { ca_file, mirror, ..FetchOptions::default() })?;
    let store = alone::with_store(&directories.database())
        .await
        .with_context(|| format!("cannot open the store {}", directories.database().display()))?;
    let _runtime_dir = alone::in_runtime_dir(&directories.runtime_dir).await?;
    let store: Arc<dyn Store> = Arc::new(store);
    let repo = Repo::new(store);
    let clock = open_clock(&args)?;
    // Before anything is looked at that this store might not know.
    let host_id = take_directories(directories, &given, &repo).await?;
    let pools = Pools::of(directories, &given, &host_id)?;
    let _prefix = match args.host {
        HostKind::Linux => Some(alone::in_network_namespace(&directories.prefix).await?),
        HostKind::Sim => None,
    };
    let host = open_host(&args, pools, keys, &clock).await?;
    let facts = host.facts();
    tracing::info!(
        host.name = facts.name,
        accelerator = %facts.accelerator,
        vcpus = facts.vcpus,
        memory_mib = facts.memory_mib,
        hypervisor = facts.hypervisor_version,
        "host is ready"
    );
    default_network::ensure(&repo, host.as_ref(), args.default_vpc_cidr, clock.now())
        .await
        .map_err(explain)?;
    let public_pool = crate::public::ensure_pool(&repo, host.as_ref(), &args.public_pool)
        .await
        .map_err(explain)?;
    let cache = Arc::new(Cache::load(&repo).await.map_err(explain)?);
    let instances = repo.list::<Instances>().await.map_err(explain)?;
    let own = repo.list::<NetworkInterfaces>().await.map_err(explain)?;
    let own = own.iter().map(|record| &record.spec.interface);
    let cost = |spec: &InstanceSpec| host.memory_cost_mib(spec.memory_mib, spec.display);
    let ledger = Ledger::new(facts.memory_mib, &instances, own, cost);
    let metering = Metering::new(repo.clone(), Arc::clone(&clock), prices);
    let states = directories.tfstates();
    let states = States::open(&states, repo.clone(), Arc::clone(&clock), args.tfstate.limits());
    let states = states.await?;
    let merges = Merges::load(&repo).await.map_err(explain)?;
    let loaded = Loaded { cache: Arc::clone(&cache), ledger: ledger.clone(), metering, merges };
    let reconciler = Arc::new(Reconciler::new(
        repo.clone(),
        loaded,
        Arc::clone(&host),
        Arc::clone(&clock),
        args.config(),
    ));
    let key = services::token_key(&repo).await.map_err(explain)?;
    services::offer(&reconciler, &args.resolv_conf, key);
    let freezer = Arc::clone(&host);
    let transfers = Transfers::new();
    let context = Arc::new(Context {
        repo: repo.clone(),
        cache: Arc::clone(&cache),
        host,
        host_id: host_id.clone(),
        availability_zone: args.zone.clone(),
        clock,
        ledger,
        public_pool,
        sessions: Sessions::default(),
        console_tokens: ConsoleTokens::default(),
        console_port,
        fetches: Fetches::new(
            fetcher,
            Arc::clone(&reconciler),
            Arc::clone(&transfers),
            args.max_image_bytes(),
        ),
        transfers,
        states: Arc::new(states),
        reconciler: Arc::clone(&reconciler),
        hits: HitCounts::default(),
        monitor: Monitor::default(),
        references: Arc::clone(&reconciler.references),
    });

    let socket = directories.socket();
    let listener = listen(&socket)?;
    tracing::info!(socket = %socket.display(), instances = instances.len(), "agent is ready");

    let (mut followers, mut workers) = (Tasks::new(), Tasks::new());
    let (marked, seen) = (directories.clone(), Arc::clone(&cache));
    followers.spawn(|end| async move {
        store_mark::follow(&marked, &given, &host_id, &seen, end).await;
        Ok(())
    });
    followers.spawn(|end| async move { cache.follow(&repo, end).await.map_err(explain) });
    workers.spawn(|end| async move {
        reconciler.run(end).await;
        Ok(())
    });
    let janitor = Arc::clone(&context);
    workers.spawn(|end| async move { forget_tokens(&janitor, end).await });
    let sampler = Arc::clone(&context);
    workers.spawn(|end| async move {
        hits::sample(&sampler, end).await;
        Ok(())
    });
    let watched = Arc::clone(&context);
    workers.spawn(|end| monitoring::server::serve(watched, metrics, end));
    if let Some(certificates) = certificates {
        workers.spawn(|end| async move { watch_certificates(&certificates, end).await });
    }
    workers.spawn(|end| async move {
        api::serve(context, listener, &socket, network, consoles, end).await
    });
    until_end(workers, followers, freezer.as_ref()).await
}

/// Listens on TCP, where that is asked for; all ports share the certificates, which the first opens.
async fn open_network(
    files: &tls::Files,
    certificates: &mut Option<Arc<Certificates>>,
    address: Option<SocketAddr>,
    said: &str,
) -> anyhow::Result<Option<Network>> {
    let Some(address) = address else { return Ok(None) };
    let cannot = || format!("cannot listen on TCP {address}");
    let certificates = match certificates {
        Some(opened) => opened,
        None => {
            let opened = Certificates::open(files.clone()).with_context(cannot)?;
            certificates.insert(Arc::new(opened))
        }
    };
    let listener = TcpListener::bind(address).await.with_context(cannot)?;
    tracing::info!(address = %listener.local_addr()?, "{said}");
    Ok(Some(Network { listener, certificates: Arc::clone(certificates) }))
}

/// Says daily what is about to end.
async fn watch_certificates(
    certificates: &Certificates,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        certificates.warn();
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(CERTIFICATES_LOOK) => {}
        }
    }
}

/// Waits for a signal, or for a task that ends by itself, which none should; then ends them all.
async fn until_end(
    mut workers: Tasks,
    mut followers: Tasks,
    host: &dyn Host,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let ended_early = tokio::select! {
        _ = terminate.recv() => None,
        interrupted = tokio::signal::ctrl_c() => { interrupted?; None }
        ended = workers.one_ended() => Some(ended),
        ended = followers.one_ended() => Some(ended),
    };
    tracing::info!("agent is ending; guests go on running");
    host.freeze_no_more();
    if tokio::time::timeout(DRAIN, end(&mut workers, &mut followers)).await.is_err() {
        tracing::warn!("a step did not end in time; the next start takes it up again");
    }
    match ended_early {
        None => Ok(()),
        Some(Ok(())) => anyhow::bail!("a task of the agent ended by itself"),
        Some(Err(error)) => Err(error),
    }
}

/// Ends all. Those who follow the store come last: who changes it waits until the change is seen.
async fn end(workers: &mut Tasks, followers: &mut Tasks) {
    workers.end().await;
    followers.end().await;
}

/// The machine's clock, or the one of a test.
fn open_clock(args: &ServeArgs) -> anyhow::Result<Arc<dyn Clock>> {
    match &args.sim_clock {
        Some(path) if args.host == HostKind::Sim => {
            let clock = ScriptedClock::open(path);
            Ok(Arc::new(clock.with_context(|| format!("cannot read {}", path.display()))?))
        }
        Some(_) => anyhow::bail!("--sim-clock needs --host sim"),
        None => Ok(Arc::new(SystemClock::of_this_boot().context("cannot read the boot id")?)),
    }
}

async fn open_host(
    args: &ServeArgs,
    pools: Pools,
    keys: VolumeKeys,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Arc<dyn Host>> {
    let directories = &args.directories;
    let name = match &args.host_name {
        Some(name) => name.clone(),
        None => crate::config::machine_name(),
    };
    Ok(match args.host {
        HostKind::Sim => {
            let (state, blobs) = (&directories.state_dir, directories.blobs());
            let (memory, clock) = (args.sim_memory_mib, Arc::clone(clock));
            Arc::new(
                SimHost::open(state, &blobs, (pools, keys), name, args.sim_vcpus, memory, clock)
                    .await?,
            )
        }
        HostKind::Linux => {
            let holder = std::env::current_exe().context("cannot find the agent's own program")?;
            Arc::new(LinuxHost::open(directories, pools, keys, args.accel, name, holder).await?)
        }
    })
}

/// This host's identity, made at the first start; the directories and the pools are its store's then.
async fn take_directories(
    directories: &Directories,
    pools: &[GivenPool],
    repo: &Repo,
) -> anyhow::Result<HostId> {
    let stored = repo.read::<HostRecord>(HOST).await.map_err(explain)?;
    let stored = stored.map(|stored| stored.value.id);
    let revision = repo.store().list(HOST).await?.revision;
    if let Err(error) = store_mark::check(directories, stored.as_ref(), revision) {
        return Err(with_newer_states(error, directories, repo).await);
    }
    store_mark::pools::check(directories, pools, stored.as_ref(), revision)?;
    let (host_id, revision) = match stored {
        Some(id) => (id, revision),
        None => {
            let id = HostId::from_random(random::bytes());
            let record = encode(&HostRecord { id: id.clone() });
            let txn = Txn::new().when_absent(HOST).put(HOST, record);
            (id, repo.commit(txn).await.map_err(explain)?)
        }
    };
    store_mark::put(directories, pools, &host_id, revision)?;
    let volumes = repo.list::<Volumes>().await.map_err(explain)?;
    let used = volumes.into_iter().map(|record| record.spec.volume_type).collect();
    store_mark::pools::forget(directories, pools, &host_id, &used)?;
    Ok(host_id)
}

/// Which of Terraform's states the store at hand does not know the newest version of, as operators may
/// accept it nevertheless.
async fn with_newer_states(
    error: anyhow::Error,
    directories: &Directories,
    repo: &Repo,
) -> anyhow::Error {
    let newer = tfstate::newer_than(repo, &directories.tfstates()).await.unwrap_or_else(|error| {
        tracing::warn!(error = format!("{error:#}"), "the states of Terraform cannot be looked at");
        Vec::new()
    });
    match newer.as_slice() {
        [] => error,
        names => anyhow::anyhow!(
            "{error:#}\n  note: there are newer versions than this store knows of the Terraform states {}; \
             with it they would be put aside, not removed",
            tfstate::few(names)
        ),
    }
}

async fn forget_tokens(context: &Context, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        let now = context.clock.now();
        let before = now.checked_sub(TOKEN_LIFE).unwrap_or(now);
        if let Err(problem) = context.forget_tokens(before).await {
            tracing::warn!(error = %problem, "old client tokens could not be removed");
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = context.clock.sleep(TOKEN_SWEEP) => {}
        }
    }
}

/// Listens for root and the group `weft`. A socket that is there was left behind by an agent that
/// has ended: this one has the runtime directory for itself.
fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", socket.display()));
        }
        _ => {}
    }
    // Made where only root may go, and moved when its mode is right: nobody else gets in between.
    let nursery = tempfile::Builder::new()
        .prefix(SOCKET_NURSERY)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(socket.parent().unwrap_or_else(|| Path::new("/")))
        .with_context(|| format!("cannot make {}", socket.display()))?;
    let made = nursery.path().join("agent.sock");
    let listener = UnixListener::bind(&made)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    std::fs::set_permissions(&made, Permissions::from_mode(0o660))?;
    match nix::unistd::Group::from_name(GROUP) {
        Ok(Some(group)) => nix::unistd::chown(&made, None, Some(group.gid))?,
        _ => tracing::debug!("there is no group {GROUP}: only root may use the socket"),
    }
    std::fs::rename(&made, socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    Ok(listener)
}

fn make_dir(dir: &PathBuf, mode: u32) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(|error| {
        let help = match error.kind() {
            ErrorKind::PermissionDenied => {
                ": a host of virtual machines takes root, and --host sim takes --state-dir and \
                 --runtime-dir where this user may write"
            }
            _ => "",
        };
        anyhow::Error::new(error)
            .context(format!("cannot make the directory {}{help}", dir.display()))
    })
}

/// A problem as the last words of a process.
fn explain(problem: Problem) -> anyhow::Error {
    let mut text = problem.message;
    for (name, part) in [("evidence", problem.evidence), ("help", problem.remedy)] {
        if let Some(part) = part {
            text.push_str(&format!("\n  {name}: {part}"));
        }
    }
    anyhow::anyhow!(text)
}

#[cfg(test)]
mod tests {
    use weft_store::Revision;

    use super::*;

    #[tokio::test]
    async fn who_changes_the_store_while_the_agent_ends_sees_it_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let repo = crate::testing::repo(dir.path());
        let cache = Arc::new(Cache::load(&repo).await.unwrap());
        let (mut followers, mut workers) = (Tasks::new(), Tasks::new());
        let (followed, read) = (Arc::clone(&cache), repo.clone());
        followers.spawn(|end| async move { followed.follow(&read, end).await.map_err(explain) });
        let seen = Arc::clone(&cache);
        workers.spawn(|end| async move {
            end.cancelled().await;
            // The others have had time to end as well.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let txn = Txn::new().put("anything", b"at all".to_vec());
            let revision = repo.commit(txn).await.map_err(explain)?;
            seen.reached(revision).await;
            Ok(())
        });
        let ended = tokio::time::timeout(DRAIN, end(&mut workers, &mut followers)).await;
        assert!(ended.is_ok(), "the change was never seen");
        assert!(cache.revision() > Revision::ABSENT);
    }
}
