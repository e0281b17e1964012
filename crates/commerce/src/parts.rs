//! Which lines of an order a sum is of: what was paid for it, and what of that goes back.
//!
//! A sum that nobody has said more about is of all lines in proportion to their prices, so that what a coupon took off, and
//! what shipping costs, is, too. The parts always sum to it, to the last minor unit.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{Line, Order, OrderLine, Refund, RefundState};

/// Parts of a sum, by line, in minor units; each more than nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parts(BTreeMap<Line, i64>);

impl Parts {
    /// The parts that are more than nothing.
    pub fn new(parts: impl IntoIterator<Item = (Line, i64)>) -> Self {
        let mut sums = BTreeMap::new();
        for (line, amount) in parts.into_iter().filter(|(_, amount)| *amount > 0) {
            *sums.entry(line).or_insert(0) += amount;
        }
        Self(sums)
    }

    /// Whether nothing is said of any line.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The part of a line.
    pub fn of(&self, line: Line) -> i64 {
        self.0.get(&line).copied().unwrap_or(0)
    }

    /// All of them, by line.
    pub fn iter(&self) -> impl Iterator<Item = (Line, i64)> + '_ {
        self.0.iter().map(|(line, amount)| (*line, *amount))
    }

    /// Their sum.
    pub fn total(&self) -> i64 {
        self.0.values().sum()
    }
}

impl fmt::Display for Parts {
    /// `0:1200+2:300`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, amount)) in self.iter().enumerate() {
            write!(f, "{}{line}:{amount}", if index == 0 { "" } else { "+" })?;
        }
        Ok(())
    }
}

/// A text that is no [`Parts`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no parts of a sum: {0}")]
pub struct PartsError(String);

impl FromStr for Parts {
    type Err = PartsError;

    fn from_str(text: &str) -> Result<Self, PartsError> {
        let part = |part: &str| {
            let (line, amount) = part.split_once(':')?;
            Some((line.parse().ok()?, amount.parse().ok().filter(|amount| *amount > 0)?))
        };
        let parts: Option<Vec<_>> = text.split('+').map(part).collect();
        parts.map(Self::new).ok_or_else(|| PartsError(text.chars().take(40).collect()))
    }
}

/// Divides a sum in proportion to `weights`, exactly; where all of them are nothing, it is the first's. No part of a sum
/// that is at most that of the weights is more than its weight.
pub fn divide(sum_minor: i64, weights: &[i64]) -> Vec<i64> {
    let whole: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    if whole == 0 {
        return (0..weights.len()).map(|index| if index == 0 { sum_minor } else { 0 }).collect();
    }
    let mut up_to = 0i128;
    let part = |weight: &i64| {
        let before = i128::from(sum_minor) * up_to / whole;
        up_to += i128::from(*weight);
        // At most the sum.
        (i128::from(sum_minor) * up_to / whole - before) as i64
    };
    weights.iter().map(part).collect()
}

/// What of what was paid for an order is of each of its lines, in their order.
pub fn paid_by_line(order: &Order) -> Vec<i64> {
    let paid = order.paid.as_ref().map_or(0, |paid| paid.amount.amount_minor);
    divide(paid, &prices(&order.order.lines))
}

/// What of each of an order's lines has not gone back, and is not about to: `refunds` are all of the order's. One that names no
/// lines takes its share of what those that do leave, as it will when it is done.
pub fn left_by_line(order: &Order, refunds: &[Refund]) -> Vec<(Line, i64)> {
    let counts = |refund: &&Refund| refund.refund.of_order && refund.state != RefundState::Failed;
    let mut going: Vec<_> = refunds.iter().filter(counts).map(|refund| &refund.refund).collect();
    going.sort_by_key(|refund| refund.parts.is_empty());
    let lines = order.order.lines.iter().map(|line| line.line);
    let mut left: Vec<_> = lines.zip(paid_by_line(order)).collect();
    for refund in going {
        let gone = settle(refund.amount.amount_minor, &refund.parts, &left);
        for (line, left) in &mut left {
            *left -= gone.of(*line);
        }
    }
    left
}

/// What goes back for so many of all units of a line: unit by unit it sums to what was paid for all of them, where that is at
/// least one minor unit each.
fn of_units(paid: i64, left: i64, quantity: u32, all: u32) -> i64 {
    if quantity >= all || paid <= 0 {
        return left;
    }
    let all = i128::from(all);
    let of = |units: i128| i128::from(paid) * units / all;
    let gone = i128::from(paid - left);
    // So many units have gone before, where it was units that went.
    let before = (gone * all + i128::from(paid) - 1) / i128::from(paid);
    let before = if of(before) == gone { before } else { 0 };
    let part = of((before + i128::from(quantity)).min(all)) - of(before);
    left.min(part as i64)
}

fn prices(lines: &[OrderLine]) -> Vec<i64> {
    lines.iter().map(|line| line.total.amount_minor).collect()
}

