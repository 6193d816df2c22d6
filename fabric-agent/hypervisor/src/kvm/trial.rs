//! A virtual machine with one processor that counts down, watched from outside.

#![expect(unsafe_code, reason = "guest memory and a signal to one thread")]

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// How long an interrupted processor may take to come back.
const GRACE: Duration = Duration::from_millis(300);
/// The signal is sent again and again: one that comes just before KVM_RUN is lost.
const KICK_INTERVAL: Duration = Duration::from_millis(5);
/// Ends KVM_RUN with EINTR; nothing else in the agent uses it.
const KICK: Signal = Signal::SIGURG;

/// One page of page tables maps this much, and it is all that the guest has.
const MEMORY_BYTES: usize = 2 << 20;
const CODE: usize = 0x1000;
const PAGE_TABLES: usize = 0x9000;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// The loop ended.
    Finished { best: Duration, instructions: u64 },
    /// The deadline came first.
    Interrupted { after: Duration, instructions: u64 },
    /// The deadline came first and the processor did not come back.
    Hung { after: Duration },
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrialError {
    #[error("{step}")]
    Step {
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the guest left its loop with {exit}")]
    Exit { exit: String },
    #[error("the thread that ran the guest ended early")]
    Thread,
}

impl TrialError {
    pub(super) fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Step { source, .. } => Some(source.kind()),
            Self::Exit { .. } | Self::Thread => None,
        }
    }
}

fn at(step: &'static str) -> impl Fn(kvm_ioctls::Error) -> TrialError {
    move |error| TrialError::Step { step, source: io::Error::from_raw_os_error(error.errno()) }
}

/// Runs the loop up to `runs` times, until one is done or the deadline is over.
pub(super) fn run(iterations: u32, runs: u32, deadline: Duration) -> Result<Trial, TrialError> {
    let action = SigAction::new(SigHandler::Handler(on_kick), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it is safe at any point of any thread.
    unsafe { sigaction(KICK, &action) }.map_err(|errno| TrialError::Step {
        step: "install a signal handler",
        source: errno.into(),
    })?;
    let started = Instant::now();
    let (send_result, result) = mpsc::channel();
    let worker = thread::Builder::new()
        .name("kvm-probe".to_owned())
        .spawn(move || {
            // Nobody listens any more when the processor did not come back in time.
            let _ = send_result.send(measure(iterations, runs, started + deadline));
        })
        .map_err(|source| TrialError::Step { step: "start a thread", source })?;
    // The worker is never joined: it may be stuck in the kernel.
    loop {
        let spent = started.elapsed();
        let wait = deadline.checked_sub(spent).unwrap_or(KICK_INTERVAL);
        match result.recv_timeout(wait) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => return Err(TrialError::Thread),
            Err(RecvTimeoutError::Timeout) if spent > deadline + GRACE => {
                return Ok(Trial::Hung { after: spent });
            }
            // SAFETY: a thread that is neither joined nor detached keeps its id, even when it has
            // ended, and `worker` is dropped only after this loop.
            Err(RecvTimeoutError::Timeout) => unsafe {
                libc::pthread_kill(worker.as_pthread_t(), KICK as libc::c_int);
            },
        }
    }
}

extern "C" fn on_kick(_: libc::c_int) {}

fn measure(iterations: u32, runs: u32, until: Instant) -> Result<Trial, TrialError> {
    let mut machine = Machine::new(iterations)?;
    let instructions = 2 * u64::from(iterations);
    let mut best: Option<Duration> = None;
    for _ in 0..runs {
        machine.rewind()?;
        let run_started = Instant::now();
        let done = machine.run_until(until)?;
        let took = run_started.elapsed();
        match (done, best) {
            (true, _) => best = Some(best.map_or(took, |best| best.min(took))),
            (false, Some(_)) => break,
            (false, None) => {
                let left = machine.vcpu.get_regs().map_err(at("read the registers"))?.rcx;
                let instructions = 2 * u64::from(iterations).saturating_sub(left);
                return Ok(Trial::Interrupted { after: took, instructions });
            }
        }
    }
    let no_run = || TrialError::Exit { exit: "no run at all".to_owned() };
    Ok(Trial::Finished { best: best.ok_or_else(no_run)?, instructions })
}

