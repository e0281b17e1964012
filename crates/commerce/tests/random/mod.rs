//! Seeded random shopping in one small sale, of one line or several: few units, few buyers, many retries, wrong keys, and a clock that jumps.
//! The same seed gives the same steps, so that whatever follows the state machine can be compared step by step.

// The tests of the gates use it too, and not all of it.
#![allow(dead_code)]

use haul_commerce::{CouponTerms, Draw, EarlyAccess, LineTerms, Op, SaleMode, SaleTerms, Units};
use haul_model::{BuyerId, CouponCode, HoldId, OrderId, UnixMillis};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// The clock now shows this.
    Clock(UnixMillis),
    /// The sale is made known, or its times are changed.
    Put(SaleTerms),
    /// A batch of operations, perhaps empty.
    Apply(Vec<Op>),
    /// Somebody comes back and asks for their holds.
    Standing(BuyerId),
}

/// Where time starts.
pub(crate) const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// Every time is a multiple of this, so that opening, closing and deadlines are often hit to the millisecond.
pub(crate) const TICK_MS: u64 = 250;

pub(crate) const BUYERS: u32 = 6;
pub(crate) const KEYS: u32 = 6;

/// Makes steps without end.
pub(crate) struct Shopping {
    random: StdRng,
    now: UnixMillis,
    terms: SaleTerms,
}

impl Shopping {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let opens_at = UnixMillis(START.0 + ticks(&mut random, 0..12));
        let mut terms = SaleTerms {
            stock: random.random_range(1..=12),
            per_buyer: random.random_range(1..=4),
            hold_ms: ticks(&mut random, 4..20),
            pay_ms: ticks(&mut random, 4..36),
            opens_at,
            closes_at: UnixMillis(opens_at.0 + ticks(&mut random, 40..400)),
            ..SaleTerms::default()
        };
        // Of three sales, one has a single line; of four, one is first paid, first served; half open earlier for some.
        if !seed.is_multiple_of(3) {
            terms.more = (0..random.random_range(1..=3))
                .map(|_| LineTerms {
                    stock: random.random_range(1..=6),
                    per_buyer: random.random_range(1..=4),
                })
                .collect();
        }
        if seed % 4 == 3 {
            terms.mode = SaleMode::FirstPaid;
        }
        if seed % 4 < 2 {
            terms.offer_ms = Some(ticks(&mut random, 4..12));
        }
        // Of seven, one is drawn.
        if seed % 7 == 5 {
            (terms.mode, terms.offer_ms) = (SaleMode::HoldInCart, None);
            terms.draw = Some(Draw::new(ticks(&mut random, 4..40), [seed.into(), 1]));
        }
        if seed % 2 == 1 {
            terms.early = [("gold", 0..8), ("silver", 0..4)]
                .map(|(tier, sooner)| EarlyAccess {
                    tier: tier.parse().expect("letters are an id"),
                    ms: TICK_MS + ticks(&mut random, sooner),
                })
                .into();
        }
        Self { random, now: START, terms }
    }

    pub(crate) fn next_step(&mut self) -> Step {
        match self.random.random_range(0..100) {
            0..=1 => Step::Put(self.terms.clone()),
            2 => {
                self.terms.closes_at = UnixMillis(self.now.0 + ticks(&mut self.random, 0..120));
                self.terms.paused = self.random.random_range(0..4) == 0;
                // Of a known sale, units may only be added, whatever is asked for.
                if self.random.random_range(0..8) == 0 {
                    self.terms.stock += 1;
                    self.terms.more.iter_mut().for_each(|line| line.stock += 1);
                }
                Step::Put(SaleTerms {
                    stock: self.random.random_range(1..=self.terms.stock),
                    ..self.terms.clone()
                })
            }
            3..=24 => {
                self.now.0 += ticks(&mut self.random, 0..6);
                Step::Clock(self.now)
            }
            25..=26 => {
                self.now.0 += ticks(&mut self.random, 0..80);
                Step::Clock(self.now)
            }
            27..=28 => {
                self.now.0 = self.now.0.saturating_sub(ticks(&mut self.random, 0..20)).max(START.0);
                Step::Clock(self.now)
            }
            29..=36 => Step::Standing(self.buyer()),
            _ => {
                let ops = self.random.random_range(0..=8);
                Step::Apply((0..ops).map(|_| self.op()).collect())
            }
        }
    }

    /// Of a key, mostly the same lines: one, or two at once; now and then one that the sale may not have.
    fn units(&mut self, key: u32, quantity: u32) -> Units {
        let lines = 1 + self.terms.more.len() as u32;
        let line = match self.random.random_range(0..40) {
            0 => self.random.random_range(0..6),
            _ => key % lines,
        } as u8;
        if key % 3 == 2 && lines > 1 {
            let other = ((u32::from(line) + 1) % lines) as u8;
            return Units::new([(line, quantity), (other, 1)]).unwrap_or_else(|_| quantity.into());
        }
        Units::of_line(line, quantity)
    }

    /// Of a key, mostly none or the same.
    fn coupon(&mut self, key: u32) -> Option<CouponCode> {
        let which = match self.random.random_range(0..12) {
            0 => self.random.random_range(0..5),
            _ => key as usize % 5,
        };
        coupons().get(which).map(|(code, _)| code.clone())
    }

    fn buyer(&mut self) -> BuyerId {
        buyer(self.random.random_range(0..BUYERS))
    }

    fn op(&mut self) -> Op {
        let (owner, key) = (self.random.random_range(0..BUYERS), self.random.random_range(0..KEYS));
        let hold = hold(owner, key);
        // Now and then somebody tries another's hold, pays it by another order, or asks for another quantity.
        let odd = |random: &mut StdRng| random.random_range(0..16) == 0;
        let buyer = if odd(&mut self.random) { self.buyer() } else { buyer(owner) };
        let order = order(owner, key, odd(&mut self.random));
        match self.random.random_range(0..21) {
            0..=9 => {
                let quantity = match self.random.random_range(0..32) {
                    0 => 0,
                    1 => u32::MAX,
                    2 => self.random.random_range(1..=8),
                    _ => 1 + key % 2,
                };
                let tier = ["gold", "silver", "bronze"]
                    .get(self.random.random_range(0..6))
                    .map(|tier| tier.parse().expect("letters are an id"));
                let units = self.units(key, quantity);
                match self.random.random_range(0..3) {
                    0 => Op::Wait { hold, buyer, units, tier },
                    _ => {
                        // Now and then without a ticket, or with a coupon where none may be.
                        let draw = self.terms.draw.as_ref().filter(|_| !odd(&mut self.random));
                        let ticket = draw.map(|draw| draw.ticket(&hold));
                        let coupon = match draw {
                            Some(_) if !odd(&mut self.random) => None,
                            _ => self.coupon(key),
                        };
                        Op::Hold { hold, buyer, units, tier, coupon, ticket }
                    }
                }
            }
            20 => {
                let quantity = self.random.random_range(0..=2);
                Op::Restock { hold, order, returned: self.units(key, quantity) }
            }
            10..=11 => Op::Cancel { hold, buyer },
            12..=14 => Op::StartPayment { hold, buyer, order, coupon: self.coupon(key + 1) },
            15 => Op::PaymentFailed { hold, order },
            16..=17 => Op::Capture { hold, order },
            _ => Op::Settle { hold, order },
        }
    }
}