/// Divides what has gone back of an order: as it was `wished`, as far as there is so much left of each line, and the rest in
/// proportion to what is. `left`: each line with what has not gone back of it.
pub fn settle(sum_minor: i64, wished: &Parts, left: &[(Line, i64)]) -> Parts {
    let mut rest = sum_minor;
    let mut taken = Vec::with_capacity(left.len());
    for (line, left) in left {
        let part = wished.of(*line).min(*left).min(rest).max(0);
        rest -= part;
        taken.push(part);
    }
    let still: Vec<i64> = left.iter().zip(&taken).map(|((_, left), taken)| left - taken).collect();
    let more = divide(rest, &still);
    Parts::new(left.iter().zip(taken).zip(more).map(|(((line, _), taken), more)| (*line, taken + more)))
}

/// A line that money is to go back for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineAsk {
    /// Which.
    pub line: Line,
    /// So many units of it; all where absent.
    pub quantity: Option<u32>,
    /// So much; what was paid for those units, where absent.
    pub amount_minor: Option<i64>,
}

/// Why money can't go back as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The order has no such line, or not so many units of it.
    #[error("the order has no line {0} with so many units")]
    NoLine(Line),
    /// A line was named twice.
    #[error("line {0} is named twice")]
    Twice(Line),
    /// Less is left of it.
    #[error("of line {line}, {left_minor} can be refunded, in the minor unit")]
    TooMuch {
        /// Which line.
        line: Line,
        /// What is left of it.
        left_minor: i64,
    },
    /// The amounts don't sum to the whole.
    #[error("the lines' amounts sum to {0}, which is not amount_minor")]
    Sum(i64),
}

