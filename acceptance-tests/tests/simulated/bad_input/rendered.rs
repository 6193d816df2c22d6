//! Terraform's rendered diagnostics, made comparable.

use std::path::Path;

/// The boxed diagnostics out of terraform's output, without the warning that the provider is a
/// development build.
pub(crate) fn diagnostics(text: &str) -> String {
    let text = without_colours(text);
    let mut boxes = Vec::new();
    let mut current: Option<Vec<&str>> = None;
    for line in text.lines().map(str::trim_end) {
        match (line, &mut current) {
            ("╷", _) => current = Some(vec![line]),
            ("╵", Some(lines)) => {
                lines.push(line);
                let whole = lines.join("\n");
                current = None;
                if !whole.contains("Provider development overrides") {
                    boxes.push(whole);
                }
            }
            (_, Some(lines)) => lines.push(line),
            (_, None) => {}
        }
    }
    boxes.join("\n")
}

/// Takes the escape sequences away that set colours: ESC, `[`, numbers, `m` (ECMA-48, SGR).
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// Puts the lab's directory, its ports and all ids into words.
pub(crate) fn normalise(text: &str, directory: &Path) -> String {
    let text = text.replace(directory.to_string_lossy().as_ref(), "LAB");
    let text = without_ports(&text);
    let mut result = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('-') {
        let (before, after) = rest.split_at(at + 1);
        result.push_str(before);
        let digits = after.bytes().take_while(u8::is_ascii_hexdigit).count();
        let made = digits == 17 && !is_example(&after[..17]);
        if made {
            result.push_str("ID");
            rest = &after[17..];
        } else {
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

/// Ports that the kernel chose.
fn without_ports(text: &str) -> String {
    ["localhost:", "http://127.0.0.1:"].into_iter().fold(text.to_owned(), without_ports_after)
}

fn without_ports_after(text: String, host: &str) -> String {
    let mut parts = text.split(host);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let port = if rest.len() < part.len() { "PORT" } else { "" };
        text + host + port + rest
    })
}

/// Those that the stories write are made of one digit; those that messages suggest count up.
fn is_example(id: &str) -> bool {
    id == "0123456789abcdef0" || id.bytes().all(|digit| digit == id.as_bytes()[0])
}

#[test]
fn only_ids_that_were_made_are_put_into_words() {
    let text = "sg-0f23456789abcdef1 at LABx, i-11111111111111111, 10-20, http://127.0.0.1:4711/8";
    let want = "sg-ID at LABx, i-11111111111111111, 10-20, http://127.0.0.1:PORT/8";
    assert_eq!(normalise(text, Path::new("/nowhere")), want);
}