fn ticks(random: &mut StdRng, range: std::ops::Range<u64>) -> u64 {
    TICK_MS * random.random_range(range)
}

/// The coupons of the live: for few, for one of each buyer, for later, and closed.
pub(crate) fn coupons() -> Vec<(CouponCode, CouponTerms)> {
    let terms = |limit, per_buyer, from_ms, closed| CouponTerms {
        limit,
        per_buyer,
        valid_from: UnixMillis(START.0 + from_ms),
        valid_until: UnixMillis(START.0 + 60_000),
        closed,
    };
    [
        ("FEW", terms(3, 3, 0, false)),
        ("ONCE", terms(100, 1, 0, false)),
        ("LATER", terms(100, 100, 10_000, false)),
        ("CLOSED", terms(100, 100, 0, true)),
    ]
    .map(|(code, terms)| (code.parse().expect("letters are an id"), terms))
    .into()
}

/// Every hold that a step may name.
pub(crate) fn all_holds() -> Vec<HoldId> {
    (0..BUYERS).flat_map(|owner| (0..KEYS).map(move |key| hold(owner, key))).collect()
}

/// Everybody who may appear in a step.
pub(crate) fn all_buyers() -> Vec<BuyerId> {
    (0..BUYERS).map(buyer).collect()
}

pub(crate) fn buyer(owner: u32) -> BuyerId {
    format!("buyer-{owner}").parse().expect("letters, digits and a dash are an id")
}

pub(crate) fn hold(owner: u32, key: u32) -> HoldId {
    format!("hold_{owner}_{key}").parse().expect("letters, digits and underscores are an id")
}

pub(crate) fn order(owner: u32, key: u32, other: bool) -> OrderId {
    format!("order_{owner}_{key}{}", if other { "_other" } else { "" })
        .parse()
        .expect("letters, digits and underscores are an id")
}
