//! Problems as `google.rpc.Status` with details, and back.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use weft_model::{Problem, Reason};

const DOMAIN: &str = "weft.v1";

const REASONS: &[(Reason, Code, &str)] = &[
    (Reason::InvalidArgument, Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Reason::NotFound, Code::NotFound, "NOT_FOUND"),
    (Reason::AlreadyExists, Code::AlreadyExists, "ALREADY_EXISTS"),
    (Reason::InUse, Code::FailedPrecondition, "IN_USE"),
    (Reason::StaleGeneration, Code::Aborted, "STALE_GENERATION"),
    (Reason::FailedPrecondition, Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Reason::ResourceExhausted, Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Reason::OutOfRange, Code::OutOfRange, "OUT_OF_RANGE"),
    (Reason::DeadlineExceeded, Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Reason::Unavailable, Code::Unavailable, "UNAVAILABLE"),
    (Reason::Internal, Code::Internal, "INTERNAL"),
];

/// Bytes of evidence that go over the wire: headers are limited to 16 KiB, base64 included.
const MAX_EVIDENCE_BYTES: usize = 6 * 1024;

/// The answer that carries `problem`: its reason, field, remedy and evidence as `ErrorInfo`.
pub fn status_from_problem(problem: &Problem) -> Status {
    let (code, word) = REASONS
        .iter()
        .find(|(reason, ..)| *reason == problem.reason)
        .map_or((Code::Internal, "INTERNAL"), |(_, code, word)| (*code, *word));
    let evidence = problem.evidence.as_deref().map(tail);
    let metadata: HashMap<String, String> = [
        ("field", problem.field.as_deref()),
        ("remedy", problem.remedy.as_deref()),
        ("evidence", evidence),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
    .collect();
    let details = ErrorDetails::with_error_info(word, DOMAIN, metadata);
    Status::with_error_details(code, problem.message.clone(), details)
}

/// What an answer says is wrong. An answer without our details (a broken connection, another
/// server) becomes a problem with the nearest reason.
pub fn problem_from_status(status: &Status) -> Problem {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN);
    let by_word = info.and_then(|info| REASONS.iter().find(|(.., word)| *word == info.reason));
    let by_code = || REASONS.iter().find(|(_, code, _)| *code == status.code());
    let reason = by_word.or_else(by_code).map_or(Reason::Internal, |(reason, ..)| *reason);
    let message = match status.message() {
        "" => format!("the agent answered {:?} without a message", status.code()),
        text => text.to_owned(),
    };
    let get = |key: &str| info.and_then(|info| info.metadata.get(key)).cloned();
    Problem {
        reason,
        message,
        field: get("field"),
        remedy: get("remedy"),
        evidence: get("evidence"),
    }
}

/// Whether nobody answered: tonic attaches the transport's error as the source of what it makes up itself.
pub fn is_of_the_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(MAX_EVIDENCE_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_the_wire_with_its_details() {
        for (reason, ..) in REASONS {
            let problem = Problem::new(*reason, "no room for 4096 MiB")
                .at("memory_mib")
                .remedy("use a smaller type")
                .evidence("free: 12 MiB\nasked: 4096 MiB");
            assert_eq!(problem_from_status(&status_from_problem(&problem)), problem);
        }
    }

    #[test]
    fn a_foreign_answer_keeps_its_message() {
        let problem = problem_from_status(&Status::not_found("nothing here"));
        assert_eq!(problem, Problem::not_found("nothing here"));
    }

    #[test]
    fn long_evidence_keeps_its_end() {
        let problem = Problem::new(Reason::Internal, "x").evidence("ä".repeat(9000) + "end");
        let back = problem_from_status(&status_from_problem(&problem));
        assert!(back.evidence.unwrap().ends_with("äend"));
    }
}
