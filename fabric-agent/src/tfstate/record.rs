//! What the store keeps of states: which versions there are, and who holds the lock.

use serde::{Deserialize, Serialize};
use weft_model::{Problem, Reason, Timestamp};

use super::StateName;

/// Who asks, and from where: for the log, and for people who look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Who {
    /// The name of a certificate, or of a user of this machine.
    pub(crate) client: String,
    /// An address, or the agent's socket.
    pub(crate) from: String,
}

/// A state's versions, oldest first. The last one is what Terraform gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateRecord {
    pub(crate) versions: Vec<Version>,
}

/// One version. Its content is a file; what is here tells whether that is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// Counts from 1. None is given twice for as long as the store knows the state: one that was removed
    /// begins anew when it is stored again.
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    pub(crate) by: Who,
    pub(crate) bytes: u64,
    /// In hexadecimal.
    pub(crate) sha256: String,
    /// In base64, as HTTP has it.
    pub(crate) md5: String,
    pub(crate) facts: Facts,
    /// The version that it was restored from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restored_from: Option<u64>,
}

/// What a state says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Terraform's own count: rises with every change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) serial: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lineage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) terraform_version: Option<String>,
    /// Objects that it manages. Unknown where it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resources: Option<u64>,
}

impl StateRecord {
    pub(crate) fn latest(&self) -> Option<&Version> {
        self.versions.last()
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.latest().map_or(1, |version| version.number + 1)
    }

    pub(crate) fn find(&self, number: u64) -> Option<&Version> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// Takes out the oldest versions until what is left is within the limits. The latest stays.
    pub(crate) fn prune(&mut self, most: usize, most_bytes: u64) -> Vec<Version> {
        let mut bytes = 0;
        let kept = self.versions.iter().rev().enumerate().take_while(|(newer, version)| {
            bytes += version.bytes;
            *newer == 0 || (*newer < most && bytes <= most_bytes)
        });
        let kept = kept.count();
        self.versions.drain(..self.versions.len() - kept).collect()
    }
}

/// Who holds a state's lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LockRecord {
    pub(crate) info: LockInfo,
    pub(crate) by: Who,
    pub(crate) at: Timestamp,
}

/// What Terraform says when it locks, in its own words (`statemgr.LockInfo`). It refuses an answer
/// in which one of them is of another type, so all are parsed and written anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct LockInfo {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) operation: String,
    pub(crate) info: String,
    pub(crate) who: String,
    pub(crate) version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<Timestamp>,
    pub(crate) path: String,
}

impl LockInfo {
    const MAX_ID: usize = 128;
    /// The most that is kept of each of its texts, in bytes, as the store has one for each lock.
    /// Terraform's are below 100; it compares nothing but the id.
    const MAX_TEXT: usize = 256;

    /// # Errors
    /// It is no JSON, or has no id.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Problem> {
        let refuse = |message: String| {
            Problem::invalid("lock", message)
                .remedy("send what Terraform does: JSON with the lock's ID")
        };
        let mut info: Self = serde_json::from_slice(body)
            .map_err(|error| refuse(format!("the lock's description cannot be read: {error}")))?;
        // Operators are told to type it into a shell. Terraform's are UUIDs.
        let has_id = (1..=Self::MAX_ID).contains(&info.id.len())
            && info.id.starts_with(|first: char| first.is_ascii_alphanumeric())
            && info.id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
        if !has_id {
            return Err(refuse(
                "the lock's description has no ID of letters, digits and ._:-".to_owned(),
            ));
        }
        let Self { operation, info: note, who, version, path, .. } = &info;
        // All of it is shown on terminals, Terraform's among them.
        let texts = [operation, note, who, version, path];
        if texts.iter().any(|text| text.contains(char::is_control)) {
            return Err(refuse("the lock's description has control characters".to_owned()));
        }
        let Self { operation, info: note, who, version, path, .. } = &mut info;
        for text in [operation, note, who, version, path] {
            let end = (0..=Self::MAX_TEXT.min(text.len())).rfind(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            // So that nothing turns around, or hides, what is beside it.
            let shows = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
            *text = text.chars().map(|c| if shows(c) { c } else { '?' }).collect();
        }
        Ok(info)
    }
}

impl LockRecord {
    /// In words, without the id.
    pub(crate) fn holder(&self) -> String {
        let LockInfo { operation, who, .. } = &self.info;
        let operation = match operation.strip_prefix("OperationType").unwrap_or(operation) {
            "" => String::new(),
            operation => format!(" for {}", operation.to_lowercase()),
        };
        let who = if who.is_empty() { "somebody" } else { who };
        let Who { client, from } = &self.by;
        let at = self.at.strftime("%Y-%m-%dT%H:%M:%SZ");
        format!("held by {who} ({client}, {from}){operation} since {at}")
    }

    /// What `asker` is answered who wants it too. Up to 1.14 Terraform shows nothing of the answer but
    /// the id, and beside it its own description: the id says then whose it is.
    pub(crate) fn shown_to(&self, asker: Option<&LockInfo>) -> LockInfo {
        let mut info = self.info.clone();
        if info.info.is_empty() {
            info.info = self.holder();
        }
        if asker.is_some_and(|asker| shows_the_id_alone(&asker.version)) {
            info.id = format!("{} ({})", info.id, self.holder());
        }
        info
    }

