//! Randomness from the kernel: ids, MAC addresses, host keys.

/// `N` random bytes.
///
/// # Panics
/// Where the kernel has no randomness to give; nothing secure can be done then.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::expect_used, reason = "getrandom(2) fails on no kernel that we run on")]
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