/// The fields drop in this order: the processor, the machine, and only then the memory it uses.
struct Machine {
    vcpu: VcpuFd,
    _vm: VmFd,
    _memory: Memory,
}

impl Machine {
    fn new(iterations: u32) -> Result<Self, TrialError> {
        let kvm = Kvm::new().map_err(at("open /dev/kvm"))?;
        let vm = kvm.create_vm().map_err(at("create a virtual machine"))?;
        let memory = Memory::new()
            .map_err(|source| TrialError::Step { step: "allocate guest memory", source })?;
        memory.write(PAGE_TABLES, &((PAGE_TABLES as u64 + 0x1000) | 3).to_le_bytes());
        memory.write(PAGE_TABLES + 0x1000, &((PAGE_TABLES as u64 + 0x2000) | 3).to_le_bytes());
        // One 2 MiB page: present, writable, "page size" set (Intel SDM volume 3, table 4-18).
        memory.write(PAGE_TABLES + 0x2000, &0x83_u64.to_le_bytes());
        let mut code = vec![0xb9]; // mov ecx, iterations
        code.extend(iterations.to_le_bytes());
        code.extend([0xff, 0xc9]); // dec ecx
        code.extend([0x75, 0xfc]); // jnz to dec
        code.push(0xf4); // hlt
        memory.write(CODE, &code);
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY_BYTES as u64,
            userspace_addr: memory.0 as u64,
        };
        // SAFETY: the memory outlives the machine (field order) and is used through raw writes only.
        unsafe { vm.set_user_memory_region(region) }.map_err(at("give the guest memory"))?;
        let vcpu = vm.create_vcpu(0).map_err(at("create a processor"))?;
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(at("read CPUID"))?;
        vcpu.set_cpuid2(&cpuid).map_err(at("set CPUID"))?;
        let mut sregs = vcpu.get_sregs().map_err(at("read system registers"))?;
        let code = kvm_segment {
            limit: u32::MAX,
            selector: 8,
            type_: 11,
            present: 1,
            s: 1,
            l: 1,
            g: 1,
            ..Default::default()
        };
        let data = kvm_segment { type_: 3, l: 0, db: 1, selector: 16, ..code };
        (sregs.cs, sregs.ds, sregs.es, sregs.ss) = (code, data, data, data);
        (sregs.fs, sregs.gs) = (data, data);
        sregs.cr3 = PAGE_TABLES as u64;
        sregs.cr4 = 1 << 5; // PAE
        sregs.cr0 = 0x8005_0033; // PG, AM, WP, NE, ET, MP, PE
        sregs.efer = 0x500; // LME, LMA
        vcpu.set_sregs(&sregs).map_err(at("set system registers"))?;
        Ok(Self { vcpu, _vm: vm, _memory: memory })
    }

    fn rewind(&mut self) -> Result<(), TrialError> {
        let regs = kvm_regs { rip: CODE as u64, rflags: 2, rsp: 0x8000, ..Default::default() };
        self.vcpu.set_regs(&regs).map_err(at("set the registers"))
    }

    /// Whether the loop ended; false when a signal came at or after `until`.
    fn run_until(&mut self, until: Instant) -> Result<bool, TrialError> {
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::Hlt) => return Ok(true),
                Ok(other) => return Err(TrialError::Exit { exit: format!("{other:?}") }),
                // Any signal of the process may land here; the guest goes on where it was.
                Err(error) if error.errno() == libc::EINTR => {
                    if Instant::now() >= until {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(at("run the guest")(error)),
            }
        }
    }
}

struct Memory(*mut libc::c_void);

impl Memory {
    fn new() -> io::Result<Self> {
        // SAFETY: a new private mapping touches no existing memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MEMORY_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(start)) }
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= MEMORY_BYTES, "the guest's memory is larger than its code");
        // SAFETY: inside the mapping, as just checked, and not yet shared with a processor.
        unsafe {
            let target = self.0.cast::<u8>().add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`, used by nobody any more.
        unsafe { libc::munmap(self.0, MEMORY_BYTES) };
    }
}