    /// The refusal in words.
    pub(crate) fn problem(&self, name: &StateName) -> Problem {
        let message = format!("the state {name} is locked: {}", self.holder());
        Problem::new(Reason::FailedPrecondition, message)
            .evidence(format!("lock {}", self.info.id))
            .remedy(format!(
                "wait until it is released; if who held it is gone, weft state unlock {name} --id {}",
                self.info.id
            ))
    }
}

/// Before 1.15.
fn shows_the_id_alone(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    matches!((parts.next(), parts.next()), (Some(Ok(1)), Some(Ok(minor))) if minor < 15)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn who() -> Who {
        Who { client: "ci".to_owned(), from: "192.0.2.7:5000".to_owned() }
    }

    fn version(number: u64, bytes: u64) -> Version {
        Version {
            number,
            at: Timestamp::UNIX_EPOCH,
            by: who(),
            bytes,
            sha256: String::new(),
            md5: String::new(),
            facts: Facts::default(),
            restored_from: None,
        }
    }

    #[test]
    fn the_oldest_versions_go_and_the_latest_stays() {
        #[rustfmt::skip]
        let cases: [(&[u64], usize, u64, usize); 7] = [
            (&[], 3, 100, 0), (&[1, 1], 3, 100, 0), (&[1, 1, 1, 1], 3, 100, 1),
            (&[50, 50, 50], 3, 100, 1), (&[50, 50, 51], 3, 100, 2), (&[1, 1, 200], 3, 100, 2),
            (&[200, 1, 1], 1, 100, 2),
        ];
        for (sizes, most, bytes, gone) in cases {
            let versions = (1..).zip(sizes).map(|(number, bytes)| version(number, *bytes));
            let mut record = StateRecord { versions: versions.collect() };
            let latest = record.latest().cloned();
            let pruned: Vec<u64> =
                record.prune(most, bytes).iter().map(|version| version.number).collect();
            assert_eq!(pruned, (1..=gone as u64).collect::<Vec<_>>(), "{sizes:?}");
            assert_eq!(record.latest().cloned(), latest, "{sizes:?}");
        }
    }

    #[test]
    fn a_lock_is_described_as_terraform_does() {
        let sent = r#"{"ID":"3c24","Operation":"OperationTypePlan","Info":"","Who":"root@vm","Version":"1.11.4","Created":"2026-11-23T01:46:47.761541391Z","Path":""}"#;
        let info = LockInfo::parse(sent.as_bytes()).unwrap();
        assert_eq!((info.id.as_str(), info.who.as_str()), ("3c24", "root@vm"));
        let back: serde_json::Value = serde_json::to_value(&info).unwrap();
        assert_eq!(back, serde_json::from_str::<serde_json::Value>(sent).unwrap());

        for bad in ["", "null", "[]", "{}", r#"{"ID":""}"#, r#"{"ID":7}"#, r#"{"ID":"a b"}"#] {
            assert!(LockInfo::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(LockInfo::parse(br#"{"ID":"x","Created":"yesterday"}"#).is_err());
        assert!(LockInfo::parse(br#"{"ID":"x","Who":"\u001b[2Jroot"}"#).is_err());
        let odd =
            LockInfo::parse("{\"ID\":\"x\",\"Who\":\"\u{202e}josé\u{200b}@vm 7\"}".as_bytes());
        assert_eq!(odd.unwrap().who, "?josé?@vm 7");
    }

    #[test]
    fn the_store_keeps_no_more_of_a_lock_than_it_has_room_for() {
        let long = "ä".repeat(3000);
        let sent = serde_json::json!({
            "ID": "x".repeat(128), "Operation": long, "Info": long, "Who": format!("a{long}"),
            "Version": long, "Path": long, "Created": "2026-11-23T01:46:47.761541391Z",
        });
        let info = LockInfo::parse(sent.to_string().as_bytes()).unwrap();
        assert_eq!((info.info.len(), info.who.len()), (256, 255));
        assert!(info.who.ends_with('ä'));
        let record = LockRecord { info, by: who(), at: Timestamp::UNIX_EPOCH };
        let bytes = serde_json::to_vec(&record).unwrap().len();
        assert!(bytes < 2048, "{bytes}");
    }

    #[test]
    fn who_shows_only_the_id_is_told_the_holder_in_it() {
        let info =
            LockInfo::parse(br#"{"ID":"3c24","Who":"root@vm","Operation":"OperationTypeApply"}"#);
        let record = LockRecord { info: info.unwrap(), by: who(), at: Timestamp::UNIX_EPOCH };
        let holder = "held by root@vm (ci, 192.0.2.7:5000) for apply since 1970-01-01T00:00:00Z";
        assert_eq!(record.holder(), holder);
        let asks = |version: &str| LockInfo { version: version.to_owned(), ..LockInfo::default() };
        for (version, id) in [
            ("1.9.8", format!("3c24 ({holder})")),
            ("1.14.9-dev", format!("3c24 ({holder})")),
            ("1.15.5", "3c24".to_owned()),
            ("2.0.0", "3c24".to_owned()),
            ("", "3c24".to_owned()),
        ] {
            let shown = record.shown_to(Some(&asks(version)));
            assert_eq!((shown.id, shown.info.as_str()), (id, holder), "{version}");
        }
    }
}
