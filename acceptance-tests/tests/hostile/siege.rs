//! The attacks' common ground: who sends, who listens, what was counted.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::packet::{Ends, Ipv4, ether_type, ethernet, protocol};
use weft_acceptance::{Lab, Wire, binaries, eventually, within};

use crate::counters::Counters;
use crate::site::{OFFICE, OFFICE_LINK, Site};
use crate::table::{Row, Table, Verdict};

/// By how much the agent's memory may grow, in KiB: caches and the allocator's leftovers.
const MEMORY: u64 = 32 << 10;
/// How often a frame is sent that proves that all before it have arrived.
const AGAIN: Duration = Duration::from_millis(250);

/// Who hears a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Victim,
    Stranger,
    Office,
    Attacker,
}

/// Everybody who must not hear an attack.
const OTHERS: [At; 3] = [At::Victim, At::Stranger, At::Office];

pub(crate) struct Siege<'a> {
    lab: &'a Lab,
    pub(crate) site: &'a Site,
    attacker: Wire,
    victim: Wire,
    stranger: Wire,
    office: Wire,
    rows: Vec<Row>,
    family: &'static str,
    marks: u32,
    memory: u64,
}

impl<'a> Siege<'a> {
    pub(crate) fn begin(lab: &'a Lab, site: &'a Site) -> Result<Self> {
        let key = site.key.private.to_str().context("a path of text")?;
        let wire = |name| Wire::in_guest(lab, key, name);
        let (attacker, victim, stranger) = (wire("attacker")?, wire("victim")?, wire("stranger")?);
        let office = Wire::in_namespace("office", &site.office, OFFICE_LINK)?;
        let (rows, family, marks) = (Vec::new(), "", 0);
        let memory = memory(lab)?;
        let mut siege =
            Self { lab, site, attacker, victim, stranger, office, rows, family, marks, memory };
        siege.settle()?;
        Ok(siege)
    }

    /// What the rows that follow have in common.
    pub(crate) fn family(&mut self, family: &'static str) {
        self.family = family;
    }

    pub(crate) fn wire(&mut self, at: At) -> &mut Wire {
        match at {
            At::Attacker => &mut self.attacker,
            At::Victim => &mut self.victim,
            At::Stranger => &mut self.stranger,
            At::Office => &mut self.office,
        }
    }

    /// Bytes by which a frame is known wherever it turns up.
    pub(crate) fn mark(&mut self) -> Vec<u8> {
        self.marks += 1;
        format!("<weft hostile {:06}>", self.marks).into_bytes()
    }

    /// Sends what `frames` makes of the mark: nobody may hear it, and each must be counted by
    /// `counter`.
    pub(crate) fn attack(
        &mut self,
        name: &str,
        counter: &str,
        frames: impl FnOnce(&Site, &[u8]) -> Vec<Vec<u8>>,
    ) -> Result<()> {
        self.flood(name, counter, 3, frames)
    }

    /// As [`Siege::attack`], each frame so many times.
    pub(crate) fn flood(
        &mut self,
        name: &str,
        counter: &str,
        times: u32,
        frames: impl FnOnce(&Site, &[u8]) -> Vec<Vec<u8>>,
    ) -> Result<()> {
        let mark = self.mark();
        let frames = frames(self.site, &mark);
        self.measure(name, counter, |siege| {
            let sent = siege.attacker.send(&frames, times)?;
            siege.settle()?;
            let mut passed = 0;
            for at in OTHERS {
                passed += siege.wire(at).heard(&mark)?;
            }
            Ok((sent, passed))
        })
    }

    /// Sends what must arrive `at` one of them and nowhere else, as often as it was sent: the proof
    /// that an attack's method would see success, or what is allowed on purpose, and why.
    pub(crate) fn passes(
        &mut self,
        name: &str,
        why: &'static str,
        at: At,
        frames: impl FnOnce(&Site, &[u8]) -> Vec<Vec<u8>>,
    ) -> Result<()> {
        let mark = self.mark();
        let frames = frames(self.site, &mark);
        let marked = frames.len().try_into()?;
        self.arrives(name, why, at, &mark, &frames, marked)
    }

    /// Sends `frames`, of which `marked` have the mark when they arrive.
    fn arrives(
        &mut self,
        name: &str,
        why: &'static str,
        at: At,
        mark: &[u8],
        frames: &[Vec<u8>],
        marked: u64,
    ) -> Result<()> {
        let sent = self.attacker.send(frames, 1)?;
        self.settle()?;
        let deadline = Instant::now() + within();
        let mut passed = self.wire(at).heard(mark)?;
        while passed == 0 && Instant::now() < deadline {
            passed = self.wire(at).heard(mark)?;
        }
        for other in OTHERS.into_iter().filter(|other| *other != at) {
            ensure!(self.wire(other).heard(mark)? == 0, "{name}: heard at {other:?} too");
        }
        let verdict = Verdict::Passed { why, expected: marked };
        self.row(name, sent, passed, verdict, String::new());
        Ok(())
    }

    /// As [`Siege::passes`] to the victim, of fragments of which one has the mark.
    pub(crate) fn whole(
        &mut self,
        name: &str,
        why: &'static str,
        frames: impl FnOnce(&Site, &[u8]) -> Vec<Vec<u8>>,
    ) -> Result<()> {
        let mark = self.mark();
        let frames = frames(self.site, &mark);
        self.arrives(name, why, At::Victim, &mark, &frames, 1)
    }

