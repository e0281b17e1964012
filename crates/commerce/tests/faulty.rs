//! The history checker, tested: shops that are wrong in one way each, and for each the scenario that shows it. The same
//! scenario with the right shop breaks nothing.

#![allow(clippy::unwrap_used)]

mod history;
mod random;

use std::collections::{BTreeMap, BTreeSet};

use haul_commerce::{
    LineTerms, Mark, Op, Outcome, Refusal, SaleBook, SaleTerms, Units,
    book::{HoldRecord, HoldState},
};
use haul_model::{HoldId, UnixMillis};
use history::{Answer, Ask, Broken, End, Event, Lines, Payment, Record, check};
use random::{START, Shopping, Step};

/// In which way a shop is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Reads the stock, and writes it back later.
    ReadThenDecrement,
    /// Answers before what it says would survive a crash.
    AcknowledgeBeforeDurable,
    /// Makes a new hold for every request, whatever its key.
    NoIdempotency,
    /// Gives units back as often as it is told to.
    DoubleRelease,
    /// Believes the buyer's clock.
    ClientsClock,
    /// Forgets who bought how much.
    NoLimit,
    /// Gives free units to whoever comes first, and not to those who wait.
    Overtakes,
    /// Counts units that came back once more each time that it is told of them.
    RestocksTwice,
    /// Takes a payment twice, or sends it back and sells all the same.
    PaidTwice,
    /// Of a bundle, sets aside what comes first, and says that it is all.
    HalfABundle,
    /// Of a bundle that it can't have whole, keeps what it could have, and says no.
    KeepsWhatItRefused,
    /// Lets nobody's units go.
    NeverLetsGo,
    /// Forgets money that it could not use.
    KeepsMoney,
}

/// A shop with a sale, watched.
struct Shop {
    fault: Fault,
    book: SaleBook,
    /// What a crash leaves.
    durable: SaleBook,
    now: u64,
    /// Units that a double release made out of nothing.
    extra: u32,
    requests: u32,
    record: Record,
}

/// A request that is on its way: what the shop has read of its books before it writes.
struct Begun {
    buyer: String,
    ask: Ask,
    read: SaleBook,
    clients_now: u64,
}

impl Shop {
    fn open(fault: Fault, stock: u32, per_buyer: u32) -> Self {
        Self::with_lines(fault, stock, per_buyer, 1)
    }

    /// A sale of so many lines that are alike.
    fn with_lines(fault: Fault, stock: u32, per_buyer: u32, lines: usize) -> Self {
        let terms = SaleTerms {
            stock,
            more: vec![LineTerms { stock, per_buyer }; lines - 1],
            per_buyer: if fault == Fault::NoLimit { 100 } else { per_buyer },
            hold_ms: 10_000,
            pay_ms: 30_000,
            opens_at: UnixMillis(START.0 + 1_000),
            closes_at: UnixMillis(START.0 + 600_000),
            offer_ms: Some(5_000),
            ..SaleTerms::default()
        };
        let mut book = SaleBook::new();
        book.put_terms(&terms, Mark::default(), START).unwrap();
        let record = Record {
            stock: vec![stock; lines],
            per_buyer: vec![per_buyer; lines],
            opens_at: terms.opens_at.0,
            closes_at: terms.closes_at.0,
            ..Record::default()
        };
        let now = START.0 + 1_000;
        Self { fault, durable: book.clone(), book, now, extra: 0, requests: 0, record }
    }

    fn begin(&self, buyer: &str, ask: Ask) -> Begun {
        Begun { buyer: buyer.to_owned(), ask, read: self.book.clone(), clients_now: self.now }
    }

