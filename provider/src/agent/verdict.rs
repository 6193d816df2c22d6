//! What a failed request says of the agent: that it is away, or that it has answered.

use tonic::{Code, Status};
use weft_proto::is_of_the_transport;

/// How often a request is sent again that the agent could not take just now.
pub(crate) const MAX_NOT_NOW: u32 = 3;

/// What to do about a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection is at fault: the agent may be back in a moment.
    Away,
    /// The agent answers that it cannot do it now. It may be able to in a moment, but what it says
    /// is worth more than a timeout.
    NotNow,
    /// The agent's last word.
    Refused,
}

impl Verdict {
    pub(crate) fn of(status: &Status) -> Self {
        // Only who serves the API attaches details (`weft_proto::status_from_problem`): neither
        // tonic nor a proxy does.
        let is_answer = !status.details().is_empty();
        let is_unavailable = status.code() == Code::Unavailable;
        match (is_answer, is_unavailable) {
            (true, true) => Self::NotNow,
            (false, true) => Self::Away,
            (false, false) if is_of_the_transport(status) => Self::Away,
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{Problem, Reason};
    use weft_proto::status_from_problem;

    #[test]
    fn an_agent_that_answers_is_not_away() {
        let ours = |reason| status_from_problem(&Problem::new(reason, "the store failed"));
        #[rustfmt::skip]
        let cases = [
            (ours(Reason::Unavailable),                     Verdict::NotNow),
            (ours(Reason::Internal),                        Verdict::Refused),
            (ours(Reason::NotFound),                        Verdict::Refused),
            (Status::unavailable("tcp connect error"),      Verdict::Away),
            (Status::not_found("nothing here"),             Verdict::Refused),
            (Status::from_error("broken pipe".into()),      Verdict::Away),
        ];
        for (status, want) in cases {
            assert_eq!(Verdict::of(&status), want, "{status:?}");
        }
    }
}
