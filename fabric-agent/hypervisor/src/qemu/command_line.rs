//! From a guest's specification to QEMU's arguments, without I/O.
//!
//! QEMU runs as a user that may open nothing, so every file comes as a file descriptor that the
//! holder opened. Disks and `/dev/kvm` go through fd sets, the files of a direct boot through
//! `/proc/self/fd`: QEMU opens those with plain `fopen`, which knows no fd sets
//! (`x86_load_linux` in QEMU's `hw/i386/x86-common.c`).

use std::os::fd::RawFd;

use serde_json::json;
use weft_model::{
    DiskFormat, MAX_INTERFACES_PER_INSTANCE, MAX_VOLUMES_PER_INSTANCE, MEMORY_SLOTS,
    MEMORY_STEP_MIB,
};

use super::VolumeDisk;
use super::spec::{Accel, Boot, GuestSpec, NicSpec};
use crate::guest::{MEMORY, incoming_uri};

/// A disk's serial is cut here: `VIRTIO_BLK_ID_BYTES` in Linux `include/uapi/linux/virtio_blk.h`.
const SERIAL_BYTES: usize = 20;

/// What QEMU calls the root disk, so that it is found again.
pub const ROOT_DEVICE: &str = "root";

/// What QEMU calls the balloon, which tells what the guest says of its memory.
pub const BALLOON_DEVICE: &str = "balloon";

/// What QEMU calls the port to the guest's agent.
pub const AGENT_DEVICE: &str = "agent";
/// What the guest's agent looks for: `QGA_VIRTIO_PATH_DEFAULT` in QEMU's `qga/main.c`.
const AGENT_PORT: &str = "org.qemu.guest_agent.0";

/// What QEMU calls the graphics card.
const DISPLAY_DEVICE: &str = "display";

/// Fixed PCI slots, so that a device's name in the guest does not depend on the others.
const DISPLAY_SLOT: u8 = 0x01;
const ROOT_SLOT: u8 = 0x02;
const SEED_SLOT: u8 = 0x03;
const RNG_SLOT: u8 = 0x04;
/// All root ports, one a function.
const PORTS_SLOT: u8 = 0x05;
const AGENT_SLOT: u8 = 0x0c;
const BALLOON_SLOT: u8 = 0x0d;
const TABLET_SLOT: u8 = 0x0e;
/// Next to the interfaces: what comes later has the slots below.
const PANIC_SLOT: u8 = 0x0f;
/// The same for volumes.
const VOLUME_PORTS_SLOT: u8 = 0x06;
/// PCIe chassis numbers of volumes' root ports: above those of the interfaces.
const VOLUME_CHASSIS: u8 = 0x10;
const FIRST_NIC_SLOT: u8 = 0x10;

/// QEMU's own system call filter. Works because QEMU changes no user and forks nothing: the
/// holder did both before exec.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The file descriptors that QEMU inherits, by their numbers in its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFds {
    /// The overlay, open for reading and writing.
    pub root: RawFd,
    /// The layers under it, bottom to top, read-only.
    pub layers: Vec<RawFd>,
    /// The image under all of them, read-only.
    pub backing: RawFd,
    /// The seed, read-only.
    pub seed: Option<RawFd>,
    /// The SMBIOS string of credentials.
    pub credentials: Option<RawFd>,
    /// Memory that is read back, read-only.
    pub memory: Option<RawFd>,
    /// The kernel of a direct boot.
    pub kernel: Option<RawFd>,
    /// Its initial RAM disk.
    pub initrd: Option<RawFd>,
    /// OVMF's code, read-only.
    pub efi_code: Option<RawFd>,
    /// The guest's own EFI variables, open for reading and writing.
    pub efi_variables: Option<RawFd>,
    /// `/dev/kvm`, where QEMU can take it as a descriptor.
    pub kvm: Option<RawFd>,
    /// Those of each volume.
    pub volumes: Vec<VolumeFds>,
    /// One open tap for each interface, in order.
    pub taps: Vec<RawFd>,
    /// A listening Unix socket for QMP.
    pub qmp: RawFd,
    /// The same for the guest's agent.
    pub agent: Option<RawFd>,
}

/// The descriptors of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeFds {
    /// Its files, in the order of [`VolumeDisk::files`].
    pub files: Vec<RawFd>,
    /// Its secret, in memory, where it is encrypted.
    pub secret: Option<RawFd>,
}

