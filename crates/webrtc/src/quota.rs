//! Places: so many in all, and so many for one client. Whoever has one gives it back by dropping it.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A number of places. Clones are the same.
#[derive(Debug, Clone)]
pub struct Quota(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total: usize,
    each: usize,
    /// Behind a lock, since whoever comes and whoever goes are different threads. Held to count one up or down.
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// One place, for as long as this lives.
#[derive(Debug)]
pub struct Seat {
    quota: Quota,
    client: Option<IpAddr>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSeat {
    /// All are taken.
    Full,
    /// This client has all that one may have.
    TooMany,
}

impl Quota {
    /// `total` places, of which one client may have `each`.
    pub fn new(total: usize, each: usize) -> Self {
        Self(Arc::new(Inner { total, each, taken: Mutex::default() }))
    }

    /// A place for a client; where it is not known who that is, only the total counts. An IPv6 client has a network of
    /// 64 bits to itself, so that is what is counted.
    ///
    /// # Errors
    /// [`NoSeat`], which says whose limit is reached.
    pub fn take(&self, client: Option<IpAddr>) -> Result<Seat, NoSeat> {
        let client = client.map(network);
        let mut taken = self.lock();
        if taken.total >= self.0.total {
            return Err(NoSeat::Full);
        }
        if let Some(client) = client {
            let theirs = taken.by_client.entry(client).or_default();
            // An entry that was only made now is below any limit but zero.
            if *theirs >= self.0.each {
                return Err(NoSeat::TooMany);
            }
            *theirs += 1;
        }
        taken.total += 1;
        Ok(Seat { quota: self.clone(), client })
    }

    /// A place for somebody who comes in place of another and soon makes them give up theirs: there are as many again
    /// for those.
    ///
    /// # Errors
    /// [`NoSeat::Full`] if all of those are taken, too.
    pub(crate) fn take_over(&self) -> Result<Seat, NoSeat> {
        let mut taken = self.lock();
        if taken.total >= self.0.total.saturating_mul(2) {
            return Err(NoSeat::Full);
        }
        taken.total += 1;
        Ok(Seat { quota: self.clone(), client: None })
    }

    /// How many there are in all.
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.quota.lock();
        taken.total -= 1;
        if let Some(client) = self.client
            && let Entry::Occupied(mut theirs) = taken.by_client.entry(client)
        {
            *theirs.get_mut() -= 1;
            if *theirs.get() == 0 {
                theirs.remove();
            }
        }
    }
}

/// What of an address is one client's own: all of IPv4, the network of 64 bits of IPv6.
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn places_run_out_and_come_back() {
        let quota = Quota::new(2, 2);
        let first = quota.take(None).unwrap();
        let _second = quota.take(ip("10.0.0.1")).unwrap();
        assert_eq!(quota.take(None).unwrap_err(), NoSeat::Full);
        drop(first);
        assert_eq!(quota.taken(), 1);
        assert!(quota.take(None).is_ok());
    }

    #[test]
    fn who_takes_over_finds_a_place_where_all_are_taken() {
        let quota = Quota::new(1, 1);
        let first = quota.take(None).unwrap();
        let second = quota.take_over().unwrap();
        assert_eq!(quota.take_over().unwrap_err(), NoSeat::Full);
        drop(first);
        assert_eq!(quota.take(None).unwrap_err(), NoSeat::Full, "they have the other's now");
        drop(second);
        assert!(quota.take(None).is_ok());
    }

    #[test]
    fn one_client_has_its_share_whatever_it_calls_itself() {
        let quota = Quota::new(10, 1);
        let held = quota.take(ip("2001:db8::1")).unwrap();
        assert_eq!(quota.take(ip("2001:db8::2")).unwrap_err(), NoSeat::TooMany, "the same network");
        assert!(quota.take(ip("2001:db8:0:1::1")).is_ok());
        let other = quota.take(ip("10.0.0.1")).unwrap();
        assert_eq!(quota.take(ip("::ffff:10.0.0.1")).unwrap_err(), NoSeat::TooMany);
        drop((held, other));
        assert!(quota.lock().by_client.is_empty(), "nobody is remembered");
    }
}
