//! `hold_netns RECORD`: what `fabric-agent hold-netns` does, for this crate's tests.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let record = std::env::args_os().nth(1).ok_or("usage: hold_netns RECORD")?;
    weft_network::holder::run(&weft_network::HolderArgs { record: record.into() })?;
    Ok(())
}
