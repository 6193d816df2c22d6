//! `weft export`: configuration for what exists.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use terraform_provider_weft::export::{self, Exported};
use weft_model::{Problem, Reason};
use weft_proto::client::Endpoint;

use crate::failure::Failure;
use crate::output::print;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    form: Form,
}

#[derive(Debug, clap::Subcommand)]
enum Form {
    /// Write configuration and import blocks for what exists, so that terraform plan only imports
    Terraform(TerraformArgs),
}

#[derive(Debug, clap::Args)]
struct TerraformArgs {
    /// Which kinds of resources; all unless said otherwise
    #[arg(value_name = "KIND", value_parser = kind())]
    kinds: Vec<String>,
    /// The directory for versions.tf, main.tf and imports.tf, none of which may be there yet;
    /// without it, everything is printed
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Takes several of a kind, and hyphens, too.
fn kind() -> impl TypedValueParser<Value = String> {
    let values = export::kinds().into_iter().map(|kind| {
        let several = format!("{kind}s");
        let words = [several.replace('_', "-"), kind.replace('_', "-"), several];
        PossibleValue::new(kind).aliases(words)
    });
    PossibleValuesParser::new(values).map(|word| word.trim_end_matches('s').replace('-', "_"))
}

pub(crate) async fn run(endpoint: &Endpoint, args: &Args) -> Result<ExitCode, Failure> {
    let Form::Terraform(args) = &args.form;
    let exported = export::terraform(endpoint.clone(), &args.kinds).await?;
    match &args.out {
        None => print(all(&exported))?,
        Some(directory) => {
            write(directory, &exported)?;
            let does = match exported.retagged {
                0 => "only imports".to_owned(),
                some => format!(
                    "imports, and changes {some} of them: tags from the default_tags of several \
                     configurations become their own"
                ),
            };
            let said = format!(
                "{} resources in {}\nRun there: terraform init, terraform plan, and terraform apply, \
                 which {does}. Remove imports.tf afterwards.\n",
                exported.count,
                directory.display()
            );
            print(said)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn files(exported: &Exported) -> [(&'static str, &str); 3] {
    [
        ("versions.tf", &exported.versions),
        ("main.tf", &exported.main),
        ("imports.tf", &exported.imports),
    ]
}

fn all(exported: &Exported) -> String {
    let texts = files(exported).map(|(_, text)| text);
    texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Nothing that is there is written over, and what is there already is said before anything is
/// written.
fn write(directory: &Path, exported: &Exported) -> Result<(), Failure> {
    let failed = |path: &Path, error: &std::io::Error| {
        Problem::new(Reason::FailedPrecondition, format!("cannot write {}", path.display()))
            .evidence(error.to_string())
    };
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
    for (name, _) in files(exported) {
        let path = directory.join(name);
        if path.exists() {
            let message = format!("{} is there already", path.display());
            return Err(Problem::new(Reason::AlreadyExists, message)
                .remedy("name another directory with --out, or move the file away")
                .into());
        }
    }
    for (name, text) in files(exported) {
        let path = directory.join(name);
        // There may be secrets in it: user data are.
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&path).map_err(|error| failed(&path, &error))?;
        file.write_all(text.as_bytes()).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}
