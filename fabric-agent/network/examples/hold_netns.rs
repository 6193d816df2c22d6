//! `hold_netns RECORD [--join PATH]`: what `fabric-agent hold-netns` does, for this crate's tests.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let record = args.next().ok_or("usage: hold_netns RECORD [--join PATH]")?.into();
    let join = args.nth(1).map(PathBuf::from);
    weft_network::holder::run(&weft_network::HolderArgs { record, join })?;
    Ok(())
}
