//! A place to run guests in, and boot sectors to run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weft_hypervisor::{
    Accel, BackingImage, Boot, Cgroups, GuestIdentity, GuestObservation, GuestSpec, GuestUuid,
    Guests, HolderCommand, QemuBinary, RootDisk,
};
use weft_model::{DiskFormat, InstanceId};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Assembled by hand; offsets are from 0x7c00, all in 16-bit mode.
pub(crate) mod boot_sector {
    /// Writes "hello\n" to the first serial port and halts for good.
    pub(crate) const HELLO: &[u8] = &[
        0xfa, // cli
        0xbe, 0x13, 0x7c, // mov si, text
        0x31, 0xc0, 0x8e, 0xd8, // xor ax, ax; mov ds, ax
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x0a, // jz halt
        0xee, // out dx, al
        0xeb, 0xf8, // jmp next
        b'h', b'e', b'l', b'l', b'o', b'\n', 0,    // text
        0xf4, // halt: hlt
        0xeb, 0xfd, // jmp halt
    ];
    /// Writes "x" to the first serial port for ever.
    pub(crate) const FLOOD: &[u8] = &[
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xb0, b'x', // mov al, 'x'
        0xee, // again: out dx, al
        0xeb, 0xfd, // jmp again
    ];
    /// Sends back each byte that the first serial port receives, plus one.
    pub(crate) const ECHO: &[u8] = &[
        0xba, 0xfd, 0x03, // again: mov dx, 0x3fd (line status)
        0xec, // in al, dx
        0xa8, 0x01, // test al, 1 (data ready)
        0x74, 0xf8, // jz again
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xec, // in al, dx
        0xfe, 0xc0, // inc al
        0xee, // out dx, al
        0xeb, 0xef, // jmp again
    ];
    /// Switches the machine off through ACPI: SLP_EN with type 0 to PM1a control, which SeaBIOS
    /// puts at 0x604 on q35 (`PORT_ACPI_PM_BASE` in its src/config.h).
    pub(crate) const POWER_OFF: &[u8] = &[
        0xba, 0x04, 0x06, // mov dx, 0x604
        0xb8, 0x00, 0x20, // mov ax, 0x2000
        0xef, // out dx, ax
        0xf4, // hlt
    ];
}

/// A kernel that writes "kernel\n" to the first serial port and halts: the least that passes for a
/// bzImage (Linux `Documentation/arch/x86/boot.rst`), with code in its real-mode part.
pub(crate) fn tiny_kernel() -> Vec<u8> {
    let mut image = vec![0; 6 * 512];
    let mut put = |offset: usize, bytes: &[u8]| {
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0x1f1, &[4]); // setup_sects
    put(0x1fe, &[0x55, 0xaa]); // boot_flag
    put(0x200, &[0xeb, 0x7e]); // jmp to 0x280
    put(0x202, b"HdrS");
    put(0x206, &[0x02, 0x02]); // protocol 2.02
    put(0x211, &[1]); // LOADED_HIGH
    // The code segment starts at 0x200, so this is its offset 0x80.
    put(
        0x280,
        &[
            0xfa, // cli
            0xbe, 0x90, 0x00, // mov si, text
            0xba, 0xf8, 0x03, // mov dx, 0x3f8
            0x2e, 0xac, // next: cs lodsb
            0x84, 0xc0, // test al, al
            0x74, 0x0b, // jz halt
            0xee, // out dx, al
            0xeb, 0xf7, // jmp next
            b'k', b'e', b'r', b'n', b'e', b'l', b'\n', 0,    // text
            0xf4, // halt: hlt
            0xeb, 0xfd, // jmp halt
        ],
    );
    image
}

