//! The state machine of a sale under any sequence of events: bundles, a line to wait in, first paid, draws, coupons, tiers,
//! pauses, added and returned stock, clocks that step back, crashes and gates that have lost something. What breaks is shown in the shortest
//! sequence that breaks it.

#![allow(clippy::unwrap_used)]

mod invariants;
mod random;

use std::collections::{BTreeMap, HashMap};

use haul_commerce::{
    CouponTerms, Draw, EarlyAccess, Image, LineTerms, Mark, Op, Rebuild, Released, SaleBook, SaleMode,
    SaleTerms, Units,
    book::{HoldRecord, HoldState},
    coupon::{Desk, Uses},
};
use haul_model::{BuyerId, CouponCode, HoldId, UnixMillis};
use invariants::{check, same_book};
use proptest::{
    collection::vec,
    option,
    prelude::{ProptestConfig, Strategy, any},
    prop_oneof,
    strategy::Just,
    test_runner::TestRunner,
};
use random::{BUYERS, KEYS, START, TICK_MS, all_holds, buyer, coupons, hold, order};

/// Something that happens to a sale.
#[derive(Debug, Clone)]
enum Happens {
    /// Time passes, in ticks; it may seem to go back.
    Ticks(i64),
    Asked(Vec<Op>),
    /// The same operations come again at once, as a retry does.
    AskedTwice(Vec<Op>),
    Paused(bool),
    StockAdded(u32),
    Closes {
        in_ticks: u64,
    },
    /// The process ends, and goes on from what it has written down.
    Crash,
    /// The gate has lost everything, and is rebuilt from what it had told.
    Lost,
}

