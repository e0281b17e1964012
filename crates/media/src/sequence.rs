//! RTP's 16-bit sequence numbers, extended to 64 bits so that order is plain comparison.

/// The 64-bit number that ends in `sequence` and lies nearest to `reference`, which should be one of the newest known.
/// What would lie before the first of all is the same a cycle later, which nobody has sent.
pub fn nearest(reference: u64, sequence: u16) -> u64 {
    let distance = sequence.wrapping_sub(reference as u16) as i16;
    let nearest = reference.checked_add_signed(i64::from(distance));
    nearest.unwrap_or_else(|| reference.wrapping_add_signed(i64::from(distance) + (1 << 16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_across_the_wrap_and_stragglers_keep_their_place() {
        let cycle = 1 << 16;
        assert_eq!(nearest(cycle - 1, 3), cycle + 3);
        assert_eq!(nearest(cycle + 3, 65_533), cycle - 3);
        assert_eq!(nearest(5 * cycle + 7, 7), 5 * cycle + 7);
        assert_eq!(nearest(3, 65_533), cycle - 3, "nothing lies before the first");
    }
}
