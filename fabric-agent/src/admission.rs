//! What a client asks of an instance, judged and completed with everything that the agent chooses.

mod interface;
mod size;

use std::net::Ipv4Addr;

use weft_model::{
    GuestSize, ImageId, ImageSpec, InstanceId, InstanceOrder, InstanceSpec, InstanceStatus,
    InterfaceId, KeyMaterial, Name, PowerState, Problem, Reason, Record, check_map_public_ip,
    check_no_shrink,
};
use weft_store::Txn;

use crate::context::Context;
use crate::ledger::{Reservation, SeatReservation, Wish};
use crate::random;
use crate::repo::{Images, KeyPairs, Stored, Vpcs, encode, missing, public_key, uid_key};
use crate::turns::Turn;
use interface::Place;
pub(crate) use interface::{InterfaceOrder, seat_keys};
use size::Resolved;

/// What a new instance refers to, as it is now.
struct References {
    image_id: ImageId,
    image: ImageSpec,
    place: Place,
    keys: Vec<KeyMaterial>,
}

/// What is taken for a new instance until the store knows it.
pub(crate) struct Reserved {
    instance: Reservation,
    seat: SeatReservation,
}

impl Reserved {
    /// The store knows it now.
    pub(crate) fn keep(self) {
        self.instance.keep();
        self.seat.keep();
    }
}

impl Context {
    /// Judges `order` and chooses everything else. The caller holds `references` for reading and
    /// stores what is returned with the transaction, then keeps the reservation.
    ///
    /// # Errors
    /// A [`Problem`] at the field that is wrong; nothing was made.
    pub(crate) async fn admit(
        &self,
        id: &InstanceId,
        order: InstanceOrder,
    ) -> Result<(InstanceSpec, Reserved, Txn, Option<Turn>), Problem> {
        let Resolved { instance_type, vcpus, memory_mib, network_mbps } =
            self.resolve_size(&order.size).await?;
        let maxima = order.maxima.check(GuestSize { vcpus, memory_mib })?;
        let references = self.resolve(&order).await?;
        let image = &references.image;
        image.check_architecture(self.host.facts().architecture)?;
        self.host.check_boot(image.content.boot_mode)?;
        check_image_memory(image, memory_mib)?;
        let root_size_gib = check_root_size(&order, image)?;
        let (public_ip, public_turn) = self.public_for(&order, &references).await?.unzip();
        let power = order.power.unwrap_or(PowerState::Running);
        let on = power == PowerState::Running;
        let wish = Wish {
            memory_mib: if on { self.host.memory_cost_mib(memory_mib, order.display) } else { 0 },
            vcpus: if on { vcpus } else { 0 },
        };
        let (reservation, holding) = self.ledger.reserve(id, wish)?;
        let interface = InterfaceOrder {
            id: InterfaceId::from_random(random::bytes()),
            owner: id.as_str(),
            link: self.link_name(id.digits())?,
            private_ip: order.private_ip,
            security_group_ids: order.security_group_ids,
            source_dest_check: order.source_dest_check,
            network_mbps: None,
        };
        let (interface, seat, txn) = self.seat(references.place, interface).await?;
        let uid = uid_key(holding.uid);
        let txn = [uid]
            .into_iter()
            .chain(public_ip.map(public_key))
            .fold(txn, |txn, key| txn.when_absent(&key).put(key, id.as_str()));
        let host_key = weft_metadata::generate_host_key(random::bytes(), id.as_str())
            .map_err(|error| Problem::new(Reason::Internal, error.to_string()))?;
        let spec = InstanceSpec {
            name: order.name,
            image_id: references.image_id,
            image: references.image.content,
            default_user: references.image.default_user,
            instance_type,
            vcpus,
            memory_mib,
            maxima,
            network_mbps,
            interface,
            keys: references.keys,
            user_data: order.user_data,
            root_size_gib,
            root_limits: order.root_limits,
            display: order.display,
            metadata_options: order.metadata_options,
            lifecycle: order.lifecycle,
            stop_seconds: None,
            hibernate: false,
            power,
            run_epoch: 1,
            host_key,
            uid: holding.uid,
            public_ip,
            root_layers: Vec::new(),
        };
        Ok((spec, Reserved { instance: reservation, seat }, txn, public_turn))
    }

    /// The public address of a new instance, where it gets one, and the turn to store it.
    async fn public_for(
        &self,
        order: &InstanceOrder,
        references: &References,
    ) -> Result<Option<(Ipv4Addr, Turn)>, Problem> {
        if !order.associate_public_ip.unwrap_or(references.place.subnet.map_public_ip) {
            return Ok(None);
        }
        let vpc = self.repo.get::<Vpcs>(&references.place.subnet.vpc_id).await?;
        check_map_public_ip(true, vpc.value.spec.mode)
            .map_err(|problem| problem.at("associate_public_ip_address"))?;
        self.choose_public(None).await.map(Some)
    }