    /// Carries out an attack of its own kind, which tells how much was sent and has passed; each
    /// must be counted by `counter`.
    pub(crate) fn measure(
        &mut self,
        name: &str,
        counter: &str,
        attack: impl FnOnce(&mut Self) -> Result<(u64, u64)>,
    ) -> Result<()> {
        let before = self.counters(counter)?;
        let (sent, passed) = attack(self).with_context(|| name.to_owned())?;
        let after = self.counters(counter)?;
        let counted = after.growth(&before, counter);
        let verdict = Verdict::Dropped { counter: counter.to_owned(), counted };
        self.row(name, sent, passed, verdict, after.moved(&before));
        Ok(())
    }

    /// The proof that an attack's method would see success, which tells how much was tried and has
    /// succeeded.
    pub(crate) fn control(
        &mut self,
        name: &str,
        honest: impl FnOnce(&mut Self) -> Result<(u64, u64)>,
    ) -> Result<()> {
        self.allowed(name, "control", honest)
    }

    /// What is allowed on purpose, and why.
    pub(crate) fn allowed(
        &mut self,
        name: &str,
        why: &'static str,
        honest: impl FnOnce(&mut Self) -> Result<(u64, u64)>,
    ) -> Result<()> {
        let (sent, passed) = honest(self).with_context(|| name.to_owned())?;
        self.row(name, sent, passed, Verdict::Passed { why, expected: sent }, String::new());
        Ok(())
    }

    /// An attack that nobody has to drop.
    pub(crate) fn harmless(
        &mut self,
        name: &str,
        why: &'static str,
        attack: impl FnOnce(&mut Self) -> Result<(u64, u64)>,
    ) -> Result<()> {
        let (sent, passed) = attack(self).with_context(|| name.to_owned())?;
        self.row(name, sent, passed, Verdict::Harmless { why }, String::new());
        Ok(())
    }

    fn row(&mut self, name: &str, sent: u64, passed: u64, verdict: Verdict, moved: String) {
        let row = Row { family: self.family, name: name.to_owned(), sent, passed, verdict, moved };
        // A test's output is shown when it fails: also how far it came.
        eprint!("{row}");
        self.rows.push(row);
    }

    fn counters(&self, counter: &str) -> Result<Counters> {
        let mac = self.site.router_mac().map(|byte| format!("{byte:02x}")).join(":");
        Counters::read(self.lab, &self.site.vpc, &mac, counter)
    }

    /// What the attacker's namespace says to a command.
    pub(crate) fn in_network(&self, words: &[&str]) -> Result<String> {
        self.lab.in_network_of(&self.site.vpc, words)
    }

    /// What the stranger's namespace says to a command.
    pub(crate) fn in_other_network(&self, words: &[&str]) -> Result<String> {
        self.lab.in_network_of(&self.site.other_vpc, words)
    }

    /// What the host says to a command.
    pub(crate) fn on_host(&self, words: &[&str]) -> Result<String> {
        self.lab.outside()?.output(words)
    }

    /// Waits until one of them has heard a frame with these bytes, which must come.
    pub(crate) fn hears(&mut self, at: At, needle: &[u8]) -> Result<()> {
        let wire = self.wire(at);
        let heard = || Ok((wire.heard(needle)? > 0).then_some(()));
        eventually(&format!("{at:?} hears an answer"), within(), heard)
    }

    /// Waits until honest datagrams of the attacker's, to its victim and to the office, arrive:
    /// nothing overtakes on the way, so what was sent before has arrived, or never will. And the
    /// attacker has not cut itself off, which would make the next attack look vain.
    pub(crate) fn settle(&mut self) -> Result<()> {
        for (at, to) in [(At::Victim, self.site.victim.address), (At::Office, OFFICE)] {
            let mark = self.mark();
            let (from, mac) = (self.site.attacker.address, self.site.attacker.mac);
            let udp = Ends::V4(from, to).udp(9, 9, &mark);
            let packet = Ipv4::new(from, to, protocol::UDP, udp).bytes();
            let frame = ethernet(self.site.router_mac(), mac, ether_type::IPV4, &packet);
            let deadline = Instant::now() + within();
            loop {
                self.attacker.send(std::slice::from_ref(&frame), 1)?;
                let again = Instant::now() + AGAIN;
                let mut heard = 0;
                while heard == 0 && Instant::now() < again {
                    heard = self.wire(at).heard(&mark)?;
                }
                if heard > 0 {
                    break;
                }
                ensure!(Instant::now() < deadline, "an honest datagram does not reach {at:?}");
            }
        }
        Ok(())
    }

    /// Judges all rows, tells them, and looks whether anything suffered.
    pub(crate) fn end(self) -> Result<()> {
        let table = Table(&self.rows).to_string();
        let target = binaries()?;
        let path = target.parent().context("no directory above the binaries")?;
        std::fs::write(path.join("hostile-guest.md"), &table)?;
        let wrong: Vec<_> = self.rows.iter().filter(|row| !row.is_right()).collect();
        let told: Vec<_> =
            wrong.iter().map(|row| format!("{}what moved: {}", **row, row.moved)).collect();
        ensure!(wrong.is_empty(), "not as it must be:\n{}", told.join("\n"));
        ensure!(self.lab.count("instances")? == 3, "the agent lost a guest");
        let grown = memory(self.lab)?.saturating_sub(self.memory);
        ensure!(grown < MEMORY, "the agent's memory grew by {grown} KiB");
        Ok(())
    }
}

/// What the agent has in memory, in KiB.
fn memory(lab: &Lab) -> Result<u64> {
    let agent = lab.processes().into_iter().find(|process| process.command.contains(" serve "));
    let pid = agent.context("the agent does not run")?.pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
