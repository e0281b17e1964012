//! Reads the complete record of a run, what was asked and answered, what the ledger has in the end, what providers took
//! and gave back, and says which promise was broken.
//!
//! It knows nothing of how the answers came about, and believes no server: times are those of whoever watched.

// Other tests use it too, and not all of it.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap, HashSet};

/// Units, by line of the sale.
pub(crate) type Lines = Vec<u32>;

/// One request and its answer. Times are the watcher's, in milliseconds: the truth, whatever clocks the others have.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) asked_at: u64,
    pub(crate) answered_at: u64,
    pub(crate) buyer: String,
    pub(crate) ask: Ask,
    pub(crate) answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    Hold {
        key: String,
        units: Lines,
    },
    /// The same as `Hold`, and wait in line where that is refused.
    Wait {
        key: String,
        units: Lines,
    },
    Cancel {
        hold: String,
    },
    Checkout {
        hold: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Set aside until `deadline`, by the watcher's clock.
    Held { hold: String, deadline: u64 },
    /// The buyer may pay until `deadline`.
    Paying { hold: String, deadline: u64 },
    /// In line: nothing is promised yet, but the place.
    Waiting { hold: String },
    /// Paid, and sold or soon to be.
    Taken { hold: String },
    /// The hold is over.
    Released,
    /// Not done, with its code.
    Refused(String),
    /// Nothing was promised: no answer, or "pending".
    Unknown,
}

/// How a hold stands when everything has come to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Standing,
    Sold,
    Released,
    Late,
}

/// Money that a provider took.
#[derive(Debug, Clone)]
pub(crate) struct Payment {
    pub(crate) hold: String,
    /// When it was known to be settled.
    pub(crate) at: u64,
    /// Whether the order it paid for is sold by it.
    pub(crate) sold: bool,
    /// How often it went back.
    pub(crate) refunds: u32,
}

/// A run of one sale.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) stock: Lines,
    pub(crate) per_buyer: Lines,
    pub(crate) opens_at: u64,
    pub(crate) closes_at: u64,
    pub(crate) events: Vec<Event>,
    /// Available, held, sold of each line, each time that somebody looked.
    pub(crate) counts: Vec<Vec<(u64, u64, u64)>>,
    /// Every hold that is known in the end: whose, how many, and how it stands.
    pub(crate) ends: HashMap<String, (String, Lines, End)>,
    /// When everything had come to rest, if it did.
    pub(crate) rested_at: Option<u64>,
    /// What the ledger says of payments.
    pub(crate) payments: Vec<Payment>,
    /// Holds for which a provider took money, as those saw it who paid.
    pub(crate) taken: Vec<String>,
    /// Holds that were offered to those in line, and when.
    pub(crate) offers: Vec<(String, u64)>,
    /// Units of sold holds that came back, and when: what somebody really has on the shelf again, each once.
    pub(crate) returned: Vec<(String, u64, Lines)>,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Broken {
    /// available + held + sold of a line was not its stock.
    Sum,
    /// More units were promised at one moment, or sold, than there are.
    Oversold,
    /// A buyer had more than the limit.
    BuyerLimit,
    /// One key gave two holds, or one hold for two different requests.
    KeyTwice,
    /// An acknowledged hold is not known any more.
    Vanished,
    /// A hold was promised before the sale opened or after it closed.
    NotOpen,
    /// Money that was taken is not one sale or one refund, or something is sold that nobody paid for.
    Money,
    /// Somebody got units before another who had waited for them longer.
    Overtaken,
    /// A hold was told to be over, and stands or is sold without its buyer having paid.
    CameBack,
    /// A hold stands or is sold with other units than its buyer was promised.
    Halved,
    /// Units are set aside or sold for somebody who was told that they have none.
    Untold,
    /// A hold stands that had to end before everything had come to rest.
    Endless,
}

/// Every promise that was broken, once, with an example.
pub(crate) fn check(record: &Record) -> BTreeMap<Broken, String> {
    let mut found = BTreeMap::new();
    let mut tell = |broken: Broken, what: String| {
        found.entry(broken).or_insert(what);
    };
    for lines in &record.counts {
        for ((available, held, sold), stock) in lines.iter().zip(&record.stock) {
            if available + held + sold != u64::from(*stock) || *sold > u64::from(*stock) {
                tell(Broken::Sum, format!("{available} + {held} + {sold} of {stock}"));
            }
        }
    }
    keys(record, &mut tell);
    promises(record, &mut tell);
    ends(record, &mut tell);
    line(record, &mut tell);
    money(record, &mut tell);
    found
}

/// All that was taken is in the ledger, each as one sale or one refund; and all that is sold was paid for.
fn money(record: &Record, tell: &mut impl FnMut(Broken, String)) {
    for payment in &record.payments {
        if u32::from(payment.sold) + payment.refunds != 1 {
            tell(Broken::Money, format!("{payment:?}"));
        }
    }
    for hold in &record.taken {
        if !record.payments.iter().any(|payment| payment.hold == *hold) {
            tell(Broken::Money, format!("paid for {hold}, and nothing came of it"));
        }
    }
    for (hold, (buyer, _, end)) in &record.ends {
        let sold = record.payments.iter().filter(|payment| payment.hold == *hold && payment.sold).count();
        if (*end == End::Sold) != (sold == 1) || sold > 1 {
            tell(Broken::Money, format!("{hold} of {buyer} is {end:?}, by {sold} payments"));
        }
    }
}

