//! RTP's 16-bit sequence numbers, extended to 64 bits so that order is plain comparison.

/// Extends sequence numbers of one stream. The first is placed one cycle up, so that packets from just before it have
/// a number too.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extender {
    /// The highest number seen; new ones are placed within half a cycle of it.
    highest: Option<u64>,
}

impl Extender {
    /// The 64-bit number of `sequence`, the nearest to the highest seen so far.
    pub fn extend(&mut self, sequence: u16) -> u64 {
        let extended = match self.highest {
            None => (1 << 16) + u64::from(sequence),
            Some(highest) => nearest(highest, sequence),
        };
        self.highest = self.highest.max(Some(extended));
        extended
    }
}

/// The 64-bit number that ends in `sequence` and lies nearest to `reference`.
pub fn nearest(reference: u64, sequence: u16) -> u64 {
    let distance = sequence.wrapping_sub(reference as u16) as i16;
    reference.wrapping_add_signed(i64::from(distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_across_the_wrap_and_stragglers_keep_their_place() {
        let mut extender = Extender::default();
        let numbers: Vec<u64> =
            [65_534, 65_535, 0, 65_533, 1].into_iter().map(|s| extender.extend(s) - (1 << 16)).collect();
        assert_eq!(numbers, [65_534, 65_535, 65_536, 65_533, 65_537]);
    }

    #[test]
    fn a_number_from_before_the_first_does_not_underflow() {
        let mut extender = Extender::default();
        assert!(extender.extend(3) > extender.extend(65_000));
    }
}