/// How much goes back of which line, where somebody names lines. `left`: each line with what has not gone back of it. With a
/// `sum_minor`, lines without an amount of their own share what is left of it.
pub fn asked(
    order: &Order,
    left: &[(Line, i64)],
    lines: &[LineAsk],
    sum_minor: Option<i64>,
) -> Result<Parts, AskError> {
    let mut said = 0;
    let mut open = Vec::new();
    let mut parts = Vec::new();
    for (index, ask) in lines.iter().enumerate() {
        let LineAsk { line, quantity, amount_minor } = *ask;
        if lines[..index].iter().any(|before| before.line == line) {
            return Err(AskError::Twice(line));
        }
        let at = order.order.lines.iter().position(|known| known.line == line);
        let at = at.ok_or(AskError::NoLine(line))?;
        let all = order.order.lines[at].quantity;
        let quantity = quantity.unwrap_or(all);
        if !(1..=all).contains(&quantity) {
            return Err(AskError::NoLine(line));
        }
        let left = left.iter().find(|(known, _)| *known == line).map_or(0, |(_, left)| *left);
        match amount_minor {
            Some(amount) if amount > left => return Err(AskError::TooMuch { line, left_minor: left }),
            Some(amount) => {
                said += amount;
                parts.push((line, amount));
            }
            None => {
                open.push((line, of_units(paid_by_line(order)[at], left, quantity, all)));
            }
        }
    }
    let rest = match sum_minor {
        Some(sum) if open.is_empty() && sum != said => return Err(AskError::Sum(said)),
        Some(sum) if sum < said => return Err(AskError::Sum(said)),
        Some(sum) => sum - said,
        None => open.iter().map(|(_, part)| part).sum(),
    };
    let room: i64 = open.iter().map(|(_, part)| part).sum();
    if let Some((line, left_minor)) = open.first().copied()
        && rest > room
    {
        return Err(AskError::TooMuch { line, left_minor });
    }
    let weights: Vec<i64> = open.iter().map(|(_, part)| *part).collect();
    parts.extend(open.iter().map(|(line, _)| *line).zip(divide(rest, &weights)));
    Ok(Parts::new(parts))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::testing::{self, sold_order};

    #[test]
    fn parts_are_read_as_they_are_written() {
        let parts = Parts::new([(2, 300), (0, 1_200), (1, 0)]);
        assert_eq!((parts.to_string().as_str(), parts.total()), ("0:1200+2:300", 1_500));
        assert_eq!("0:1200+2:300".parse(), Ok(parts));
        for bad in ["", "0", "0:", "x:1", "0:-1", "0:0", "300:1", "0:1+", "0:9223372036854775808"] {
            bad.parse::<Parts>().unwrap_err();
        }
    }

    #[test]
    fn a_sum_is_divided_exactly_and_no_part_is_more_than_its_weight() {
        assert_eq!(divide(100, &[333, 333, 334]), [33, 33, 34]);
        assert_eq!(divide(5, &[0, 0]), [5, 0]);
        assert_eq!(divide(5, &[]), [0_i64; 0]);
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..2_000 {
            let weights: Vec<i64> = (0..rng.random_range(1..6)).map(|_| rng.random_range(0..2_000)).collect();
            let whole: i64 = weights.iter().sum();
            let sum = rng.random_range(0..=whole);
            let parts = divide(sum, &weights);
            assert_eq!(parts.iter().sum::<i64>(), sum);
            assert!(
                parts.iter().zip(&weights).all(|(part, weight)| (0..=*weight).contains(part)),
                "{weights:?}"
            );
        }
    }

    #[test]
    fn what_goes_back_is_of_the_lines_that_were_named_as_far_as_they_have_it() {
        let left = [(0, 1_000), (1, 500), (3, 0)];
        let settle = |sum, wished: &[(Line, i64)]| settle(sum, &Parts::new(wished.iter().copied()), &left);
        assert_eq!(settle(300, &[]).to_string(), "0:200+1:100");
        assert_eq!(settle(300, &[(1, 300)]).to_string(), "1:300");
        assert_eq!(settle(700, &[(1, 700)]).to_string(), "0:200+1:500", "others have gone meanwhile");
        assert_eq!(settle(100, &[(0, 80), (1, 80)]).to_string(), "0:80+1:20", "less went than was asked for");
        assert_eq!(settle(1_500, &[(3, 9)]).to_string(), "0:1000+1:500");
    }

    #[test]
    fn money_under_way_is_left_of_no_line_whether_it_names_lines_or_not() {
        let order = sold_order(&[(0, 2, 1_000), (2, 3, 500)], 1_200);
        let refund = |amount, parts: &[(Line, i64)], state| {
            testing::refund(&order, amount, Parts::new(parts.iter().copied()), state)
        };
        let left = |refunds: &[Refund]| left_by_line(&order, refunds);
        assert_eq!(left(&[]), [(0, 800), (2, 400)]);
        assert_eq!(left(&[refund(300, &[], RefundState::Due)]), [(0, 600), (2, 300)]);
        // What names lines takes its own first, whichever was asked for first.
        let both = [refund(300, &[], RefundState::Asked), refund(600, &[(0, 600)], RefundState::Due)];
        assert_eq!(left(&both), [(0, 100), (2, 200)]);
        assert_eq!(left(&[refund(1_200, &[], RefundState::Done)]), [(0, 0), (2, 0)]);
        assert_eq!(left(&[refund(300, &[], RefundState::Failed)]), [(0, 800), (2, 400)]);
    }

    #[test]
    fn unit_by_unit_all_of_it_goes_back() {
        for (paid, all) in [(3_332, 3), (10, 3), (0, 2), (999, 10)] {
            let mut left = paid;
            for _ in 0..all {
                left -= of_units(paid, left, 1, all);
            }
            assert_eq!(left, 0, "{paid} for {all}");
        }
        assert_eq!(of_units(3_332, 3_000, 1, 3), 1_110, "after some other sum");
    }

    #[test]
    fn lines_are_asked_for_by_units_by_amounts_or_by_a_sum() {
        // Two lamps for 1000 and three mugs for 500, paid with 1200: a coupon took 300 off.
        let order = sold_order(&[(0, 2, 1_000), (2, 3, 500)], 1_200);
        assert_eq!(paid_by_line(&order), [800, 400]);
        let left = [(0, 800), (2, 250)];
        let line = |line, quantity, amount_minor| LineAsk { line, quantity, amount_minor };
        let ask = |lines: &[LineAsk], sum| asked(&order, &left, lines, sum).map(|parts| parts.to_string());
        let parts = |text: &str| Ok(text.to_owned());
        assert_eq!(ask(&[line(0, Some(1), None)], None), parts("0:400"));
        assert_eq!(ask(&[line(0, None, None), line(2, Some(1), None)], None), parts("0:800+2:133"));
        assert_eq!(ask(&[line(2, Some(3), None)], None), parts("2:250"), "the rest of it");
        assert_eq!(ask(&[line(0, None, Some(70))], None), parts("0:70"));
        assert_eq!(ask(&[line(0, None, Some(70))], Some(70)), parts("0:70"));
        assert_eq!(ask(&[line(0, None, None), line(2, None, None)], Some(105)), parts("0:80+2:25"));
        assert_eq!(ask(&[line(0, None, Some(5)), line(2, None, None)], Some(105)), parts("0:5+2:100"));
        assert_eq!(ask(&[line(0, None, Some(70))], Some(71)), Err(AskError::Sum(70)));
        assert_eq!(ask(&[line(0, None, Some(70)), line(2, None, None)], Some(60)), Err(AskError::Sum(70)));
        assert_eq!(
            ask(&[line(2, None, Some(251))], None),
            Err(AskError::TooMuch { line: 2, left_minor: 250 })
        );
        assert_eq!(
            ask(&[line(2, None, None)], Some(251)),
            Err(AskError::TooMuch { line: 2, left_minor: 250 })
        );
        assert_eq!(ask(&[line(1, None, None)], None), Err(AskError::NoLine(1)));
        assert_eq!(ask(&[line(0, Some(3), None)], None), Err(AskError::NoLine(0)));
        assert_eq!(ask(&[line(0, Some(0), None)], None), Err(AskError::NoLine(0)));
        assert_eq!(ask(&[line(0, None, None); 2], None), Err(AskError::Twice(0)));
    }
}