/// The arguments that start `spec`, without the program itself.
pub fn command_line(spec: &GuestSpec, fds: &GuestFds) -> Vec<String> {
    let mut line = Line::default();
    line.flag("-nodefaults").flag("-no-user-config");
    line.option("-display", "none");
    line.option("-sandbox", SANDBOX);
    line.option("-name", format!("guest={},process={}", escape(&spec.name), spec.instance_id));
    line.option("-uuid", spec.uuid.to_string());
    let flash = firmware(&mut line, fds);
    let machine = spec.resume.as_ref().map_or("q35", |resume| resume.machine.as_str());
    let machine = escape(machine);
    line.option("-machine", format!("{machine},vmport=off,dump-guest-core=off{flash}"));
    accel(&mut line, spec, fds);
    size(&mut line, spec);
    line.option("-rtc", "base=utc");
    // Both beginning with "ec2" and alike is how cloud-init knows EC2; the seed is found by its
    // label, which comes first: `dscheck_NoCloud` in cloud-init's tools/ds-identify.
    line.option("-smbios", format!("type=1,serial={}", spec.uuid));
    if let Some(fd) = fds.credentials {
        // From a file: what is on the command line, everybody on the host can read.
        line.option("-smbios", format!("type=11,path=/proc/self/fd/{fd}"));
    }
    // A guest's own power-off leaves QEMU there, stopped, for an agent that comes back later.
    line.flag("-no-shutdown");
    // Likewise one whose kernel panics, as its pvpanic driver says (Linux 5.13 has it, QEMU's
    // `docs/specs/pvpanic.rst`): the state "guest-panicked" stays to be found.
    line.option("-action", "panic=pause");
    if let Some(fd) = fds.memory {
        // Read back, and then stopped: the file has to be gone before the guest goes on.
        line.flag("-S");
        line.fd_set_of(fd, MEMORY);
        line.option("-incoming", incoming_uri(spec.qemu.version, fd));
    }
    boot(&mut line, spec, fds);
    line.option("-chardev", format!("socket,id=qmp,fd={},server=on,wait=off", fds.qmp));
    line.option("-mon", "chardev=qmp,mode=control");
    line.option("-chardev", "stdio,id=console,signal=off");
    line.option("-serial", "chardev:console");
    disks(&mut line, spec, fds);
    volumes(&mut line, spec, fds);
    nics(&mut line, spec, fds);
    line.option("-object", "rng-random,id=rng,filename=/dev/urandom");
    line.option("-device", format!("virtio-rng-pci,rng=rng,addr={RNG_SLOT:#x}"));
    line.option("-device", format!("pvpanic-pci,addr={PANIC_SLOT:#x}"));
    // It is never inflated: it is there for its figures.
    line.option(
        "-device",
        format!("virtio-balloon-pci,id={BALLOON_DEVICE},addr={BALLOON_SLOT:#x}"),
    );
    if let Some(fd) = fds.agent {
        agent(&mut line, fd);
    }
    if spec.display {
        display(&mut line);
    }
    parts(&mut line, spec);
    line.0
}

/// What the guest boots with, and the room that it has to grow. Without any, the machine is the same as
/// if there were no such thing.
fn size(line: &mut Line, spec: &GuestSpec) {
    let (vcpus, mib) = (spec.vcpus, spec.memory_mib);
    let most = spec.maxima.vcpus.unwrap_or(vcpus).max(vcpus);
    let room = if most > vcpus { format!(",maxcpus={most}") } else { String::new() };
    line.option("-smp", format!("cpus={vcpus}{room},sockets=1,cores={most},threads=1"));
    let most = spec.maxima.memory_mib.unwrap_or(mib).max(mib);
    let steps = (most - mib).div_ceil(MEMORY_STEP_MIB);
    let slots = steps.min(MEMORY_SLOTS.into());
    let room = if slots > 0 { format!(",slots={slots},maxmem={most}M") } else { String::new() };
    line.option("-m", format!("size={mib}M{room}"));
}

/// What came later to a guest whose memory is read back: it finds all of it where it was.
fn parts(line: &mut Line, spec: &GuestSpec) {
    for part in &spec.parts.memory {
        line.option("-object", part.backend().to_string());
        line.option("-device", part.device().to_string());
    }
    for part in &spec.parts.vcpus {
        line.option("-device", part.device().to_string());
    }
}

