//! Bytes as text.

use std::fmt::Write as _;
use std::io;

pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn decode(text: &str) -> io::Result<Vec<u8>> {
    let wrong = || io::Error::other(format!("not hexadecimal: {text:?}"));
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let pair = str::from_utf8(pair).map_err(|_| wrong())?;
            (pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok()).flatten().ok_or_else(wrong)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_there_and_back() {
        assert_eq!(encode(&[0, 0x7f, 0xff]), "007fff");
        assert_eq!(decode("007fff").ok(), Some(vec![0, 0x7f, 0xff]));
        for bad in ["0", "zz", "0x", "é"] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }
}
