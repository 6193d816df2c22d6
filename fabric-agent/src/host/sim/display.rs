//! What simulated guests show: one black dot, and a VNC server that says its first word.

/// The smallest PNG: eight bits of red, green and blue for one dot.
const DOT: &[u8] = b"\x89PNG\r\n\x1a\n\
      \0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\
      \0\x90wS\xde\
      \0\0\0\x0cIDATx\xdac```\0\0\0\x04\0\x01\
      \xc8\xea\xeb\xf9\
      \0\0\0\0IEND\xaeB`\x82";

/// What a VNC server says first (RFC 6143, section 7.1.1).
pub(super) const VERSION: &[u8] = b"RFB 003.008\n";

pub(super) fn picture() -> Vec<u8> {
    DOT.to_vec()
}