    /// Decides, and answers; the answer may be lost on its way.
    fn finish(&mut self, begun: Begun, arrives: bool) -> Answer {
        let Begun { buyer, ask, read, clients_now } = begun;
        self.requests += 1;
        if self.fault == Fault::ReadThenDecrement {
            self.book = read;
        }
        let now = if self.fault == Fault::ClientsClock { clients_now } else { self.now };
        let op = match &ask {
            Ask::Hold { key, units } | Ask::Wait { key, units } => {
                let again = if self.fault == Fault::NoIdempotency { self.requests } else { 0 };
                let hold: HoldId = format!("{buyer}-{key}-{again}").parse().unwrap();
                let (buyer, mut units) = (buyer.parse().unwrap(), units_of(units));
                if self.fault == Fault::HalfABundle {
                    let first = units.iter().next();
                    units = first.map(|(line, units)| Units::of_line(line, units)).unwrap();
                }
                match &ask {
                    Ask::Wait { .. } if self.fault != Fault::Overtakes => {
                        Op::Wait { hold, buyer, units, tier: None }
                    }
                    _ => Op::Hold { hold, buyer, units, tier: None, coupon: None, ticket: None },
                }
            }
            Ask::Cancel { hold } => Op::Cancel { hold: hold.parse().unwrap(), buyer: buyer.parse().unwrap() },
            Ask::Checkout { hold } => Op::StartPayment {
                hold: hold.parse().unwrap(),
                buyer: buyer.parse().unwrap(),
                order: format!("order-{hold}").parse().unwrap(),
                coupon: None,
            },
        };
        let over =
            |hold: &HoldId| self.book.hold(hold).is_some_and(|record| record.state == HoldState::Released);
        if let (Fault::DoubleRelease, Op::Cancel { hold, .. }) = (self.fault, &op)
            && over(hold)
        {
            self.extra += self.book.hold(hold).unwrap().units.quantity();
        }
        // A clock that stands lets no deadline pass.
        let now = if self.fault == Fault::NeverLetsGo { START.0 + 1_000 } else { now };
        let mut applied =
            self.book.apply(std::slice::from_ref(&op), Mark::default(), UnixMillis(now)).unwrap();
        let offers = applied.offered.into_iter().map(|offered| (offered.hold.to_string(), self.now));
        self.record.offers.extend(offers);
        let outcome = applied.outcomes.remove(0);
        let (Op::Hold { hold, .. }
        | Op::Wait { hold, .. }
        | Op::Cancel { hold, .. }
        | Op::StartPayment { hold, .. }) = op
        else {
            unreachable!()
        };
        let hold = hold.to_string();
        let answer = match outcome {
            // Says that it keeps a place, and keeps none.
            Outcome::Refused(Refusal::NotEnough { .. })
                if self.fault == Fault::Overtakes && matches!(ask, Ask::Wait { .. }) =>
            {
                Answer::Waiting { hold }
            }
            Outcome::Refused(Refusal::NotEnough { .. } | Refusal::SoldOut) if self.extra > 0 => {
                self.extra -= 1;
                Answer::Held { hold, deadline: self.now + 10_000 }
            }
            Outcome::Held { deadline } | Outcome::Restored { deadline } => {
                Answer::Held { hold, deadline: deadline.0 }
            }
            Outcome::Paying { deadline } => Answer::Paying { hold, deadline: deadline.0 },
            Outcome::Captured { .. } | Outcome::Sold => Answer::Taken { hold },
            Outcome::Released | Outcome::Late | Outcome::Restocked => Answer::Released,
            Outcome::Waiting { .. } | Outcome::Entered => Answer::Waiting { hold },
            Outcome::Refused(refusal) => Answer::Refused(format!("{refusal:?}")),
        };
        if let (Fault::KeepsWhatItRefused, Answer::Refused(_), Ask::Hold { key, units }) =
            (self.fault, &answer, &ask)
            && units.len() > 1
        {
            for (line, units) in units_of(units).iter() {
                let hold: HoldId = format!("{buyer}-{key}-line{line}").parse().unwrap();
                let part = Op::Hold {
                    hold,
                    buyer: buyer.parse().unwrap(),
                    units: Units::of_line(line, units),
                    tier: None,
                    coupon: None,
                    ticket: None,
                };
                self.book.apply(&[part], Mark::default(), UnixMillis(now)).unwrap();
            }
        }
        if self.fault != Fault::AcknowledgeBeforeDurable {
            self.durable = self.book.clone();
        }
        let told = if arrives { answer.clone() } else { Answer::Unknown };
        self.record.events.push(Event {
            asked_at: self.now,
            answered_at: self.now,
            buyer,
            ask,
            answer: told,
        });
        self.look();
        answer
    }