/// One key is one hold, of the same units.
fn keys(record: &Record, tell: &mut impl FnMut(Broken, String)) {
    let mut holds: HashMap<(&str, &str), (&str, &Lines)> = HashMap::new();
    for event in &record.events {
        let (Ask::Hold { key, units } | Ask::Wait { key, units }) = &event.ask else { continue };
        let waiting = match &event.answer {
            Answer::Waiting { hold } => Some(hold.as_str()),
            _ => None,
        };
        let Some(hold) = promised(&event.answer).or(waiting) else { continue };
        let first = *holds.entry((&event.buyer, key)).or_insert((hold, units));
        if first != (hold, units) {
            tell(Broken::KeyTwice, format!("{} asked for {key}: {first:?}, then {event:?}", event.buyer));
        }
        if let Some((_, kept, _)) = record.ends.get(hold)
            && !same(kept, units, returned(record, hold))
        {
            tell(Broken::Halved, format!("{hold} has {kept:?}, after {event:?}"));
        }
    }
}

/// Whether a hold has in the end what was asked for, but for what came back.
fn same(kept: &Lines, asked: &Lines, returned: Lines) -> bool {
    let of = |lines: &Lines, line: usize| lines.get(line).copied().unwrap_or_default();
    (0..kept.len().max(asked.len())).all(|line| of(kept, line) + of(&returned, line) == of(asked, line))
}

/// Units of a hold that came back.
fn returned(record: &Record, hold: &str) -> Lines {
    let mut sum = Lines::new();
    for (_, _, lines) in record.returned.iter().filter(|(other, _, _)| other == hold) {
        sum.resize(sum.len().max(lines.len()), 0);
        sum.iter_mut().zip(lines).for_each(|(sum, units)| *sum += units);
    }
    sum
}

/// The hold that an answer to `hold` promises.
fn promised(answer: &Answer) -> Option<&str> {
    match answer {
        Answer::Held { hold, .. } | Answer::Paying { hold, .. } | Answer::Taken { hold } => Some(hold),
        Answer::Waiting { .. } | Answer::Released | Answer::Refused(_) | Answer::Unknown => None,
    }
}

/// Who was told to wait comes before everybody who asked for as many units or more after that, whether they waited too or
/// not.
fn line(record: &Record, tell: &mut impl FnMut(Broken, String)) {
    let offered = |hold: &str| record.offers.iter().find(|(other, _)| other == hold).map(|(_, at)| *at);
    let gave_up = |hold: &str| {
        let cancels = record
            .events
            .iter()
            .filter(|event| matches!(&event.ask, Ask::Cancel { hold: other } if other == hold));
        cancels.map(|event| event.asked_at).min()
    };
    for (index, first) in record.events.iter().enumerate() {
        let (Ask::Wait { units: wanted, .. }, Answer::Waiting { hold }) = (&first.ask, &first.answer) else {
            continue;
        };
        let until = offered(hold).into_iter().chain(gave_up(hold)).min().unwrap_or(u64::MAX);
        for later in &record.events[index + 1..] {
            let (Ask::Hold { units, .. } | Ask::Wait { units, .. }) = &later.ask else { continue };
            let as_many = wanted.iter().zip(units).all(|(wanted, units)| units >= wanted);
            let got = match &later.answer {
                Answer::Held { .. } => Some(later.answered_at),
                Answer::Waiting { hold: other } if other != hold => offered(other),
                _ => None,
            };
            if let Some(at) = got
                && later.asked_at >= first.answered_at
                && later.buyer != first.buyer
                && as_many
                && units.len() >= wanted.len()
                && at < until
            {
                tell(Broken::Overtaken, format!("{first:?}, before {later:?} at {at}"));
            }
        }
    }
}

