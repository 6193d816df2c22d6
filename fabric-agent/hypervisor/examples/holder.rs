//! The smallest program that can hold a guest, and the smallest agent: for tests and by hand.
//!
//! `holder hold SPEC` holds the guest of a specification. `holder launch ROOT SPEC` is an agent
//! that launches a guest below ROOT, says so and then waits to be killed.

use std::path::Path;
use std::process::ExitCode;

use weft_hypervisor::{GuestSpec, Guests, HolderCommand, holder};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["hold", spec] => holder::run(Path::new(spec), None),
        ["hold", spec, HolderCommand::SECRETS, fd] => match fd.parse() {
            Ok(fd) => holder::run(Path::new(spec), Some(fd)),
            Err(_) => ExitCode::FAILURE,
        },
        ["launch", root, spec] => launch(root, spec),
        _ => {
            eprintln!("usage: holder hold SPEC | holder launch ROOT SPEC");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn launch(root: &str, spec: &str) -> ExitCode {
    match try_launch(root, spec).await {
        Ok(()) => std::future::pending().await,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn try_launch(root: &str, spec: &str) -> Result<(), Box<dyn std::error::Error>> {
    let spec: GuestSpec = serde_json::from_slice(&std::fs::read(spec)?)?;
    let program = std::env::current_exe()?;
    let holder = HolderCommand { program, args: vec!["hold".to_owned()] };
    Guests::new(root).launch(&spec, &holder).await?;
    eprintln!("launched");
    Ok(())
}