    fn ask(&mut self, buyer: &str, ask: Ask) -> Answer {
        let begun = self.begin(buyer, ask);
        self.finish(begun, true)
    }

    fn hold(&mut self, buyer: &str, key: &str) -> Answer {
        self.ask(buyer, one(key))
    }

    /// The provider has the money of a hold.
    fn paid(&mut self, hold: &str) {
        let (id, order) = (|| hold.parse().unwrap(), || format!("order-{hold}").parse().unwrap());
        let capture = Op::Capture { hold: id(), order: order() };
        let settle = Op::Settle { hold: id(), order: order() };
        let now = UnixMillis(self.now);
        let captured = self.book.apply(&[capture], Mark::default(), now).unwrap().outcomes.remove(0);
        let sold = matches!(captured, Outcome::Captured { .. })
            && self.book.apply(&[settle], Mark::default(), now).unwrap().outcomes[0] == Outcome::Sold;
        let again = captured == Outcome::Sold;
        self.record.taken.push(hold.to_owned());
        if !sold && !again && self.fault == Fault::KeepsMoney {
            return;
        }
        let refunds = u32::from(!sold && (!again || self.fault != Fault::PaidTwice));
        self.record.payments.push(Payment { hold: hold.to_owned(), at: self.now, sold, refunds });
        self.durable = self.book.clone();
    }

    /// All units of a sold hold are on the shelf again; `repeated`: that was said before.
    fn restock(&mut self, hold: &str, repeated: bool) {
        let (id, order) = (hold.parse().unwrap(), format!("order-{hold}").parse().unwrap());
        let returned = self.book.hold(&id).unwrap().units.clone();
        let units = lines_of(&returned);
        let op = Op::Restock { hold: id, order, returned };
        let applied = self.book.apply(&[op], Mark::default(), UnixMillis(self.now)).unwrap();
        assert_eq!(applied.outcomes, [Outcome::Restocked]);
        if !repeated {
            self.record.returned.push((hold.to_owned(), self.now, units));
        } else if self.fault == Fault::RestocksTwice {
            self.extra += units.iter().sum::<u32>();
        }
        self.durable = self.book.clone();
    }

    fn look(&mut self) {
        let mut lines: Vec<_> = self
            .book
            .lines()
            .into_iter()
            .map(|of| (u64::from(of.available), u64::from(of.held), u64::from(of.sold)))
            .collect();
        lines[0].0 += u64::from(self.extra);
        self.record.counts.push(lines);
    }

    fn crash(&mut self) {
        self.book = self.durable.clone();
    }

    /// The shop comes to rest, and the record is read.
    fn broken(mut self) -> BTreeSet<Broken> {
        self.look();
        let end = |record: &HoldRecord| {
            let end = match record.state {
                HoldState::Held | HoldState::Paying | HoldState::Captured => End::Standing,
                HoldState::Sold => End::Sold,
                HoldState::Waiting | HoldState::Released => End::Released,
                HoldState::Late => End::Late,
            };
            let kept = Units::new(record.kept()).unwrap();
            (record.hold.to_string(), (record.buyer.to_string(), lines_of(&kept), end))
        };
        self.record.ends = self.book.snapshot().flat_map(|piece| piece.holds).map(end).collect();
        check(&self.record)
            .into_iter()
            .map(|(broken, example)| {
                println!("{broken:?}: {example}");
                broken
            })
            .collect()
    }
}

/// Units by line, as the state machine has them.
fn units_of(lines: &Lines) -> Units {
    let some = (0..).zip(lines.iter().copied()).filter(|(_, units)| *units > 0);
    Units::new(some).unwrap_or_else(|_| 0.into())
}

fn lines_of(units: &Units) -> Lines {
    let last = units.iter().last().map_or(0, |(line, _)| line);
    (0..=last).map(|line| units.of(line)).collect()
}

