//! `weft`: what people do with an agent by hand. Everything goes through the public API.

mod agent;
mod commands;
mod failure;
mod nouns;
mod output;
mod tags;
mod target;

use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use weft_proto::client::{
    CA_CERT_VARIABLE, CLIENT_CERT_VARIABLE, CLIENT_KEY_VARIABLE, Credentials, DEFAULT_ENDPOINT,
    ENDPOINT_VARIABLE, Endpoint, Pem,
};

use crate::agent::Agent;
use crate::commands::login::CONNECTION_FAILED;
use crate::commands::{
    console, copy, doctor, events, exec, export, get, images, logs, ls, power, proxy, remove,
    screenshot, ssh, state, top, usage, vnc, watch,
};
use crate::failure::Failure;
use crate::output::Format;

/// Shows and operates the instances of a Weft agent
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, propagate_version = true)]
struct Cli {
    /// Where the agent listens
    #[arg(
        long,
        global = true,
        env = ENDPOINT_VARIABLE,
        default_value = DEFAULT_ENDPOINT,
        hide_env_values = true
    )]
    endpoint: String,
    /// For https://: the certificate of the CA that signed the agent's (a path, or PEM text)
    #[arg(long, global = true, value_name = "PEM", env = CA_CERT_VARIABLE, hide_env_values = true)]
    ca_cert: Option<String>,
    /// For https://: this client's certificate (a path, or PEM text)
    #[arg(long, global = true, value_name = "PEM", env = CLIENT_CERT_VARIABLE, hide_env_values = true)]
    client_cert: Option<String>,
    /// For https://: the private key of the certificate (a path; in the environment also PEM text)
    #[arg(long, global = true, value_name = "PEM", env = CLIENT_KEY_VARIABLE, hide_env_values = true)]
    client_key: Option<String>,
    /// Print JSON (ls, get, images, exec, watch, events, top, usage, doctor, state ls and state versions)
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List objects of one kind
    Ls(ls::Args),
    /// Show one object
    Get(get::Args),
    /// Show what comes to the agent: downloads and uploads of images, as they go on
    Images(images::Args),
    /// Log in to an instance, or run a command in it
    Ssh(ssh::Args),
    /// Run a command in instances
    Exec(exec::Args),
    /// Copy files and directories into an instance or out of it
    Cp(copy::Args),
    /// Connect standard input and output to a TCP port of an instance (for ssh's ProxyCommand)
    Proxy(proxy::Args),
    /// Start stopped instances
    Start(power::Args),
    /// Shut instances down
    Stop(power::StopArgs),
    /// Save instances' memory and switch them off; weft start goes on from there
    Hibernate(power::Args),
    /// Stop and start instances
    Reboot(power::Args),
    /// Reset instances' machines at once, without asking the guests
    Reset(power::Args),
    /// Remove objects of any kind
    Rm(remove::Args),
    /// Write configuration for what exists
    Export(export::Args),
    /// Use the serial console of an instance; Ctrl-] detaches
    Console(console::Args),
    /// Print the end of an instance's serial console
    Logs(logs::Args),
    /// Save what an instance's display shows, as a PNG
    Screenshot(screenshot::Args),
    /// Let VNC viewers of this machine see and use an instance's display
    Vnc(vnc::Args),
    /// Look for everything that keeps a host from working well. The exit status is 1 if a check
    /// failed; warnings leave it 0
    Doctor,
    /// Print what happened on the host that nobody asked for
    Events(events::Args),
    /// Show what guests use, anew every few seconds
    Top(top::Args),
    /// Print what was used, and what it costs
    Usage(usage::Args),
    /// Show and operate the Terraform states that the agent keeps
    State(state::Args),
    /// Print changes as they happen
    Watch(watch::Args),
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // A variable without a value is unset, as it is to the provider; an argument without one is a mistake.
    let source = matches.value_source("endpoint");
    if cli.endpoint.is_empty() && source == Some(ValueSource::EnvVariable) {
        DEFAULT_ENDPOINT.clone_into(&mut cli.endpoint);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(&Failure::internal("start the runtime", &error)),
    };
    // ssh's own errors are 255, so that they differ from a command's exit status.
    let as_ssh = match &cli.command {
        Command::Ssh(_) => true,
        Command::Exec(args) => args.is_for_one(),
        _ => false,
    };
    let code_of_failure = as_ssh.then_some(CONNECTION_FAILED);
    let code = match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(failure) => match (failure::report(&failure), code_of_failure) {
            (_, Some(code)) if matches!(failure, Failure::Problem(_)) => ExitCode::from(code),
            (code, _) => code,
        },
    };
    // A read of standard input cannot be cancelled: waiting for it would keep the process alive.
    runtime.shutdown_background();
    code
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let endpoint: Endpoint = cli.endpoint.parse().map_err(Failure::Usage)?;
    let pem = |value: &Option<String>| value.as_deref().filter(|v| !v.is_empty()).map(Pem::new);
    let endpoint = endpoint.with(Credentials {
        ca_cert: pem(&cli.ca_cert),
        client_cert: pem(&cli.client_cert),
        client_key: pem(&cli.client_key),
    });
    let format = if cli.json { Format::Json } else { Format::Text };
    // Made when it is awaited: the doctor looks at agents that cannot be connected to.
    let agent = Agent::connect(endpoint.clone());
    match cli.command {
        Command::Ls(args) => ls::run(&agent.await?, &args, format).await,
        Command::Get(args) => get::run(&agent.await?, &args, format).await,
        Command::Images(args) => images::run(&agent.await?, &args, format).await,
        Command::Ssh(args) => ssh::run(&agent.await?, &args).await,
        Command::Exec(args) => exec::run(&agent.await?, &args, format).await,
        Command::Cp(args) => copy::run(&agent.await?, &args).await,
        Command::Proxy(args) => proxy::run(&agent.await?, &args).await,
        Command::Start(args) => power::run(&agent.await?, power::Action::Start, &args).await,
        Command::Stop(args) => {
            let (action, args) = args.split();
            power::run(&agent.await?, action, &args).await
        }
        Command::Reboot(args) => power::run(&agent.await?, power::Action::Reboot, &args).await,
        Command::Hibernate(args) => {
            power::run(&agent.await?, power::Action::Hibernate, &args).await
        }
        Command::Reset(args) => power::run(&agent.await?, power::Action::Reset, &args).await,
        Command::Rm(args) => remove::run(&agent.await?, &args).await,
        Command::Console(args) => match args.token()? {
            Some(token) => console::run_by_token(endpoint, &token, &args).await,
            None => console::run(&agent.await?, &args).await,
        },
        Command::Logs(args) => logs::run(&agent.await?, &args).await,
        Command::Screenshot(args) => screenshot::run(&agent.await?, &args).await,
        Command::Vnc(args) => vnc::run(&agent.await?, &args).await,
        Command::Events(args) => events::run(&agent.await?, &args, format).await,
        Command::Top(args) => top::run(&agent.await?, &args, format).await,
        Command::Usage(args) => usage::run(&agent.await?, &args, format).await,
        Command::State(args) => state::run(&agent.await?, &args, format).await,
        Command::Watch(args) => watch::run(&agent.await?, &args, format).await,
        Command::Export(args) => export::run(&endpoint, &args).await,
        Command::Doctor => doctor::run(&endpoint, format).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
