//! Guests: people for whom no shop vouches, and the network that each came from.
//!
//! A guest's id says where it was given out, in digits that mean nothing to anybody: whoever is put out and comes back has
//! another id of the same network.

use crate::{
    BuyerId, UnixMillis,
    id::{DIGITS, GENERATED_DIGITS},
};

const PREFIX: &str = "guest-";
/// Between an id and its network. No id that is generated has it.
const BEFORE_NETWORK: char = '.';
const NETWORK_DIGITS: usize = 16;

impl BuyerId {
    /// A new guest's id. `network`: a digest of where they come from, by a secret; nothing where that says nothing of who
    /// they are.
    pub fn guest(at: UnixMillis, random: u128, network: Option<u64>) -> Self {
        let id = Self::generate(PREFIX, at, random);
        match network {
            Some(network) => format!("{id}{BEFORE_NETWORK}{network:016x}").parse().unwrap_or(id),
            None => id,
        }
    }

    /// Whether it is a guest's.
    pub fn is_guest(&self) -> bool {
        self.as_guest().is_some()
    }

    /// Where this guest came from; nothing of anybody else.
    pub fn network(&self) -> Option<&str> {
        self.as_guest()?.1
    }

    /// Digits that tell this guest from others; nothing of anybody else.
    pub fn guest_number(&self) -> Option<&str> {
        let (number, _) = self.as_guest()?;
        number.get(number.len() - GUEST_NUMBER_DIGITS..)
    }

    fn as_guest(&self) -> Option<(&str, Option<&str>)> {
        let (number, network) = match self.as_str().strip_prefix(PREFIX)?.split_once(BEFORE_NETWORK) {
            Some((number, network)) => (number, Some(network)),
            None => (self.as_str().strip_prefix(PREFIX)?, None),
        };
        let numbered =
            number.len() == GENERATED_DIGITS && number.bytes().all(|digit| DIGITS.contains(&digit));
        let is_network = |network: &str| {
            network.len() == NETWORK_DIGITS && network.bytes().all(|digit| digit.is_ascii_hexdigit())
        };
        (numbered && network.is_none_or(is_network)).then_some((number, network))
    }
}

/// Of those that are random, as many as people can tell apart at a glance.
const GUEST_NUMBER_DIGITS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_id_says_where_they_come_from_and_nobody_elses_does() {
        let guest = BuyerId::guest(UnixMillis(1), 7, Some(0xab));
        assert_eq!((guest.is_guest(), guest.network()), (true, Some("00000000000000ab")));
        assert_eq!(guest.guest_number(), Some("0007"));
        let other = BuyerId::guest(UnixMillis(2), 8, Some(0xab));
        assert!(other != guest && other.network() == guest.network());
        let unplaced = BuyerId::guest(UnixMillis(1), 7, None);
        assert_eq!((unplaced.is_guest(), unplaced.network()), (true, None));
        for not_ours in
            ["ann", "guest-", "guest-7", "guest-7.00000000000000ab", "viewer-00000000010000000000000007"]
        {
            let id: BuyerId = not_ours.parse().unwrap();
            assert_eq!((id.is_guest(), id.network(), id.guest_number()), (false, None, None), "{not_ours}");
        }
    }
}