/// What shows something under every firmware and kernel: text in BIOS, a frame buffer under UEFI
/// (`efifb`, also where a kernel has no DRM, as Debian's for clouds), `bochs-drm`. Viewers come one by one,
/// each with a socket of its own: the VNC server listens nowhere. The keyboard is the machine's PS/2; the
/// pointer is one with absolute coordinates, without which viewers' pointers and the guest's part.
fn display(line: &mut Line) {
    line.option("-vnc", "none,share=ignore");
    line.option(
        "-device",
        format!(
            "VGA,id={DISPLAY_DEVICE},addr={DISPLAY_SLOT:#x},vgamem_mb=16,edid=on,xres=1280,yres=800"
        ),
    );
    line.option("-device", format!("virtio-tablet-pci,addr={TABLET_SLOT:#x}"));
}

/// A serial port that the guest knows by its name. One client at a time talks through the socket; while
/// there is none, what the guest says is thrown away.
fn agent(line: &mut Line, fd: RawFd) {
    line.option("-chardev", format!("socket,id={AGENT_DEVICE},fd={fd},server=on,wait=off"));
    line.option("-device", format!("virtio-serial-pci,id=serial,addr={AGENT_SLOT:#x}"));
    line.option(
        "-device",
        format!(
            "virtserialport,bus=serial.0,nr=1,chardev={AGENT_DEVICE},id={AGENT_DEVICE},\
             name={AGENT_PORT}"
        ),
    );
}

fn accel(line: &mut Line, spec: &GuestSpec, fds: &GuestFds) {
    match (spec.accel, fds.kvm) {
        (Accel::Kvm, Some(fd)) => {
            let set = line.fd_set(fd);
            line.option("-accel", format!("kvm,device={set}"));
            line.option("-cpu", "host");
        }
        (Accel::Kvm, None) => {
            line.option("-accel", "kvm");
            line.option("-cpu", "host");
        }
        (Accel::Tcg { tb_size_mib }, _) => {
            line.option("-accel", format!("tcg,tb-size={tb_size_mib}"));
            line.option("-cpu", "max");
        }
    }
}

/// The two flash chips of OVMF; returns how the machine refers to them.
fn firmware(line: &mut Line, fds: &GuestFds) -> &'static str {
    let (Some(code), Some(variables)) = (fds.efi_code, fds.efi_variables) else { return "" };
    for (node, fd, read_only) in [("efi-code", code, true), ("efi-variables", variables, false)] {
        let file = line.fd_set(fd);
        line.blockdev(json!({
            "driver": "file", "node-name": format!("{node}-file"), "filename": file,
            "read-only": read_only,
        }));
        line.blockdev(json!({
            "driver": "raw", "node-name": node, "file": format!("{node}-file"),
            "read-only": read_only,
        }));
    }
    ",pflash0=efi-code,pflash1=efi-variables"
}

fn boot(line: &mut Line, spec: &GuestSpec, fds: &GuestFds) {
    line.option("-boot", "menu=off,strict=on");
    if let Boot::DirectKernel { cmdline, .. } = &spec.boot {
        if let Some(fd) = fds.kernel {
            line.option("-kernel", format!("/proc/self/fd/{fd}"));
        }
        if let Some(fd) = fds.initrd {
            line.option("-initrd", format!("/proc/self/fd/{fd}"));
        }
        line.option("-append", cmdline.clone());
    }
}

fn disks(line: &mut Line, spec: &GuestSpec, fds: &GuestFds) {
    let id = spec.instance_id.as_str();
    let serial = &id[..id.len().min(SERIAL_BYTES)];

    let file = line.fd_set(fds.backing);
    line.blockdev(json!({
        "driver": "file", "node-name": "backing-file", "filename": file, "read-only": true,
    }));
    let driver = match spec.root.backing.format {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow2 => "qcow2",
    };
    let mut backing = json!({
        "driver": driver, "node-name": "backing", "file": "backing-file", "read-only": true,
    });
    if spec.root.backing.format == DiskFormat::Qcow2 {
        // Whatever the image's header names, nothing more is opened.
        backing["backing"] = serde_json::Value::Null;
    }
    line.blockdev(backing);

    let mut below = "backing".to_owned();
    for (index, fd) in fds.layers.iter().enumerate() {
        let (node, file) = (format!("root-layer{index}"), line.fd_set(*fd));
        line.blockdev(json!({
            "driver": "file", "node-name": format!("{node}-file"), "filename": file,
            "read-only": true,
        }));
        line.blockdev(json!({
            "driver": "qcow2", "node-name": node, "file": format!("{node}-file"),
            "backing": below, "read-only": true,
        }));
        below = node;
    }

    let file = line.fd_set(fds.root);
    line.blockdev(json!({
        "driver": "file", "node-name": "root-file", "filename": file, "discard": "unmap",
    }));
    line.blockdev(json!({
        "driver": "qcow2", "node-name": "root", "file": "root-file", "backing": below,
        "discard": "unmap",
    }));
    // Not 0: that is taken by the kernel of a direct boot (`x86_load_linux`).
    line.option(
        "-device",
        format!(
            "virtio-blk-pci,id={ROOT_DEVICE},drive=root,serial={serial},bootindex=1,\
             addr={ROOT_SLOT:#x}"
        ),
    );

    if let Some(fd) = fds.seed {
        let file = line.fd_set(fd);
        line.blockdev(json!({
            "driver": "file", "node-name": "seed-file", "filename": file, "read-only": true,
        }));
        line.blockdev(json!({
            "driver": "raw", "node-name": "seed", "file": "seed-file", "read-only": true,
        }));
        line.option(
            "-device",
            format!("virtio-blk-pci,drive=seed,serial=seed,addr={SEED_SLOT:#x}"),
        );
    }
}

