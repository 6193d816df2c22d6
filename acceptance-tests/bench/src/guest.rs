//! How fast a guest comes up: Weft's Create beside the same QEMU command line run by hand.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use weft_acceptance::NetNs;
use weft_proto::v1;

use crate::by_hand::ByHand;
use crate::fabric::Fabric;
use crate::report::{Line, Report, Verdict};
use crate::samples::{Samples, milliseconds};

/// How long a guest may take before it counts as dead.
const PATIENCE: Duration = Duration::from_secs(120);

const WHY_RUNNING: &str = "most of it is QEMU's own start (beside it: the same command line by hand, \
    from exec until QEMU says that the guest runs). The rest is two more processes, qemu-img for \
    the root disk and the holder that QEMU is a child of, and a transaction of nftables. Tried: \
    disk, seed and network are prepared at the same time (they were made one after the other, 121 \
    ms), and the guest is looked at every 2 ms instead of 10. Not tried: writing the overlay's \
    header without qemu-img.";

pub(crate) fn measure(report: &mut Report, runs: usize) -> Result<()> {
    let Some(mut fabric) = Fabric::new("running")? else { return Ok(()) };
    let (mut create, mut running, mut weft) =
        (Samples::default(), Samples::default(), Samples::default());
    let (mut hand, mut hand_running) = (Samples::default(), Samples::default());

    // The first one warms caches for both sides.
    let first = fabric.api.create(&fabric.wish)?;
    let (id, address) = id_and_address(&first)?;
    await_banner(fabric.lab.outside()?, address)?;
    fabric.lab.weft(&["rm", &id])?.success()?;

    for _ in 0..runs {
        let start = Instant::now();
        let made = fabric.api.create(&fabric.wish)?;
        create.push(milliseconds(start.elapsed()));
        let (id, address) = id_and_address(&made)?;
        fabric.api.wait_running(&id)?;
        running.push(milliseconds(start.elapsed()));
        await_banner(fabric.lab.outside()?, address)?;
        weft.push(start.elapsed().as_secs_f64());

        // The same guest once more, on the same tap: without its agent, which would clear up.
        let by_hand = ByHand::instead_of(&mut fabric.lab, &id)?;
        let start = Instant::now();
        let guest = by_hand.start()?;
        by_hand.await_running().with_context(|| by_hand.said())?;
        hand_running.push(milliseconds(start.elapsed()));
        await_banner(fabric.lab.outside()?, address).with_context(|| by_hand.said())?;
        hand.push(start.elapsed().as_secs_f64());
        guest.end()?;
        fabric.lab.agent().resume()?;
        fabric.lab.weft(&["rm", &id])?.success()?;
    }
    let ratio = weft.ratio_to(&hand);
    report.add(Line {
        what: "from the API's Create to the SSH banner, small guest".to_owned(),
        budget: "at most 1.10 x the same QEMU command line by hand".to_owned(),
        figure: format!("{ratio:.2} x"),
        beside: format!("Weft {weft}; by hand {hand}"),
        verdict: Verdict::of(ratio <= 1.10),
        why: "",
    });
    report.add(Line {
        what: "from Create received to guest running, in an existing VPC".to_owned(),
        budget: "at most 80 ms".to_owned(),
        figure: format!("{:.0} ms", running.median()),
        beside: format!(
            "as the client sees it {}; Create itself answers after {}; QEMU by hand runs {} after \
             its exec",
            running.show("ms", 0),
            create.show("ms", 1),
            hand_running.show("ms", 0)
        ),
        verdict: Verdict::of(running.median() <= 80.0),
        why: WHY_RUNNING,
    });
    fabric.lab.close()
}

pub(crate) fn id_and_address(instance: &v1::Instance) -> Result<(String, Ipv4Addr)> {
    let metadata = instance.metadata.as_ref().context("the instance has no metadata")?;
    let spec = instance.spec.as_ref().context("the instance has no specification")?;
    let address = spec.private_ip.as_deref().context("the instance has no address")?;
    Ok((metadata.id.clone(), address.parse()?))
}

/// Returns when an SSH server has said who it is. Looks often: the interval is part of the figure.
pub(crate) fn await_banner(outside: &NetNs, address: Ipv4Addr) -> Result<()> {
    let start = Instant::now();
    let target = SocketAddr::from((address, 22));
    while start.elapsed() < PATIENCE {
        if let Ok(mut stream) = outside.connect(target, Duration::from_millis(50))? {
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut banner = [0; 4];
            if stream.read_exact(&mut banner).is_ok() && banner == *b"SSH-" {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("{address} showed no SSH banner in {} s", PATIENCE.as_secs())
}