fn terms() -> impl Strategy<Value = SaleTerms> {
    let line = || (1..=8u32, 1..=3u32);
    let early = vec(1..8u64, 0..=2);
    // One way to sell: from a line, at a draw, to who pays first, or to who comes first.
    let (offer, draw) = (option::of(4..12u64), option::weighted(0.2, 4..40u64));
    let mode = (any::<bool>(), offer, draw).prop_map(|(first_paid, offer, draw)| match draw {
        Some(_) => (false, None, draw),
        None => (first_paid, offer.filter(|_| !first_paid), None),
    });
    (line(), vec(line(), 0..=2), 4..20u64, 4..36u64, mode, early).prop_map(
        |((stock, per_buyer), more, hold, pay, (first_paid, offer, draw), early)| SaleTerms {
            stock,
            per_buyer,
            more: more.into_iter().map(|(stock, per_buyer)| LineTerms { stock, per_buyer }).collect(),
            hold_ms: hold * TICK_MS,
            pay_ms: pay * TICK_MS,
            opens_at: UnixMillis(START.0 + 4 * TICK_MS),
            closes_at: UnixMillis(START.0 + 200 * TICK_MS),
            mode: if first_paid { SaleMode::FirstPaid } else { SaleMode::HoldInCart },
            offer_ms: offer.map(|ticks| ticks * TICK_MS),
            draw: draw.map(|ticks| Draw::new(ticks * TICK_MS, [ticks.into(), 1])),
            early: ["gold", "silver"]
                .into_iter()
                .zip(early)
                .map(|(tier, ticks)| EarlyAccess { tier: tier.parse().unwrap(), ms: ticks * TICK_MS })
                .collect(),
            ..SaleTerms::default()
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let tier = prop_oneof![4 => Just(None), 1 => Just(Some("gold")), 1 => Just(Some("bronze"))];
    // Who asks for which hold; now and then it is another's, or another order.
    let odd = || prop_oneof![15 => Just(false), 1 => Just(true)];
    // Half come with a coupon, some with one that is not known.
    let coupon = prop_oneof![5 => Just(None), 5 => (0..=coupons().len()).prop_map(Some)];
    (0..9u8, 0..BUYERS, 0..KEYS, 0..BUYERS, odd(), odd(), 0..3u8, 0..=3u32, tier, coupon).prop_map(
        |(kind, owner, key, other, others_hold, others_order, line, quantity, tier, coupon)| {
            let coupon = coupon.map(|which| match coupons().into_iter().nth(which) {
                Some((code, _)) => code,
                None => "UNKNOWN".parse().unwrap(),
            });
            let (hold, order) = (hold(owner, key), order(owner, key, others_order));
            let buyer = buyer(if others_hold { other } else { owner });
            // A third of the keys are for bundles.
            let units = match key % 3 {
                2 => Units::new([(line, quantity), ((line + 1) % 3, 1)]).unwrap(),
                _ => Units::of_line(line, quantity),
            };
            let tier = tier.map(|tier| tier.parse().unwrap());
            match kind {
                0 | 1 => Op::Hold { hold, buyer, units, tier, coupon, ticket: None },
                2 => Op::Wait { hold, buyer, units, tier },
                3 => Op::Cancel { hold, buyer },
                4 => Op::StartPayment { hold, buyer, order, coupon },
                5 => Op::PaymentFailed { hold, order },
                6 => Op::Capture { hold, order },
                7 => Op::Settle { hold, order },
                _ => Op::Restock { hold, order, returned: units },
            }
        },
    )
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        8 => (0..8i64).prop_map(Happens::Ticks),
        1 => (-20..80i64).prop_map(Happens::Ticks),
        20 => vec(op(), 0..6).prop_map(Happens::Asked),
        6 => vec(op(), 1..4).prop_map(Happens::AskedTwice),
        1 => any::<bool>().prop_map(Happens::Paused),
        1 => (1..4u32).prop_map(Happens::StockAdded),
        1 => (0..100u64).prop_map(|in_ticks| Happens::Closes { in_ticks }),
        2 => Just(Happens::Crash),
        1 => Just(Happens::Lost),
    ]
}

/// The live's coupons; no other sale uses any.
struct Coupons(HashMap<CouponCode, CouponTerms>);

impl Desk for Coupons {
    fn terms(&self, code: &CouponCode) -> Option<&CouponTerms> {
        self.0.get(code)
    }

    fn elsewhere(&self, _: &CouponCode, _: &BuyerId) -> Uses {
        Uses::default()
    }
}

/// A sale, all that was written down of it, and all that was told.
struct Run {
    terms: SaleTerms,
    now: UnixMillis,
    book: SaleBook,
    written: SaleBook,
    desk: Coupons,
    told: BTreeMap<HoldId, HoldRecord>,
    states: HashMap<HoldId, HoldState>,
    expired: HashMap<HoldId, u32>,
}

impl Run {
    fn open(terms: SaleTerms) -> Self {
        let mut run = Self {
            terms,
            now: START,
            book: SaleBook::new(),
            written: SaleBook::new(),
            desk: Coupons(coupons().into_iter().collect()),
            told: BTreeMap::new(),
            states: HashMap::new(),
            expired: HashMap::new(),
        };
        run.put();
        run
    }

    fn put(&mut self) {
        self.book.put_terms(&self.terms, Mark::default(), self.now).unwrap();
        self.write();
    }

    /// What is answered is written down first.
    fn write(&mut self) {
        if let Some(change) = self.book.change() {
            self.written.restore(change.into_owned()).unwrap();
        }
    }

    /// Asks with the tickets that the server gives to who enters.
    fn ask(&mut self, ops: &[Op]) -> Vec<haul_commerce::Outcome> {
        let draw = self.terms.draw.as_ref();
        let ticketed = |op: &Op| match op.clone() {
            Op::Hold { hold, buyer, units, tier, coupon, .. } => {
                let ticket = draw.map(|draw| draw.ticket(&hold));
                Op::Hold { hold, buyer, units, tier, coupon, ticket }
            }
            other => other,
        };
        let ops: Vec<Op> = ops.iter().map(ticketed).collect();
        let applied = self.book.apply_with(&ops, &self.desk, Mark::default(), self.now).unwrap();
        self.write();
        for Released { hold, .. } in applied.released {
            let times = self.expired.entry(hold).or_default();
            *times += 1;
            assert_eq!(*times, 1, "released twice");
        }
        self.told.extend(applied.holds.into_iter().map(|record| (record.hold.clone(), record)));
        applied.outcomes
    }

    fn happens(&mut self, what: &Happens) {
        match what {
            Happens::Ticks(ticks) => self.now.0 = self.now.0.saturating_add_signed(ticks * TICK_MS as i64),
            Happens::Asked(ops) => drop(self.ask(ops)),
            Happens::AskedTwice(ops) => {
                // Each by itself: of two steps on one hold, the later may have gone past the earlier. What is due is done
                // before, since the line is served at the end of a call, and who is served has another answer.
                for op in ops {
                    self.ask(&[]);
                    let first = self.ask(std::slice::from_ref(op));
                    let (mark, lines) = (self.book.mark(), self.book.lines());
                    let again = self.ask(std::slice::from_ref(op));
                    assert_eq!((again, self.book.mark(), self.book.lines()), (first, mark, lines), "{op:?}");
                }
            }
            Happens::Paused(paused) => {
                self.terms.paused = *paused;
                self.put();
            }
            Happens::StockAdded(units) => {
                self.terms.stock += units;
                self.terms.more.iter_mut().for_each(|line| line.stock += units);
                self.put();
            }
            Happens::Closes { in_ticks } => {
                self.terms.closes_at =
                    UnixMillis(self.now.0.max(self.terms.opens_at.0 + 1) + in_ticks * TICK_MS);
                self.put();
            }
            Happens::Crash => {
                same_book(&self.book, &self.written, self.now, "what is written down is what was told");
                self.book = self.written.clone();
            }
            Happens::Lost => self.rebuild(),
        }
        check(&self.book, &self.terms, &mut self.states, "");
    }

    fn rebuild(&mut self) {
        let seen = Mark { sequence: self.book.mark().sequence + 1, ..self.book.mark() };
        let clock = self.book.clock();
        let Rebuild::Begun { epoch } = self.book.begin_rebuild(seen, self.now) else {
            panic!("it is behind")
        };
        self.write();
        let image =
            Image { epoch, clock, terms: self.terms.clone(), holds: self.told.values().cloned().collect() };
        image.check().unwrap();
        self.book.rebuild(&image, &image.holds, true, self.now).unwrap();
        self.write();
    }

    /// Whatever was going on, it ends: captured holds are settled, and time ends the others.
    fn ends(mut self) {
        for hold in all_holds() {
            if let Some(order) = self.book.hold(&hold).and_then(|record| record.order.clone()) {
                self.ask(&[Op::Settle { hold, order }]);
            }
        }
        self.now = UnixMillis(self.now.0.max(self.book.clock().0).max(self.terms.closes_at.0) + 1_000_000);
        self.terms.paused = false;
        self.put();
        self.ask(&[]);
        self.ask(&[]);
        check(&self.book, &self.terms, &mut self.states, "at the end");
        assert_eq!(self.book.counts().held, 0);
        for hold in all_holds() {
            let state = self.book.hold(&hold).map(|record| record.state);
            let over = matches!(state, None | Some(HoldState::Sold | HoldState::Released | HoldState::Late));
            assert!(over, "{hold} is {state:?}");
        }
    }
}

#[test]
fn no_sequence_of_events_breaks_an_invariant() {
    let config = ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() };
    let sequences = (terms(), vec(happens(), 1..150));
    let run = TestRunner::new(config).run(&sequences, |(terms, all)| {
        let mut run = Run::open(terms);
        all.iter().for_each(|what| run.happens(what));
        run.ends();
        Ok(())
    });
    if let Err(shortest) = run {
        panic!("{shortest}");
    }
}