/// One directory of guests with the disks they need; everything is purged at the end.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) guests: Guests,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Bench {
    /// None, loudly, where guests cannot be started.
    pub(crate) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: guests have users of their own, which takes root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let guests = Guests::new(dir.path().join("guests"));
        Some(Self { dir, guests })
    }

    /// The same, with guests in control groups; none, loudly, where there are none.
    pub(crate) fn limited(prefix: &str) -> Option<Self> {
        let mut bench = Self::new()?;
        let cgroups = Cgroups::prepare(prefix);
        if let Err(why) = cgroups.explain() {
            println!("SKIPPED: {why}");
            return None;
        }
        bench.guests = Guests::in_cgroups(bench.dir.path().join("guests"), cgroups);
        Some(bench)
    }

    /// A guest that runs `code` from the boot sector of its image.
    pub(crate) fn spec(&self, code: &[u8]) -> GuestSpec {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let seed = std::process::id().wrapping_mul(64).wrapping_add(number);
        let mut random = [7; 16];
        random[..4].copy_from_slice(&seed.to_be_bytes());
        let mut short = [7; 9];
        short.copy_from_slice(&random[..9]);

        let mut image = vec![0; 1 << 20];
        image[..code.len()].copy_from_slice(code);
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        let backing = self.dir.path().join(format!("image-{number}.raw"));
        let overlay = self.dir.path().join(format!("root-{number}.qcow2"));
        fs::write(&backing, image).unwrap();
        let mut qemu_img = Command::new("qemu-img");
        qemu_img.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(&backing);
        assert!(qemu_img.arg(&overlay).status().unwrap().success());
        for file in [&backing, &overlay] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(file, mode).unwrap();
        }
        GuestSpec {
            instance_id: InstanceId::from_random(short),
            epoch: 3,
            uuid: GuestUuid::from_random(random),
            name: format!("guest, number {number}"),
            uid: 1_900_000_000 + (seed & 0xffff),
            qemu: QemuBinary::detect().unwrap(),
            vcpus: 1,
            memory_mib: 64,
            maxima: Default::default(),
            parts: Default::default(),
            accel: Accel::Tcg { tb_size_mib: 32 },
            boot: Boot::Bios,
            root: RootDisk {
                layers: Vec::new(),
                overlay,
                backing: BackingImage { path: backing, format: DiskFormat::Raw },
            },
            seed: None,
            credentials: None,
            volumes: Vec::new(),
            resume: None,
            display: false,
            guest_agent: false,
            nics: Vec::new(),
        }
    }

    pub(crate) async fn launch(&self, code: &[u8]) -> GuestSpec {
        let spec = self.spec(code);
        self.guests.launch(&spec, &holder()).await.unwrap();
        spec
    }

    /// The same directory in the eyes of another agent.
    pub(crate) fn other_agent(&self) -> Guests {
        Guests::new(self.dir.path().join("guests"))
    }

    pub(crate) async fn console_contains(&self, id: &InstanceId, want: &str) {
        wait_for(want, async || {
            let tail = self.guests.console_tail(id, 4096).unwrap();
            String::from_utf8_lossy(&tail).contains(want).then_some(())
        })
        .await;
    }

    pub(crate) async fn running(&self, id: &InstanceId) -> GuestIdentity {
        match self.guests.observe(id).await.unwrap() {
            GuestObservation::Running { guest } => guest,
            other => panic!("{id} should run: {other:?}"),
        }
    }

    /// Ends everything; a test that fails earlier leaves that to [`Drop`].
    pub(crate) async fn finish(self) {
        for id in self.guests.list().unwrap() {
            self.guests.purge(&id).await.unwrap();
            assert_eq!(self.guests.observe(&id).await.unwrap(), GuestObservation::Absent);
        }
        assert_eq!(self.guests.list().unwrap(), []);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for id in self.guests.list().unwrap_or_default() {
            for record in ["guest.json", "holder.json"] {
                let path = self.guests.dir(&id).join(record);
                let Ok(text) = fs::read(path) else { continue };
                let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
                let value = value.get("qemu").unwrap_or(&value).clone();
                let process: weft_hypervisor::ProcessIdentity =
                    serde_json::from_value(value).unwrap();
                if process.is_alive() {
                    kill(process.pid);
                }
            }
        }
    }
}

/// Calls `look` until it finds something.
pub(crate) async fn wait_for<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn kill(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// The example program: cargo builds it next to the tests.
pub(crate) fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let example = target.join("examples/holder");
    assert!(example.exists(), "build it first: cargo build -p weft-hypervisor --example holder");
    example
}

pub(crate) fn holder() -> HolderCommand {
    HolderCommand { program: example(), args: vec!["hold".to_owned()] }
}
