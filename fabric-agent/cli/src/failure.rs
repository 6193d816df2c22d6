//! Why a command failed, how people are told, and the exit status.

use std::io::Write as _;
use std::process::ExitCode;

use weft_model::{Problem, Reason};

use crate::output::clean;

/// The exit status of a wrong command line, as clap's.
const USAGE: u8 = 2;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The agent, or this program, says why.
    Problem(Problem),
    /// The command line or the environment is wrong.
    Usage(Problem),
    /// Standard output could not be written.
    Output(std::io::Error),
}

impl Failure {
    /// A fault of this machine while doing `what`.
    pub(crate) fn internal(what: &str, error: &dyn std::error::Error) -> Self {
        Problem::new(Reason::Internal, format!("cannot {what}")).evidence(error.to_string()).into()
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        weft_proto::problem_from_status(&status).into()
    }
}

/// Tells people on standard error; the exit status is the answer.
pub(crate) fn report(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Problem(problem) => {
            report_problem(problem);
            ExitCode::FAILURE
        }
        Failure::Usage(problem) => {
            report_problem(problem);
            ExitCode::from(USAGE)
        }
        // The reader has seen enough (`weft ls | head`).
        Failure::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Failure::Output(error) => {
            report_problem(
                &Problem::new(Reason::Internal, "cannot write to standard output")
                    .evidence(error.to_string()),
            );
            ExitCode::FAILURE
        }
    }
}

/// Tells people on standard error.
pub(crate) fn report_problem(problem: &Problem) {
    // Nobody is left to be told when standard error is gone.
    let _ = std::io::stderr().lock().write_all(render(problem).as_bytes());
}

fn render(problem: &Problem) -> String {
    let mut text = format!("error: {}\n", clean(&problem.message));
    if let Some(field) = &problem.field {
        text.push_str(&format!("  at: {}\n", clean(field)));
    }
    // Evidence may be a guest's own words: no terminal escapes get through.
    for line in problem.evidence.iter().flat_map(|evidence| evidence.lines()) {
        text.push_str(&format!("  evidence: {}\n", clean(line)));
    }
    if let Some(remedy) = &problem.remedy {
        text.push_str(&format!("  help: {}\n", clean(remedy)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_rendered_with_all_that_is_known() {
        let problem = Problem::invalid("memory_mib", "no room for 4096 MiB")
            .evidence("free: 12 MiB\nconsole: \x1b[2J!")
            .remedy("use a smaller type");
        let want = "error: no room for 4096 MiB\n  at: memory_mib\n  evidence: free: 12 MiB\n  \
                    evidence: console: \\u{1b}[2J!\n  help: use a smaller type\n";
        assert_eq!(render(&problem), want);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        assert_eq!(render(&Problem::not_found("no such key")), "error: no such key\n");
    }
}
