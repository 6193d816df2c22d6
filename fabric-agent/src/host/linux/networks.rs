//! VPCs' namespaces, their links and their packet filters, and what the agent's own namespace does
//! for them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnetwork::Ipv4Network;
use tokio::net::TcpStream;
use weft_firewall::{FirewallError, HostNat, Nft, host_changes, host_nat, keep_apart};
use weft_model::{
    Bridge, Counted, Counts, Firewall, Lan, LinkCounters, LinkName, Problem, Routes, TapInterface,
    TrackedFlow, VpcId, VpcNetwork,
};
use weft_network::{HolderCommand, Namespace, NetworkError};
use weft_planner::{HostEdge, HostRoute, SeenNetwork};
use weft_services::Sockets;

use crate::config::Directories;
use crate::host::{HostError, NamespaceIdentity};

#[derive(Debug)]
pub(super) struct LinuxNetworks {
    /// Where the records of the namespaces' holders are.
    records: PathBuf,
    holder: PathBuf,
    prefix: String,
    agent: Namespace,
    known: Mutex<Known>,
}

/// What was found or applied; forgotten whenever something fails.
#[derive(Debug, Default)]
struct Known {
    namespaces: HashMap<VpcId, Namespace>,
    firewalls: HashMap<VpcId, Firewall>,
}

fn network(what: String) -> impl FnOnce(NetworkError) -> HostError {
    move |error| HostError::new(what, error.is_retryable()).caused_by(error)
}

fn firewall(what: String) -> impl FnOnce(FirewallError) -> HostError {
    move |error| HostError::new(what, error.is_retryable()).caused_by(error)
}

/// Runs what may take long where there are many connections, beside the runtime's threads.
async fn in_kernel<T: Send + 'static>(
    what: String,
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, HostError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(network(what)),
        Err(error) => Err(HostError::new(what, true).caused_by(error)),
    }
}

