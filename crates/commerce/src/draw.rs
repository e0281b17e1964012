//! A sale that is drawn: requests are gathered for a while after it opens, and then those win whose tickets are the smallest.
//!
//! A ticket is made of a secret seed and the hold's id, so neither the order in which people asked nor who else did changes
//! it. The hash of the seed is told with the sale, before anybody has asked; the seed is told with the draw. Whoever has
//! the seed and the entries can work the winners out again: in the order of their tickets, each gets its units as long as
//! there are so many.

use haul_model::HoldId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The least and the most time that requests are gathered for, in milliseconds.
pub const GATHER_MS: std::ops::RangeInclusive<u64> = 1_000..=24 * 3_600_000;
/// Tickets are of this range: a double holds them exactly, and no sequence of a book's comes to them.
pub const TICKETS: std::ops::Range<u64> = 1 << 51..1 << 52;

/// That a sale is drawn, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// How long requests are gathered, from the sale's opening for everybody on, in milliseconds.
    pub ms: u64,
    /// What decides; secret until it is drawn. 64 hexadecimal digits.
    pub seed: String,
}

impl Draw {
    /// From 256 random bits.
    pub fn new(ms: u64, random: [u128; 2]) -> Self {
        Self { ms, seed: format!("{:032x}{:032x}", random[0], random[1]) }
    }

    /// What is told of the seed before: SHA-256 of its text, in hexadecimal digits.
    pub fn commitment(&self) -> String {
        Sha256::digest(&self.seed).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The ticket of an entry: the first 51 bits of the SHA-256 of the seed, a colon and the hold's id, and 2^51 more.
    pub fn ticket(&self, hold: &HoldId) -> u64 {
        let hash = Sha256::digest(format!("{}:{hold}", self.seed));
        let first = hash[..8].iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
        TICKETS.start + (first >> 13)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_ticket_follows_from_seed_and_hold_and_is_no_sequence_of_a_book() {
        let draw = Draw::new(60_000, [7, 8]);
        assert_eq!(draw.seed.len(), 64);
        let hold = |n: u32| -> HoldId { format!("hold_{n}").parse().unwrap() };
        let tickets: HashSet<u64> = (0..10_000).map(|n| draw.ticket(&hold(n))).collect();
        assert_eq!(tickets.len(), 10_000);
        assert!(tickets.iter().all(|ticket| TICKETS.contains(ticket)));
        assert_eq!(draw.ticket(&hold(1)), draw.ticket(&hold(1)));
        assert_ne!(draw.ticket(&hold(1)), Draw::new(60_000, [7, 9]).ticket(&hold(1)));
    }

    #[test]
    fn the_commitment_is_the_hash_that_other_tools_make_of_the_seed() {
        let draw = Draw { ms: 1_000, seed: "abc".to_owned() };
        assert_eq!(draw.commitment(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