    async fn resolve(&self, order: &InstanceOrder) -> Result<References, Problem> {
        let stored = self.repo.find::<Images>(&order.image_id).await?;
        let stored = stored.ok_or_else(|| missing::<Images>(&order.image_id, "image_id"))?;
        let place = self.place(order.subnet_id.as_ref()).await?;
        let keys = self.keys(&order.key_names).await?;
        Ok(References { image_id: order.image_id.clone(), image: stored.value.spec, place, keys })
    }

    /// The key pairs called `names`, in that order.
    pub(crate) async fn keys(&self, names: &[Name]) -> Result<Vec<KeyMaterial>, Problem> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.repo.list::<KeyPairs>().await?;
        let find = |name: &Name| {
            let found = known.iter().find(|pair| pair.spec.key_name == *name);
            found.map(|pair| KeyMaterial {
                key_name: name.clone(),
                public_key: pair.spec.public_key.clone(),
            })
        };
        names
            .iter()
            .map(|name| {
                find(name).ok_or_else(|| {
                    Problem::not_found(format!("there is no key pair \"{name}\""))
                        .at("key_names")
                        .remedy("refer to weft_key_pair.NAME.key_name, so that it is made first")
                })
            })
            .collect()
    }

    /// The keys called `names`: those that the instance has as they are, as a key pair may have
    /// been deregistered since; the others as they are registered now.
    async fn keys_beside(
        &self,
        had: &[KeyMaterial],
        names: &[Name],
    ) -> Result<Vec<KeyMaterial>, Problem> {
        let find = |name: &Name| had.iter().find(|key| key.key_name == *name).cloned();
        let new: Vec<Name> = names.iter().filter(|name| find(name).is_none()).cloned().collect();
        let mut new = self.keys(&new).await?.into_iter();
        Ok(names.iter().filter_map(|name| find(name).or_else(|| new.next())).collect())
    }

    /// Refuses less memory than the image asks for, where the image is still registered.
    async fn check_memory_for_image(
        &self,
        old: &InstanceSpec,
        memory_mib: u32,
    ) -> Result<(), Problem> {
        if memory_mib >= old.memory_mib {
            return Ok(());
        }
        match self.repo.find::<Images>(&old.image_id).await? {
            Some(image) => check_image_memory(&image.value.spec, memory_mib),
            None => Ok(()),
        }
    }

    /// What `order` makes of an instance that exists.
    ///
    /// # Errors
    /// A [`Problem`] at the field that is wrong or cannot change; nothing has changed.
    pub(crate) async fn admit_change(
        &self,
        before: &Stored<Record<InstanceId, InstanceSpec>>,
        status: &InstanceStatus,
        order: InstanceOrder,
    ) -> Result<(InstanceSpec, Reservation), Problem> {
        let old = &before.value.spec;
        check_immutable(old, &order)?;
        let Resolved { instance_type, vcpus, memory_mib, network_mbps } =
            self.resize(old, &order.size).await?;
        let maxima = order.maxima.check(GuestSize { vcpus, memory_mib })?;
        self.check_memory_for_image(old, memory_mib).await?;
        let keys = self.keys_beside(&old.keys, &order.key_names).await?;
        let vpc_id = &old.interface.vpc_id;
        let groups = order.security_group_ids;
        if groups != old.interface.security_group_ids {
            self.check_groups(groups.as_ref(), vpc_id).await?;
        }
        if order.source_dest_check != old.interface.source_dest_check {
            self.check_source_dest(order.source_dest_check, vpc_id).await?;
        }
        let power = order.power.unwrap_or(old.power);
        let mut spec = InstanceSpec {
            name: order.name,
            instance_type,
            vcpus,
            memory_mib,
            maxima,
            network_mbps,
            keys,
            // Unset, it is as it is.
            root_size_gib: order.root_size_gib.or(old.root_size_gib),
            root_limits: order.root_limits,
            user_data: order.user_data,
            display: order.display,
            metadata_options: order.metadata_options,
            lifecycle: order.lifecycle,
            // A stop that is asked for anew has the instance's own time.
            stop_seconds: old.stop_seconds.filter(|_| power == old.power),
            hibernate: old.hibernate && power == PowerState::Stopped,
            power,
            ..old.clone()
        };
        spec.interface.security_group_ids = groups;
        spec.interface.source_dest_check = order.source_dest_check;
        check_hibernated(&before.value.id, old, &spec)?;
        spec.run_epoch = next_epoch(old, &spec, status, order.power);
        if spec.run_epoch > old.run_epoch {
            self.check_keys_of(&before.value.id).map_err(|problem| problem.at("power_state"))?;
        }
        // The guest of an older launch is about to be replaced.
        let stays = power == PowerState::Running && status.epoch == spec.run_epoch;
        if stays && memory_mib > old.memory_mib {
            self.check_slots(&before.value.id)?;
        }
        let on = power == PowerState::Running;
        let memory = self.host.memory_cost_mib(memory_mib, order.display);
        let memory = if on { memory } else { 0 };
        let reservation =
            self.ledger.raise(&before.value.id, memory, if on { vcpus } else { 0 })?;
        Ok((spec, reservation))
    }
}