/// One unit, by a key.
fn one(key: &str) -> Ask {
    Ask::Hold { key: key.to_owned(), units: vec![1] }
}

fn held(answer: Answer) -> String {
    let Answer::Held { hold, .. } = answer else { panic!("{answer:?}") };
    hold
}

fn two_ask_for_the_last_unit_at_once(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::open(fault, 1, 1);
    let hold = || one("k");
    let (ann, bob) = (shop.begin("ann", hold()), shop.begin("bob", hold()));
    shop.finish(ann, true);
    shop.finish(bob, true);
    shop.broken()
}

fn the_power_fails_right_after_an_answer(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::open(fault, 5, 1);
    shop.hold("ann", "k");
    shop.crash();
    shop.hold("bob", "k");
    shop.broken()
}

fn an_answer_is_lost_and_the_buyer_asks_again(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::open(fault, 5, 5);
    for arrives in [true, false, true] {
        let begun = shop.begin("ann", one("k"));
        shop.finish(begun, arrives);
    }
    shop.broken()
}

fn a_cancellation_is_sent_twice(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::open(fault, 2, 1);
    let hold = held(shop.hold("ann", "k"));
    for _ in 0..2 {
        shop.ask("ann", Ask::Cancel { hold: hold.clone() });
    }
    for buyer in ["bob", "cid", "dan"] {
        shop.hold(buyer, "k");
    }
    shop.broken()
}

fn a_buyer_whose_clock_is_five_minutes_ahead_comes_early(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::open(fault, 5, 1);
    shop.now = START.0 + 999;
    let begun = shop.begin("ann", one("k"));
    shop.finish(Begun { clients_now: shop.now + 300_000, ..begun }, true);
    shop.now += 1;
    shop.hold("bob", "k");
    shop.broken()
}

fn one_buyer_comes_with_many_sessions(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::open(fault, 50, 2);
    for session in 0..20 {
        shop.hold("ann", &format!("k{session}"));
    }
    shop.broken()
}

fn a_payment_is_reported_twice(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::open(fault, 5, 1);
    let hold = held(shop.hold("ann", "k"));
    shop.ask("ann", Ask::Checkout { hold: hold.clone() });
    shop.paid(&hold);
    shop.paid(&hold);
    shop.broken()
}

fn a_unit_comes_back_and_somebody_new_is_quick(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::open(fault, 1, 1);
    let hold = held(shop.hold("ann", "k"));
    let wait = || Ask::Wait { key: "k".to_owned(), units: vec![1] };
    assert!(matches!(shop.ask("bob", wait()), Answer::Waiting { .. }));
    shop.now += 10;
    shop.ask("ann", Ask::Cancel { hold });
    shop.now += 10;
    shop.hold("cid", "k");
    shop.broken()
}

fn a_restock_is_told_twice(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::open(fault, 1, 1);
    let hold = held(shop.hold("ann", "k"));
    shop.ask("ann", Ask::Checkout { hold: hold.clone() });
    shop.paid(&hold);
    shop.now += 10;
    shop.restock(&hold, false);
    shop.restock(&hold, true);
    shop.now += 10;
    for buyer in ["bob", "cid"] {
        shop.hold(buyer, "k");
    }
    shop.broken()
}

fn bundle() -> Ask {
    Ask::Hold { key: "k".to_owned(), units: vec![1, 1] }
}

fn two_want_the_same_bundle(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::with_lines(fault, 1, 1, 2);
    shop.ask("ann", bundle());
    shop.ask("bob", bundle());
    shop.broken()
}

fn a_bundle_can_be_had_in_part_only(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::with_lines(fault, 1, 1, 2);
    shop.hold("ann", "k");
    let refused = shop.ask("bob", bundle());
    assert!(matches!(refused, Answer::Refused(_)), "{refused:?}");
    shop.broken()
}

fn a_buyer_walks_away(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::open(fault, 1, 1);
    shop.hold("ann", "k");
    shop.now += 60_000;
    shop.hold("bob", "k");
    shop.record.rested_at = Some(shop.now);
    shop.broken()
}

