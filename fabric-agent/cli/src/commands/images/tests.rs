//! What is printed of a day's transfers, as it is kept in `golden/images.txt`; and what is drawn over.

use super::*;

const MIB: u64 = 1 << 20;

fn transfer(id: u64, way: &str, name: &str, mib: u64, total: Option<u64>) -> Transfer {
    Transfer {
        id,
        way: way.to_owned(),
        name: name.to_owned(),
        received_bytes: mib * MIB,
        total_bytes: total.map(|total| total * MIB),
        state: "running".to_owned(),
        reason: String::new(),
    }
}

fn ended(transfer: Transfer, state: &str, reason: &str) -> Transfer {
    Transfer { state: state.to_owned(), reason: reason.to_owned(), ..transfer }
}

/// News, each with the milliseconds after which it comes.
fn news() -> Vec<(u64, Vec<Transfer>)> {
    let debian = |mib| {
        let url = "https://cloud.debian.org/images/cloud/trixie/latest/debian-13.qcow2";
        transfer(1, "download", url, mib, Some(400))
    };
    let disk = |mib| transfer(2, "upload", "disk.raw", mib, Some(8));
    let stream = |mib| transfer(3, "download", "http://10.0.0.1/list\x1b[2J", mib, None);
    let breaks = |transfer| Transfer { reason: "the connection broke".to_owned(), ..transfer };
    vec![
        (0, vec![debian(180)]),
        (1000, vec![debian(190), disk(0)]),
        (2000, vec![debian(201), disk(5)]),
        (2500, vec![ended(disk(8), "done", ""), stream(1)]),
        (3000, vec![breaks(debian(201)), stream(70)]),
        (4000, vec![debian(240)]),
        (4500, vec![ended(stream(71), "failed", "the server ended it too early")]),
        (6000, vec![ended(debian(400), "done", "")]),
    ]
}

fn printed(board: &mut Board) -> String {
    news().into_iter().map(|(ms, news)| board.take(news, ms, 100)).collect()
}

/// What a terminal shows in the end, and each picture on the way, as a terminal would draw it.
fn seen(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        lines.extend(before.lines().map(str::to_owned));
        let (count, after) = after.split_once("F\x1b[J").unwrap();
        lines.truncate(lines.len() - count.parse::<usize>().unwrap());
        rest = after;
    }
    lines.extend(rest.lines().map(str::to_owned));
    lines
}

#[test]
fn lines_and_bars_are_as_in_the_golden_file() {
    let mut plain = Board::new(Format::Text, false);
    let mut live = Board::new(Format::Text, true);
    let mut text = format!("# not a terminal\n{}", printed(&mut plain));
    let mut screen = String::new();
    for (ms, news) in news() {
        screen.push_str(&live.take(news, ms, 100));
        text.push_str(&format!("\n# a terminal after {ms} ms\n{}\n", seen(&screen).join("\n")));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/images.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "UPDATE_GOLDEN=1 writes it anew");
    assert!(plain.is_quiet() && live.is_quiet() && live.any_failed);
    assert!(!text.contains('\x1b'), "a name steers the terminal");
}

#[test]
fn json_is_one_object_for_each_piece_of_news() {
    let mut board = Board::new(Format::Json, true);
    let text = printed(&mut board);
    let all: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(all.len(), news().iter().map(|(_, news)| news.len()).sum::<usize>());
    assert_eq!(
        (all[2]["way"].as_str(), all[2]["total_bytes"].as_u64()),
        (Some("upload"), Some(8 * MIB))
    );
    assert_eq!(all[1]["bytes_per_second"], 10 * MIB);
    assert_eq!(all[7]["reason"], "the connection broke");
}

#[test]
fn who_finds_nothing_under_way_is_told() {
    for (format, want) in [(Format::Text, "nothing is coming to the agent\n"), (Format::Json, "")] {
        let mut board = Board::new(format, true);
        assert_eq!(board.take(Vec::new(), 0, 80), "");
        assert_eq!((board.is_quiet(), board.last_word()), (true, want));
    }
}
