//! `weft logs`: the end of an instance's serial console, byte for byte; to a terminal without what
//! would change the terminal, for the guest decides what is in it.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use weft_proto::v1::ConsoleTailRequest;

use crate::agent::Agent;
use crate::failure::Failure;
use crate::{output, target};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An id or a unique name
    instance: String,
    /// How many bytes at most
    #[arg(short = 'n', long, value_name = "BYTES", default_value_t = 64 * 1024)]
    bytes: u32,
}

pub(crate) async fn run(agent: &Agent, args: &Args) -> Result<ExitCode, Failure> {
    let id = target::instance(agent, &args.instance).await?.object.id;
    let request = ConsoleTailRequest { id: id.to_string(), max_bytes: args.bytes };
    let data = agent.instances().console_tail(request).await?.into_inner().data;
    match std::io::stdout().is_terminal() {
        true => output::print(without_control(&data))?,
        false => output::print(data)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Without escape sequences and control characters, but for the ends of lines and tabs.
fn without_control(data: &[u8]) -> Vec<u8> {
    let plain = anstream::adapter::strip_bytes(data).into_vec();
    let harmless = |byte: &u8| matches!(byte, b'\n' | b'\t') || !byte.is_ascii_control();
    plain.into_iter().filter(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_changes_nothing_of_the_terminal() {
        let said = b"\x1b]0;owned\x07\x1b[31mred\x1b[0m\r\n\x1b[6nlog\x08in:\t\xc3\xbc\n";
        assert_eq!(without_control(said), "red\nlogin:\tü\n".as_bytes());
    }
}