fn money_comes_when_nothing_is_left(fault: Fault) -> BTreeSet<Broken> {
    let mut shop = Shop::open(fault, 1, 1);
    let hold = held(shop.hold("ann", "k"));
    shop.ask("ann", Ask::Checkout { hold: hold.clone() });
    shop.now += 60_000;
    shop.hold("bob", "k");
    shop.paid(&hold);
    shop.broken()
}

/// A scenario, the fault that it catches, and the promise that is broken by it.
type Case = (fn(Fault) -> BTreeSet<Broken>, Fault, Broken);

const CASES: [Case; 13] = [
    (two_ask_for_the_last_unit_at_once, Fault::ReadThenDecrement, Broken::Oversold),
    (the_power_fails_right_after_an_answer, Fault::AcknowledgeBeforeDurable, Broken::Vanished),
    (an_answer_is_lost_and_the_buyer_asks_again, Fault::NoIdempotency, Broken::KeyTwice),
    (a_cancellation_is_sent_twice, Fault::DoubleRelease, Broken::Oversold),
    (a_buyer_whose_clock_is_five_minutes_ahead_comes_early, Fault::ClientsClock, Broken::NotOpen),
    (one_buyer_comes_with_many_sessions, Fault::NoLimit, Broken::BuyerLimit),
    (a_payment_is_reported_twice, Fault::PaidTwice, Broken::Money),
    (a_unit_comes_back_and_somebody_new_is_quick, Fault::Overtakes, Broken::Overtaken),
    (a_restock_is_told_twice, Fault::RestocksTwice, Broken::Oversold),
    (two_want_the_same_bundle, Fault::HalfABundle, Broken::Halved),
    (a_bundle_can_be_had_in_part_only, Fault::KeepsWhatItRefused, Broken::Untold),
    (a_buyer_walks_away, Fault::NeverLetsGo, Broken::Endless),
    (money_comes_when_nothing_is_left, Fault::KeepsMoney, Broken::Money),
];

#[test]
fn each_faulty_shop_is_caught_by_its_scenario() {
    for (scenario, fault, expected) in CASES {
        let broken = scenario(fault);
        assert!(broken.contains(&expected), "{fault:?}: {broken:?}");
    }
}

#[test]
fn the_right_shop_breaks_nothing_in_any_scenario() {
    for (scenario, fault, _) in CASES {
        assert_eq!(scenario(Fault::None), BTreeSet::new(), "the scenario for {fault:?}");
    }
}

#[test]
fn the_right_shop_breaks_nothing_whatever_happens() {
    for seed in 0..200 {
        let mut shop = Shop::open(Fault::None, 1 + seed as u32 % 7, 2);
        let mut shopping = Shopping::new(seed);
        let mut paying: BTreeMap<String, u32> = BTreeMap::new();
        for number in 0..200 {
            let Step::Apply(ops) = shopping.next_step() else {
                shop.now += 250;
                continue;
            };
            for op in ops {
                match op {
                    Op::Hold { hold, buyer, units, .. } if (1..=2).contains(&units.total()) => {
                        shop.ask(buyer.as_str(), one(hold.as_str()));
                    }
                    Op::Cancel { hold, buyer } => {
                        let hold = format!("{buyer}-{hold}-0");
                        shop.ask(buyer.as_str(), Ask::Cancel { hold });
                    }
                    Op::StartPayment { hold, buyer, .. } => {
                        let hold = format!("{buyer}-{hold}-0");
                        if let Answer::Paying { hold, .. } = shop.ask(buyer.as_str(), Ask::Checkout { hold })
                        {
                            paying.entry(hold).or_default();
                        }
                    }
                    _ if number % 3 == 0 => {
                        let next = paying.iter().find(|(_, times)| **times < 2).map(|(hold, _)| hold.clone());
                        if let Some(hold) = next {
                            *paying.get_mut(&hold).unwrap() += 1;
                            shop.paid(&hold);
                        }
                    }
                    _ => {}
                }
            }
            if number % 40 == 39 {
                shop.crash();
            }
        }
        assert_eq!(shop.broken(), BTreeSet::new(), "seed {seed}");
    }
}
