//! One transfer as a line.

use weft_proto::v1::Transfer;

use crate::output::{clean, size};

/// Characters of a bar.
const BAR: usize = 20;

/// What a line tells of.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    pub(super) transfer: &'a Transfer,
    pub(super) bytes_per_second: Option<u64>,
    /// The widest that a line with a bar may be.
    pub(super) columns: usize,
}

/// The line; `is_live` draws a bar and keeps to the terminal's width, as it is drawn over.
pub(super) fn line(shown: &Shown<'_>, is_live: bool) -> String {
    let Transfer { way, name, state, reason, .. } = shown.transfer;
    let name = clean(name);
    let told = match state.as_str() {
        "done" => format!("done, {}", size(shown.transfer.received_bytes)),
        "failed" => format!("failed: {}", clean(reason)),
        _ => progress(shown, is_live),
    };
    let way = clean(way);
    let line = match is_live {
        true => fit(&way, &name, &told, shown.columns),
        false => format!("{way} {name}: {told}"),
    };
    format!("{line}\n")
}

/// How far it is, how fast, and how long it takes yet.
fn progress(shown: &Shown<'_>, is_live: bool) -> String {
    let Transfer { received_bytes, total_bytes, reason, .. } = shown.transfer;
    let mut parts = Vec::new();
    match total_bytes {
        Some(total) => {
            let percent = received_bytes.saturating_mul(100) / (*total).max(1);
            if is_live {
                let full = usize::try_from(percent).unwrap_or(100).min(100) * BAR / 100;
                parts.push(format!("[{}{}]", "#".repeat(full), "-".repeat(BAR - full)));
                parts.push(format!("{percent:>3}%"));
            } else {
                parts.push(format!("{percent}%"));
            }
            parts.push(format!("{} of {}", size(*received_bytes), size(*total)));
        }
        None => parts.push(size(*received_bytes)),
    }
    if !reason.is_empty() {
        parts.push(format!("waiting: {}", clean(reason)));
        return parts.join("  ");
    }
    if let Some(rate) = shown.bytes_per_second {
        parts.push(format!("{}/s", size(rate)));
        let left = total_bytes.and_then(|total| total.checked_sub(*received_bytes));
        if let Some(seconds) = left.and_then(|left| left.checked_div(rate)) {
            parts.push(format!("{} left", length(seconds)));
        }
    }
    parts.join("  ")
}

/// `seconds` as people say it.
fn length(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..360_000 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => "days".to_owned(),
    }
}

/// The name gives way, its beginning first: how a file is called stands at the end of its URL. A line that
/// is wider than the terminal would be two, and drawing over it would leave one.
fn fit(way: &str, name: &str, told: &str, columns: usize) -> String {
    let around = way.chars().count() + told.chars().count() + 3;
    let room = columns.saturating_sub(1).saturating_sub(around);
    let length = name.chars().count();
    let name = match length <= room {
        true => name.to_owned(),
        false if room < 4 => String::new(),
        false => format!("…{}", name.chars().skip(length - room + 1).collect::<String>()),
    };
    let line = match name.is_empty() {
        true => format!("{way}  {told}"),
        false => format!("{way} {name}  {told}"),
    };
    line.chars().take(columns.saturating_sub(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_never_wider_than_the_terminal_and_keeps_the_end_of_the_name() {
        let transfer = Transfer {
            way: "download".to_owned(),
            name: "https://cloud.debian.org/images/cloud/trixie/latest/debian-13.qcow2".to_owned(),
            received_bytes: 3 << 20,
            total_bytes: Some(12 << 20),
            state: "running".to_owned(),
            ..Transfer::default()
        };
        for columns in 20..150 {
            let bytes_per_second = Some(1 << 20);
            let line = line(&Shown { transfer: &transfer, bytes_per_second, columns }, true);
            assert!(line.trim_end().chars().count() < columns, "{columns}: {line}");
            assert_eq!(line.lines().count(), 1);
            assert!(columns < 100 || line.contains("debian-13.qcow2"), "{line}");
        }
    }

    #[test]
    fn lengths_are_said_in_two_units() {
        let cases =
            [(59, "59 s"), (60, "1 min 00 s"), (3661, "1 h 01 min"), (u64::MAX / 2, "days")];
        for (seconds, want) in cases {
            assert_eq!(length(seconds), want);
        }
    }
}