/// The launch that is wanted after a change: a new one where the guest has to be started (again).
fn next_epoch(
    old: &InstanceSpec,
    new: &InstanceSpec,
    status: &InstanceStatus,
    asked: Option<PowerState>,
) -> u64 {
    if new.power != PowerState::Running {
        return old.run_epoch;
    }
    // A guest that is being restarted gets its maxima with its next start.
    let needs_restart = old.maxima != new.maxima
        || !new.maxima.lets_grow(old.size(), new.size())
        || old.user_data != new.user_data
        || old.display != new.display;
    let switched_on = old.power == PowerState::Stopped;
    // Not by the state: right after a start it still tells of the launch before, and an update that
    // is repeated would start the instance twice.
    let ended = status.ended_epoch >= old.run_epoch;
    let asked_on = asked == Some(PowerState::Running);
    let again = switched_on || (asked_on && ended) || (needs_restart && !ended);
    if again { old.run_epoch + 1 } else { old.run_epoch }
}

fn check_image_memory(image: &ImageSpec, memory_mib: u32) -> Result<(), Problem> {
    if memory_mib >= image.min_memory_mib {
        return Ok(());
    }
    let message = format!(
        "the image needs {} MiB of memory, the instance would have {memory_mib}",
        image.min_memory_mib
    );
    Err(Problem::invalid("memory_mib", message).remedy("choose a larger instance type"))
}

fn check_root_size(order: &InstanceOrder, image: &ImageSpec) -> Result<Option<u32>, Problem> {
    let Some(asked) = order.root_size_gib else {
        let enough = image.content.virtual_size_bytes >= u64::from(image.min_disk_gib) << 30;
        return Ok((!enough).then_some(image.min_disk_gib));
    };
    image.check_root_size(asked)?;
    Ok(Some(asked))
}

/// A guest that goes on finds the machine that it was saved on.
fn check_hibernated(
    id: &InstanceId,
    old: &InstanceSpec,
    new: &InstanceSpec,
) -> Result<(), Problem> {
    if !old.is_hibernated() {
        return Ok(());
    }
    let changes = [
        ("instance_type", old.instance_type != new.instance_type),
        ("vcpus", old.vcpus != new.vcpus),
        ("memory_mib", old.memory_mib != new.memory_mib),
        ("max_vcpus", old.maxima.vcpus != new.maxima.vcpus),
        ("max_memory_mib", old.maxima.memory_mib != new.maxima.memory_mib),
        ("user_data", old.user_data != new.user_data),
        ("display", old.display != new.display),
        ("root_volume.size_gib", old.root_size_gib != new.root_size_gib),
    ];
    match changes.iter().find(|(_, changed)| *changed) {
        None => Ok(()),
        Some((field, _)) => Err(hibernated(id, &format!("{field} cannot change")).at(*field)),
    }
}

/// That something is refused because the instance is hibernated.
pub(crate) fn hibernated(id: &InstanceId, what: &str) -> Problem {
    let message = format!("instance {id} is hibernated: {what} before its guest goes on");
    Problem::new(Reason::FailedPrecondition, message).remedy(format!(
        "weft start {id} has it go on; weft stop --force {id} throws its memory away"
    ))
}

fn check_immutable(old: &InstanceSpec, order: &InstanceOrder) -> Result<(), Problem> {
    let fixed = |field: &str, changed: bool| match changed {
        false => Ok(()),
        true => Err(Problem::invalid(field, format!("{field} of an instance cannot change"))
            .remedy("replace the instance")),
    };
    let interface = &old.interface;
    fixed("image_id", order.image_id != old.image_id)?;
    fixed("subnet_id", order.subnet_id.as_ref().is_some_and(|id| *id != interface.subnet_id))?;
    fixed("private_ip", order.private_ip.is_some_and(|ip| ip != interface.private_ip))?;
    let with_public = old.public_ip.is_some();
    let other = order.associate_public_ip.is_some_and(|asked| asked != with_public);
    fixed("associate_public_ip_address", other)?;
    let Some(asked) = order.root_size_gib else { return Ok(()) };
    let has = u32::try_from(old.root_size_bytes().div_ceil(1 << 30)).unwrap_or(u32::MAX);
    check_no_shrink("root_volume.size_gib", "the root disk", has, asked)
}

/// The JSON of an accepted instance's first status.
pub(crate) fn first_status(context: &Context) -> Vec<u8> {
    encode(&InstanceStatus::accepted(context.clock.now()))
}