/// A hold stands for certain from when its buyer was first told until its deadline or until it may have been given up,
/// and for good from when its payment was settled. At no moment may more units stand than there are, or than a buyer may have.
fn promises(record: &Record, tell: &mut impl FnMut(Broken, String)) {
    struct Promise<'a> {
        buyer: &'a str,
        units: &'a Lines,
        from: u64,
        until: u64,
    }
    let mut promises: BTreeMap<&str, Promise<'_>> = BTreeMap::new();
    for event in &record.events {
        let Some(hold) = promised(&event.answer) else { continue };
        if let Ask::Hold { units, .. } | Ask::Wait { units, .. } = &event.ask {
            if !promises.contains_key(hold)
                && (event.answered_at < record.opens_at || event.asked_at >= record.closes_at)
                && matches!(event.answer, Answer::Held { .. })
            {
                tell(Broken::NotOpen, format!("{event:?}"));
            }
            let promise =
                Promise { buyer: &event.buyer, units, from: event.answered_at, until: event.answered_at };
            promises.entry(hold).or_insert(promise);
        }
        if let Some(promise) = promises.get_mut(hold) {
            promise.until = match event.answer {
                Answer::Held { deadline, .. } | Answer::Paying { deadline, .. } => {
                    promise.until.max(deadline)
                }
                _ => promise.until,
            };
        }
    }
    for event in &record.events {
        if let Ask::Cancel { hold } = &event.ask
            && let Some(promise) = promises.get_mut(hold.as_str())
        {
            promise.until = promise.until.min(event.asked_at);
        }
    }
    // What is paid stands from then on, even if it had ended before.
    let sold: HashMap<&str, u64> = record
        .payments
        .iter()
        .filter(|payment| payment.sold)
        .map(|payment| (payment.hold.as_str(), payment.at))
        .collect();
    // The sum is greatest where one of them begins.
    for at in promises.values().map(|promise| promise.from).chain(sold.values().copied()) {
        let standing = || {
            let stands = |(hold, promise): &(&&str, &Promise<'_>)| {
                let paid = sold.get(**hold).is_some_and(|paid_at| *paid_at <= at);
                paid || promise.from <= at && at < promise.until
            };
            promises.iter().filter(stands).map(|(_, promise)| promise)
        };
        for (line, (stock, per_buyer)) in record.stock.iter().zip(&record.per_buyer).enumerate() {
            let of = |lines: &Lines| u64::from(lines.get(line).copied().unwrap_or_default());
            // What has come back is nobody's.
            let back =
                record.returned.iter().filter(|(_, back_at, _)| *back_at <= at).map(|(.., back)| of(back));
            let units = standing().map(|promise| of(promise.units)).sum::<u64>().saturating_sub(back.sum());
            if units > u64::from(*stock) {
                tell(
                    Broken::Oversold,
                    format!("{units} units of line {line} are promised at {at}, of {stock}"),
                );
            }
            let mut by_buyer: HashMap<&str, u64> = HashMap::new();
            for promise in standing() {
                *by_buyer.entry(promise.buyer).or_default() += of(promise.units);
            }
            for (buyer, units) in by_buyer {
                if units > u64::from(*per_buyer) {
                    tell(Broken::BuyerLimit, format!("{buyer} has {units} units of line {line} at {at}"));
                }
            }
        }
    }
    // Long after its last deadline, only what is paid for may stand.
    let Some(rested_at) = record.rested_at else { return };
    for (hold, (buyer, _, end)) in &record.ends {
        let due = promises.get(hold.as_str()).is_none_or(|promise| promise.until <= rested_at);
        if *end == End::Standing && due {
            tell(Broken::Endless, format!("{hold} of {buyer} stands at {rested_at}"));
        }
    }
}

/// What was promised is known in the end, what is sold fits, and what was over has not come back unpaid.
fn ends(record: &Record, tell: &mut impl FnMut(Broken, String)) {
    for event in &record.events {
        if let Some(hold) = promised(&event.answer)
            && !record.ends.contains_key(hold)
        {
            tell(Broken::Vanished, format!("{hold}, by {event:?}"));
        }
        if let (Ask::Cancel { hold }, Answer::Released) = (&event.ask, &event.answer) {
            let end = record.ends.get(hold).map(|(.., end)| *end);
            let paid = record.payments.iter().any(|payment| payment.hold == *hold);
            if matches!(end, Some(End::Standing | End::Sold)) && !paid {
                tell(Broken::CameBack, format!("{hold} is {end:?}, after {event:?}"));
            }
        }
    }
    let told: HashSet<&str> = record.events.iter().filter_map(|event| promised(&event.answer)).collect();
    let offered: HashSet<&str> = record.offers.iter().map(|(hold, _)| hold.as_str()).collect();
    let stands = |end: &End| matches!(end, End::Standing | End::Sold);
    for (hold, (buyer, _, end)) in &record.ends {
        // Whose answers all arrived, and who was never told of it.
        let unknown =
            record.events.iter().any(|event| event.buyer == *buyer && event.answer == Answer::Unknown);
        if stands(end) && !unknown && !told.contains(&**hold) && !offered.contains(&**hold) {
            tell(Broken::Untold, format!("{hold} of {buyer} is {end:?}"));
        }
    }
    for (line, (stock, per_buyer)) in record.stock.iter().zip(&record.per_buyer).enumerate() {
        let (mut units, mut by_buyer) = (0, HashMap::<&str, u64>::new());
        for (buyer, lines, _) in record.ends.values().filter(|(.., end)| stands(end)) {
            let of = u64::from(lines.get(line).copied().unwrap_or_default());
            units += of;
            *by_buyer.entry(buyer).or_default() += of;
        }
        if units > u64::from(*stock) {
            tell(
                Broken::Oversold,
                format!("{units} units of line {line} stand or are sold in the end, of {stock}"),
            );
        }
        if let Some((buyer, units)) = by_buyer.into_iter().find(|(_, units)| *units > u64::from(*per_buyer)) {
            tell(Broken::BuyerLimit, format!("{buyer} has {units} units of line {line} in the end"));
        }
    }
}