/// The volumes, and places for those that come while the guest runs.
fn volumes(line: &mut Line, spec: &GuestSpec, fds: &GuestFds) {
    for port in 1..=MAX_VOLUMES_PER_INSTANCE {
        let (name, chassis) = (VolumeDisk::port_name(port), VOLUME_CHASSIS + port);
        root_port(line, &name, chassis, VOLUME_PORTS_SLOT, port - 1);
    }
    for (volume, fds) in spec.volumes.iter().zip(&fds.volumes) {
        let id = volume.volume_id.as_str();
        if let Some(fd) = fds.secret {
            // It stays as long as the guest has the volume: a guest that was hibernated has its disks
            // opened once more before it goes on, and a snapshot adds a file.
            let key = VolumeDisk::key_name(id);
            line.option("-object", format!("secret,id={key},file=/proc/self/fd/{fd}"));
        }
        let paths: Vec<String> = fds.files.iter().map(|fd| line.fd_set_of(*fd, id)).collect();
        volume.nodes(&paths).into_iter().for_each(|node| line.blockdev(node));
        line.option("-device", volume.device().to_string());
    }
}

/// One function of a slot that is full of root ports.
fn root_port(line: &mut Line, name: &str, chassis: u8, slot: u8, function: u8) {
    let multifunction = if function == 0 { ",multifunction=on" } else { "" };
    line.option(
        "-device",
        format!(
            "pcie-root-port,id={name},chassis={chassis},slot={chassis},\
             addr={slot:#x}.{function:#x}{multifunction}"
        ),
    );
}

/// The interfaces, and places for those that come while the guest runs: q35 takes a PCIe device
/// only into a root port that was there at the start (QEMU `docs/pcie.txt`).
fn nics(line: &mut Line, spec: &GuestSpec, fds: &GuestFds) {
    for port in 1..MAX_INTERFACES_PER_INSTANCE {
        root_port(line, &NicSpec::port_name(port), port, PORTS_SLOT, port - 1);
    }
    for (index, (nic, tap)) in spec.nics.iter().zip(&fds.taps).enumerate() {
        let netdev = nic.id.as_ref().map_or_else(|| format!("net{index}"), NicSpec::netdev);
        let id = nic.id.as_ref().map_or_else(String::new, |id| format!(",id={id}"));
        let place = match nic.port {
            Some(port) => format!("bus={}", NicSpec::port_name(port)),
            None => format!("addr={:#x}", usize::from(FIRST_NIC_SLOT) + index),
        };
        line.option("-netdev", format!("tap,id={netdev},fd={tap}"));
        line.option(
            "-device",
            format!("virtio-net-pci,netdev={netdev},mac={},romfile=,{place}{id}", nic.mac),
        );
    }
}

/// In QEMU's option strings a comma is written twice.
fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.to_owned());
        self
    }

    fn option(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.0.extend([name.to_owned(), value.into()]);
        self
    }

    fn blockdev(&mut self, node: serde_json::Value) {
        self.option("-blockdev", node.to_string());
    }

    /// The same, marked as `whose`: so that it is found again when that goes.
    fn fd_set_of(&mut self, fd: RawFd, whose: &str) -> String {
        self.option("-add-fd", format!("fd={fd},set={fd},opaque={whose}"));
        format!("/dev/fdset/{fd}")
    }

    /// Makes an fd set of one descriptor, numbered as it; gives its path.
    fn fd_set(&mut self, fd: RawFd) -> String {
        self.option("-add-fd", format!("fd={fd},set={fd}"));
        format!("/dev/fdset/{fd}")
    }
}

#[cfg(test)]
mod tests;
