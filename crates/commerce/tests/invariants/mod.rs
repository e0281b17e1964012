//! What no sequence of steps may break.

// Each test uses a part of it.
#![allow(dead_code)]

use std::collections::HashMap;

use haul_commerce::{Counts, Mark, SaleBook, SaleTerms, book::HoldState, coupon::Uses};
use haul_model::{HoldId, UnixMillis};

use crate::random;

/// What must be true of any sale at any time, and what may follow what.
pub(crate) fn check(
    book: &SaleBook,
    terms: &SaleTerms,
    before: &mut HashMap<HoldId, HoldState>,
    trace: &str,
) {
    let (mut holding, mut selling) = (HashMap::new(), HashMap::new());
    let mut by_buyer: HashMap<_, u32> = HashMap::new();
    let mut uses: HashMap<_, HashMap<_, u64>> = HashMap::new();
    for hold in random::all_holds() {
        let Some(record) = book.hold(&hold) else { continue };
        for (line, units) in record.units.iter() {
            let back = record.returned.as_ref().map_or(0, |returned| returned.of(line));
            assert!(back <= units && (back == 0 || record.state == HoldState::Sold), "{trace}: {record:?}");
            match record.state {
                HoldState::Held | HoldState::Paying if record.unreserved => {}
                HoldState::Held | HoldState::Paying | HoldState::Captured => {
                    *holding.entry(line).or_default() += units;
                }
                HoldState::Sold => *selling.entry(line).or_default() += units - back,
                HoldState::Waiting | HoldState::Released | HoldState::Late => {}
            }
            if !matches!(record.state, HoldState::Released | HoldState::Late) {
                *by_buyer.entry((record.buyer.clone(), line)).or_default() += units - back;
            }
        }
        if let Some(code) =
            record.coupon.clone().filter(|_| !matches!(record.state, HoldState::Released | HoldState::Late))
        {
            *uses.entry(code).or_default().entry(record.buyer.clone()).or_default() += 1;
        }
        match before.insert(hold, record.state) {
            Some(HoldState::Sold) => assert_eq!(record.state, HoldState::Sold, "{trace}"),
            Some(HoldState::Late) => assert_eq!(record.state, HoldState::Late, "{trace}"),
            Some(HoldState::Captured) => {
                assert!(matches!(record.state, HoldState::Captured | HoldState::Sold), "{trace}");
            }
            Some(HoldState::Released) => {
                let again = record.retaken && matches!(record.state, HoldState::Captured | HoldState::Sold);
                assert!(again || matches!(record.state, HoldState::Released | HoldState::Late), "{trace}");
            }
            Some(HoldState::Held | HoldState::Paying | HoldState::Waiting) | None => {}
        }
    }
    for ((line, of), counts) in (0..).zip(terms.lines()).zip(book.lines()) {
        let Counts { available, held, sold } = counts;
        assert_eq!(available + held + sold, of.stock, "{trace}");
        let sums = (holding.remove(&line).unwrap_or(0), selling.remove(&line).unwrap_or(0));
        assert_eq!(sums, (held, sold), "{trace}");
    }
    assert!(holding.is_empty() && selling.is_empty(), "{trace}: {holding:?}, {selling:?}");
    for ((_, line), units) in by_buyer {
        assert!(units <= terms.line(line).unwrap().per_buyer, "{trace}");
    }
    for (code, coupon) in random::coupons() {
        let theirs = uses.remove(&code).unwrap_or_default();
        let all = theirs.values().sum::<u64>();
        assert!(all <= u64::from(coupon.limit), "{trace}: {code} is used {all} times");
        for buyer in random::all_buyers() {
            let own = theirs.get(&buyer).copied().unwrap_or(0);
            assert!(own <= u64::from(coupon.per_buyer), "{trace}: {buyer} uses {code} {own} times");
            assert_eq!(book.coupon_uses(&code, &buyer), Uses { all, by_buyer: own }, "{trace}: {code}");
        }
    }
    assert!(uses.is_empty(), "{trace}: {uses:?}");
}

/// Two books that say the same of everything.
pub(crate) fn same_book(left: &SaleBook, right: &SaleBook, now: UnixMillis, trace: &str) {
    for hold in random::all_holds() {
        assert_eq!(left.hold(&hold), right.hold(&hold), "{trace}");
    }
    for buyer in random::all_buyers() {
        assert_eq!(
            left.standing(&buyer, Mark::default(), now),
            right.standing(&buyer, Mark::default(), now),
            "{trace}"
        );
    }
    assert_eq!(
        left.clone().apply(&[], Mark::default(), now),
        right.clone().apply(&[], Mark::default(), now),
        "{trace}"
    );
}
