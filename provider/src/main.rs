//! `terraform-provider-weft`: started by Terraform, or by hand with `--debug`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use terraform_provider_weft::{ADDRESS, Weft, documents};
use tfplugin::docs;

const USAGE: &str = "terraform starts this program by itself.\n\n\
    --debug      serve for a debugger, and print TF_REATTACH_PROVIDERS\n\
    --version    print the version\n";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        // `serve` looks at `--debug` itself.
        [] | ["--debug" | "-debug"] => tfplugin::serve(ADDRESS, Weft::from_environment()).await,
        ["--version"] => say(&format!("terraform-provider-weft {}\n", env!("CARGO_PKG_VERSION"))),
        // Not for users: how the files of docs/ are made.
        ["docs", to, examples] => match render(Path::new(to), Path::new(examples)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&format!("cannot write the documentation to {to}: {error}\n")),
        },
        ["--help" | "-h"] => say(USAGE),
        _ => complain(USAGE),
    }
}

fn render(to: &Path, examples: &Path) -> std::io::Result<()> {
    let options = docs::Options { name: "weft".to_owned(), examples: examples.to_owned() };
    docs::write(&documents(&options)?, to)
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_closed) => ExitCode::FAILURE,
    }
}

fn complain(text: &str) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::FAILURE
}
