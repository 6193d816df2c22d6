//! Standard output: aligned tables, key and value lists, JSON, and how sizes and ages are written.

use std::io::Write as _;

use serde_json::Value;
use weft_model::Timestamp;

use crate::failure::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What stands where there is no value.
pub(crate) const NOTHING: &str = "-";

/// Writes `text` and flushes.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_ref()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Writes `value` in several lines.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(format!("{value:#}\n"))
}

/// Columns as wide as their widest cell, two spaces apart, no space at the end of a line.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(&header)
        .chain(rows)
        .map(|row| row.iter().map(|text| cell(text)).collect())
        .collect();
    let width = |column: usize| {
        lines.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..header.len()).map_while(width).collect();
    let mut text = String::new();
    for row in &lines {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// One line for each pair; further lines of a value stand below its first one.
pub(crate) fn details(pairs: &[(&'static str, String)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (key, value) in pairs {
        let mut lines = value.lines();
        let first = cell(lines.next().unwrap_or_default());
        text.push_str(&format!("{key:<width$}  {first}\n"));
        for line in lines {
            text.push_str(&format!("{:<width$}  {}\n", "", clean(line)));
        }
    }
    text
}

fn cell(text: &str) -> String {
    if text.is_empty() { NOTHING.to_owned() } else { clean(text) }
}

/// `text` without control characters: what guests and clients wrote must not steer a terminal.
pub(crate) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            cleaned.extend(c.escape_default());
        } else {
            cleaned.push(c);
        }
    }
    cleaned
}

/// How long ago `then` was, in its largest unit.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs();
    match seconds {
        // Clocks of two machines may differ.
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `bytes` in the largest unit that leaves at least one, with one decimal where it is not whole.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        None => format!("{bytes} B"),
        Some((unit, name)) => {
            let (whole, rest) = (bytes / unit, bytes % unit);
            match rest / (unit / 10) {
                0 => format!("{whole} {name}"),
                tenths => format!("{whole}.{} {name}", tenths.min(9)),
            }
        }
    }
}

/// `yes` or nothing.
pub(crate) fn yes(flag: bool) -> String {
    if flag { "yes" } else { NOTHING }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let rows = [
            vec!["i-1".to_owned(), "wéb".to_owned(), String::new()],
            vec!["i-22222".to_owned(), String::new(), "x\x1b[0m".to_owned()],
        ];
        let want = "ID       NAME  STATE\ni-1      wéb   -\ni-22222  -     x\\u{1b}[0m\n";
        assert_eq!(table(&["ID", "NAME", "STATE"], &rows), want);
    }

    #[test]
    fn a_table_without_rows_is_its_header() {
        assert_eq!(table(&["ID", "NAME"], &[]), "ID  NAME\n");
    }

    #[test]
    fn further_lines_of_a_value_stand_below_the_first() {
        let pairs = [("id", "i-1".to_owned()), ("timeline", "a 0 ms\nb +1 ms".to_owned())];
        let want = "id        i-1\ntimeline  a 0 ms\n          b +1 ms\n";
        assert_eq!(details(&pairs), want);
    }

    #[test]
    fn ages_are_written_in_their_largest_unit() {
        let then = Timestamp::from_second(1_000_000).unwrap();
        #[rustfmt::skip]
        let cases = [
            (-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"),
            (172_799, "47h"), (172_800, "2d"), (8_640_000, "100d"),
        ];
        for (seconds, want) in cases {
            let now = Timestamp::from_second(1_000_000 + seconds).unwrap();
            assert_eq!(age(now, then), want, "{seconds}");
        }
    }

    #[test]
    fn sizes_are_written_in_their_largest_unit() {
        #[rustfmt::skip]
        let cases = [
            (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"),
            ((2 << 20) - 1, "1.9 MiB"), (10 << 30, "10 GiB"), (3 << 40, "3 TiB"),
        ];
        for (bytes, want) in cases {
            assert_eq!(size(bytes), want);
        }
    }
}