impl LinuxNetworks {
    pub(super) fn open(directories: &Directories, holder: PathBuf) -> Result<Self, HostError> {
        let records = directories.vpcs();
        DirBuilder::new().recursive(true).mode(0o700).create(&records).map_err(|error| {
            HostError::new(format!("make the directory {}", records.display()), true)
                .caused_by(error)
        })?;
        let agent =
            Namespace::current().map_err(network("find the agent's namespace".to_owned()))?;
        let prefix = directories.prefix.clone();
        Ok(Self { records, holder, prefix, agent, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, vpc_id: &VpcId) -> PathBuf {
        self.records.join(format!("{vpc_id}.json"))
    }

    /// The VPC's namespace, if it exists.
    fn find(&self, vpc_id: &VpcId) -> Result<Option<Namespace>, HostError> {
        if let Some(found) = self.known().namespaces.get(vpc_id) {
            return Ok(Some(found.clone()));
        }
        let found = Namespace::find(&self.record(vpc_id));
        let found = found.map_err(network(format!("find the namespace of {vpc_id}")))?;
        if let Some(found) = &found {
            self.known().namespaces.insert(vpc_id.clone(), found.clone());
        }
        Ok(found)
    }

    fn get(&self, vpc_id: &VpcId) -> Result<Namespace, HostError> {
        self.find(vpc_id)?.ok_or_else(|| {
            HostError::new(format!("the network namespace of {vpc_id} does not exist yet"), true)
        })
    }

    fn nft(&self, namespace: &Namespace) -> Nft {
        Nft::new(&self.prefix, Some(namespace.path()))
    }

    fn host_nft(&self) -> Nft {
        Nft::new(&self.prefix, None)
    }

    /// A path to the namespace that other processes can open.
    pub(super) fn path_for_others(&self, vpc_id: &VpcId) -> Result<PathBuf, HostError> {
        let namespace = self.get(vpc_id)?;
        let holder = namespace.holder().ok_or_else(|| {
            HostError::new(format!("the namespace of {vpc_id} has no holder"), true)
        })?;
        Ok(format!("/proc/{}/ns/net", holder.pid).into())
    }

    /// If the namespace's holder was killed, the namespace is found again among those that
    /// `guests` are in.
    pub(super) async fn make_namespace(
        &self,
        vpc_id: &VpcId,
        guests: &[PathBuf],
    ) -> Result<(), HostError> {
        let record = self.record(vpc_id);
        let args: Vec<OsString> = vec![
            "hold-netns".into(),
            "--vpc".into(),
            vpc_id.as_str().into(),
            "--record".into(),
            record.clone().into(),
        ];
        let command = HolderCommand { program: self.holder.clone(), args };
        let made = Namespace::ensure_adopting(&record, &command, guests).await;
        let made = made.map_err(network(format!("make the namespace of {vpc_id}")))?;
        self.known().namespaces.insert(vpc_id.clone(), made);
        Ok(())
    }

    pub(super) async fn set_base(&self, desired: &VpcNetwork) -> Result<(), HostError> {
        let namespace = self.get(&desired.vpc_id)?;
        let done = weft_network::ensure_base(&namespace, desired).await;
        done.map_err(network(format!("set up the router of {}", desired.vpc_id)))
    }

    pub(super) async fn set_uplink(&self, desired: &VpcNetwork) -> Result<(), HostError> {
        let Some(uplink) = &desired.uplink else { return Ok(()) };
        let namespace = self.get(&desired.vpc_id)?;
        self.keep_apart(&uplink.link).await?;
        weft_crash_points::point("uplink.set.kept_apart");
        let done = weft_network::ensure_uplink(&self.agent, &namespace, desired, uplink).await;
        done.map_err(network(format!("connect {} to the host", desired.vpc_id)))
    }

    /// Before the link is there: at no moment is it a way into another VPC.
    async fn keep_apart(&self, link: &LinkName) -> Result<(), HostError> {
        let nft = self.host_nft();
        let what = || format!("keep {link} apart from the other VPCs");
        let seen = nft.observe(false).await.map_err(firewall(what()))?;
        let commands = keep_apart(nft.table(), seen.as_ref(), link);
        nft.apply(&commands).await.map_err(firewall(what()))
    }

    pub(super) async fn set_bridge(&self, desired: &VpcNetwork) -> Result<(), HostError> {
        let namespace = self.get(&desired.vpc_id)?;
        let done = weft_network::ensure_bridge(&namespace, desired).await;
        done.map_err(network(format!("make the bridge of {}", desired.vpc_id)))
    }

    pub(super) async fn join_bridge(&self, desired: &VpcNetwork) -> Result<(), HostError> {
        let Some(bridge) = &desired.bridge else { return Ok(()) };
        let Some(join) = &bridge.joined else { return Ok(()) };
        let namespace = self.get(&desired.vpc_id)?;
        let done = weft_network::join_lan(&self.agent, &namespace, &bridge.link, join).await;
        let what = format!("join {} to {}", desired.vpc_id, join.path.host_name());
        done.map_err(network(what))
    }

    /// The pair of a VPC that is going: both ends vanish with the end inside.
    pub(super) async fn remove_uplink(&self, vpc_id: &VpcId) -> Result<(), HostError> {
        let Some(namespace) = self.find(vpc_id)? else { return Ok(()) };
        let what = || format!("disconnect {vpc_id} from the host");
        let seen = weft_network::observe(&self.agent, &namespace).await;
        let seen = seen.map_err(network(what()))?;
        if seen.bridge.is_some_and(|bridge| bridge.joined.is_some()) {
            let left = weft_network::leave_lan(&self.agent, &namespace).await;
            left.map_err(network(what()))?;
        }
        if let Some(link) = seen.uplink.and_then(|uplink| uplink.link) {
            let removed = weft_network::remove_uplink(&self.agent, &link).await;
            removed.map_err(network(what()))?;
        }
        Ok(())
    }

    pub(super) async fn add_tap(
        &self,
        vpc_id: &VpcId,
        link: &LinkName,
        tap: &TapInterface,
    ) -> Result<(), HostError> {
        let added = weft_network::add_tap(&self.get(vpc_id)?, link, tap).await;
        added.map_err(network(format!("make the tap {link}")))
    }

    pub(super) async fn open_tap(
        &self,
        vpc_id: &VpcId,
        link: &LinkName,
        tap: &TapInterface,
        bridge: Option<&Bridge>,
    ) -> Result<(), HostError> {
        let opened = weft_network::tap_up(&self.get(vpc_id)?, link, tap, bridge).await;
        opened.map_err(network(format!("set the tap {link} up")))
    }

    pub(super) async fn remove_tap(
        &self,
        vpc_id: &VpcId,
        link: &LinkName,
    ) -> Result<(), HostError> {
        let Some(namespace) = self.find(vpc_id)? else { return Ok(()) };
        let what = || format!("remove the tap {link}");
        // Down first: nothing passes between its leaving the packet filter and its end.
        weft_network::tap_down(&namespace, link).await.map_err(network(what()))?;
        weft_crash_points::point("tap.remove.down");
        weft_network::remove_tap(&namespace, link).await.map_err(network(what()))
    }

    pub(super) async fn set_routes(
        &self,
        vpc_id: &VpcId,
        routes: &Routes,
    ) -> Result<(), HostError> {
        let set = weft_network::set_routes(&self.get(vpc_id)?, routes).await;
        set.map_err(network(format!("set the route tables of {vpc_id}")))
    }

    pub(super) async fn set_firewall(
        &self,
        vpc_id: &VpcId,
        desired: &Firewall,
    ) -> Result<(), HostError> {
        let nft = self.nft(&self.get(vpc_id)?);
        // Taken out: if this fails, what is in the kernel is read again next time.
        let before = self.known().firewalls.remove(vpc_id);
        let what = || format!("set the packet filter of {vpc_id}");
        match before {
            Some(before) => nft.change(&before, desired).await.map_err(firewall(what()))?,
            None => match nft.observe(desired.bridge.is_some()).await.map_err(firewall(what()))? {
                Some(seen) => {
                    let commands = seen.changes(nft.table(), desired);
                    nft.apply(&commands).await.map_err(firewall(what()))?;
                }
                None => nft.replace(desired).await.map_err(firewall(what()))?,
            },
        }
        self.known().firewalls.insert(vpc_id.clone(), desired.clone());
        Ok(())
    }

    pub(super) async fn counters(
        &self,
        vpc_id: &VpcId,
    ) -> Result<BTreeMap<Counted, Counts>, HostError> {
        let Some(namespace) = self.find(vpc_id)? else { return Ok(BTreeMap::new()) };
        let counters = self.nft(&namespace).counters().await;
        counters.map_err(firewall(format!("read the counters of {vpc_id}")))
    }

    pub(super) async fn link_counters(
        &self,
        vpc_id: &VpcId,
    ) -> Result<BTreeMap<LinkName, LinkCounters>, HostError> {
        let Some(namespace) = self.find(vpc_id)? else { return Ok(BTreeMap::new()) };
        let counters = weft_network::counters(&namespace).await;
        counters.map_err(network(format!("read what the links of {vpc_id} carried")))
    }

    pub(super) async fn connections(&self, vpc_id: &VpcId) -> Result<Vec<TrackedFlow>, HostError> {
        let namespace = self.get(vpc_id)?;
        let what = format!("list the connections of {vpc_id}");
        in_kernel(what, move || weft_network::connections(&namespace)).await
    }

    pub(super) async fn cut(&self, vpc_id: &VpcId, flows: &[TrackedFlow]) -> Result<(), HostError> {
        let (namespace, flows) = (self.get(vpc_id)?, flows.to_vec());
        let what = format!("cut connections of {vpc_id}");
        in_kernel(what, move || weft_network::forget(&namespace, &flows)).await
    }

    pub(super) async fn remove_namespace(&self, vpc_id: &VpcId) -> Result<(), HostError> {
        {
            let mut known = self.known();
            known.namespaces.remove(vpc_id);
            known.firewalls.remove(vpc_id);
        }
        let removed = Namespace::remove(&self.record(vpc_id)).await;
        removed.map_err(network(format!("remove the namespace of {vpc_id}")))
    }

    pub(super) async fn set_host_routing(
        &self,
        routes: &BTreeMap<LinkName, HostRoute>,
        edge: &HostEdge,
    ) -> Result<(), HostError> {
        let changed = weft_network::enable_forwarding(&self.agent)
            .map_err(network("switch on IP forwarding".to_owned()))?;
        if changed {
            tracing::warn!(
                "switched IP forwarding on in the agent's network namespace (net.ipv4.ip_forward); \
                 it stays on when the agent ends"
            );
            weft_crash_points::point("routing.set.forwarding_on");
        }
        let swept = weft_network::remove_strays(&self.agent, &self.prefix).await;
        swept.map_err(network("give back links that no VPC has any more".to_owned()))?;
        let answered = weft_network::answer_for(&self.agent, &self.prefix, &edge.public).await;
        let answered = answered.map_err(network("answer for public addresses".to_owned()))?;
        let wanted = host_nat_of(routes, edge, &answered);
        let nft = self.host_nft();
        let what = || "set the address translation of the agent's namespace".to_owned();
        let seen = nft.observe(false).await.map_err(firewall(what()))?;
        let commands = match &seen {
            Some(seen) => host_changes(nft.table(), seen, &wanted),
            None => host_nat(nft.table(), &wanted),
        };
        nft.apply(&commands).await.map_err(firewall(what()))
    }

    /// How the agent's namespace differs from what these have made of it, in words.
    pub(super) async fn host_drift(
        &self,
        routes: &BTreeMap<LinkName, HostRoute>,
        edge: &HostEdge,
    ) -> Result<Vec<String>, HostError> {
        let mut findings = Vec::new();
        let forwards = weft_network::forwards(&self.agent);
        if !forwards.map_err(network("look at IP forwarding".to_owned()))? {
            findings.push("IP forwarding (net.ipv4.ip_forward) was off".to_owned());
        }
        let unanswered = weft_network::unanswered(&self.agent, &edge.public).await;
        let (answered, lacking) =
            unanswered.map_err(network("look for public addresses".to_owned()))?;
        if !lacking.is_empty() {
            let addresses: Vec<_> = lacking.iter().map(ToString::to_string).collect();
            let addresses = addresses.join(", ");
            findings.push(format!("nobody answered for the public addresses {addresses}"));
        }
        let nft = self.host_nft();
        let seen = nft.observe(false).await;
        let seen = seen.map_err(firewall("look at the host's own packet filter".to_owned()))?;
        let wanted = host_nat_of(routes, edge, &answered);
        match &seen {
            None => findings.push(format!("the table {} was gone", nft.table())),
            Some(seen) if !host_changes(nft.table(), seen, &wanted).is_empty() => {
                findings.push(format!("the table {} had been changed", nft.table()));
            }
            Some(_) => {}
        }
        Ok(findings)
    }

    pub(super) async fn observe(&self, desired: &VpcNetwork) -> Result<SeenNetwork, HostError> {
        let vpc_id = &desired.vpc_id;
        {
            // The holder may have died: what is known must not hide it.
            let mut known = self.known();
            known.namespaces.remove(vpc_id);
            known.firewalls.remove(vpc_id);
        }
        let Some(namespace) = self.find(vpc_id)? else { return Ok(SeenNetwork::default()) };
        let links = weft_network::observe(&self.agent, &namespace).await;
        let links = links.map_err(network(format!("look at the network of {vpc_id}")))?;
        let filter = self.nft(&namespace).observe(desired.bridge.is_some()).await;
        let filter = filter.map_err(firewall(format!("look at the packet filter of {vpc_id}")))?;
        let as_wanted = filter.is_some_and(|seen| seen.is(&desired.firewall));
        if as_wanted {
            self.known().firewalls.insert(vpc_id.clone(), desired.firewall.clone());
        }
        let firewall = as_wanted.then(|| desired.firewall.clone());
        Ok(SeenNetwork { network: Some(links), firewall })
    }

    /// Who holds the namespace: another process, another namespace, or the same one taken over,
    /// which is as good a reason to open sockets again.
    pub(super) fn identity(&self, vpc_id: &VpcId) -> Result<Option<NamespaceIdentity>, HostError> {
        let Some(namespace) = self.find(vpc_id)? else { return Ok(None) };
        let identity = |holder: &weft_network::HolderRecord| {
            NamespaceIdentity(format!("{}/{}", holder.pid, holder.start_time))
        };
        Ok(namespace.holder().map(identity))
    }

    pub(super) async fn lan_fault(&self, lan: &Lan) -> Result<Option<Problem>, HostError> {
        use NetworkError::{NoSuchBridge, NoVlans, UnfitUplink};
        match weft_network::check_lan(&self.agent, lan).await {
            Ok(()) => Ok(None),
            Err(fault @ NoVlans) => Ok(Some(Problem::invalid("vlan_id", fault.to_string()))),
            Err(fault @ (NoSuchBridge { .. } | UnfitUplink { .. })) => {
                Ok(Some(Problem::invalid(lan.link.field(), fault.to_string())))
            }
            Err(error) => Err(network(format!("look for {lan}"))(error)),
        }
    }

    pub(super) fn open_services(
        &self,
        vpc_id: &VpcId,
        gateways: &BTreeSet<Ipv4Addr>,
    ) -> Result<Sockets, HostError> {
        let what = || format!("open the sockets of the services of {vpc_id}");
        let opened =
            self.get(vpc_id)?.enter(|| Sockets::open(gateways)).map_err(network(what()))?;
        opened.map_err(|error| HostError::new(what(), true).caused_by(error))
    }

    pub(super) fn list(&self) -> Result<BTreeSet<VpcId>, HostError> {
        let failed = |error| {
            HostError::new(format!("list {}", self.records.display()), true).caused_by(error)
        };
        let mut ids = BTreeSet::new();
        for entry in std::fs::read_dir(&self.records).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
            ids.extend(id.and_then(|id| id.parse().ok()));
        }
        Ok(ids)
    }

    pub(super) async fn connect(
        &self,
        vpc_id: &VpcId,
        address: SocketAddrV4,
        deadline: Duration,
    ) -> Result<TcpStream, HostError> {
        let connected = self.get(vpc_id)?.connect(address, deadline).await;
        let stream = connected.map_err(network(format!("connect to {address}")))?;
        // Keystrokes are not to wait for each other.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        Ok(stream)
    }

    pub(super) async fn own_addresses(&self) -> Result<BTreeSet<Ipv4Addr>, HostError> {
        let found = weft_network::own_addresses(&self.agent).await;
        found.map_err(network("look at the addresses of the agent's namespace".to_owned()))
    }

    pub(super) async fn first_free_range(
        &self,
        candidates: &[Ipv4Network],
    ) -> Result<Option<Ipv4Network>, HostError> {
        let found = weft_network::first_free_range(&self.agent, candidates).await;
        found.map_err(network("look at the routes of the agent's namespace".to_owned()))
    }
}

fn host_nat_of(
    routes: &BTreeMap<LinkName, HostRoute>,
    edge: &HostEdge,
    answered: &BTreeSet<Ipv4Addr>,
) -> HostNat {
    let masqueraded = || routes.values().filter(|route| route.masquerade);
    HostNat {
        links: routes.keys().cloned().collect(),
        sources: masqueraded().map(|route| route.sources).collect(),
        sources_v6: masqueraded().filter_map(|route| route.sources_v6).collect(),
        hidden: edge.public.difference(answered).copied().collect(),
        public: edge.public.clone(),
        forwards: edge.forwards.clone(),
        guest_access: edge.guest_access.clone(),
    }
}
