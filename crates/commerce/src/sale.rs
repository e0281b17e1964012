//! A flash sale: products of a live, offered at a price, for a while, each with its own stock.

use haul_model::{LiveId, MerchantId, Money, ProductId, SaleId, TierId, UnixMillis, VariantId};
use serde::{Deserialize, Serialize};

use crate::{
    draw::{Draw, GATHER_MS},
    units::{Line, MAX_LINES, Units},
};

/// The most units one line of a sale may have. Bounds the arithmetic of every gate, Lua's doubles included.
pub const MAX_STOCK: u32 = 10_000_000;
/// The most units of all lines that a new sale may allow one buyer, and so the most holds a buyer can have standing in it.
pub const MAX_PER_BUYER: u32 = 100;
/// The shortest and the longest time a hold may be given, in milliseconds.
pub const HOLD_MS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;

/// The most tiers that one sale opens earlier for, and the longest time before the others, in milliseconds: a week.
pub const MAX_TIERS: usize = 3;
/// See [`MAX_TIERS`].
pub const MAX_EARLY_MS: u64 = 7 * 24 * 3_600_000;

/// Times up to the year 9999 are accepted: what people write down, and exact in Lua's and JavaScript's doubles.
pub const MAX_TIME: UnixMillis = UnixMillis(253_402_300_799_999);

/// Why terms are refused. Each message names the field and what it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// A number of units is out of its bounds.
    #[error("{field} must be 1 to {MAX_STOCK} units, not {given}")]
    Units {
        /// Which field.
        field: &'static str,
        /// What was given.
        given: u32,
    },
    /// A duration is out of its bounds.
    #[error("{field} must be {} to {} milliseconds, not {given}", HOLD_MS.start(), HOLD_MS.end())]
    Duration {
        /// Which field.
        field: &'static str,
        /// What was given, in milliseconds.
        given: u64,
    },
    /// A time is out of its bounds.
    #[error("{field} must be a time before the year 10000 in milliseconds since 1970, not {given:?}")]
    Time {
        /// Which field.
        field: &'static str,
        /// What was given.
        given: UnixMillis,
    },
    /// One buyer could have too many units.
    #[error("per_buyer must be 1 to {MAX_PER_BUYER} units, not {0}")]
    PerBuyer(u32),
    /// Too many lines.
    #[error("a sale may have at most {MAX_LINES} lines, not {0}")]
    Lines(usize),
    /// Early access that can't be.
    #[error(
        "early access is for at most {MAX_TIERS} tiers, each named once, of 1 to {MAX_EARLY_MS} milliseconds"
    )]
    Early,
    /// Where nothing is set aside, there is nothing to wait for.
    #[error("offer_ms: a sale of first paid, first served has no line to wait in")]
    NoLine,
    /// A draw that can't be.
    #[error(
        "draw_ms must be {} to {} milliseconds, less than the sale is open, and not with offer_ms or first_paid",
        GATHER_MS.start(), GATHER_MS.end()
    )]
    Draw,
    /// The sale would close before it opens.
    #[error("closes_at must be later than opens_at ({opens_at:?}), not {closes_at:?}")]
    NeverOpen {
        /// When it would open.
        opens_at: UnixMillis,
        /// When it would close.
        closes_at: UnixMillis,
    },
}

/// What the gate must know of a sale.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SaleTerms {
    /// Units of line 0 offered, at most [`MAX_STOCK`]. Of a known sale, it only grows.
    pub stock: u32,
    /// Units of line 0 that one buyer may hold and buy together.
    pub per_buyer: u32,
    /// How long a hold lasts until payment starts.
    pub hold_ms: u64,
    /// How long a payment may take after it starts: the deadline is extended once, to at least this from then.
    pub pay_ms: u64,
    /// Opens at this time of the gate's clock (inclusive).
    pub opens_at: UnixMillis,
    /// Closes at this time of the gate's clock (exclusive). Holds taken before may still be paid.
    pub closes_at: UnixMillis,
    /// The lines after the first; most sales have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<LineTerms>,
    /// Whether nothing new can be held for the moment. Who holds something may pay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// When units are set aside.
    #[serde(default, skip_serializing_if = "SaleMode::is_cart")]
    pub mode: SaleMode,
    /// Who may come before the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub early: Vec<EarlyAccess>,
    /// How long units are set aside for somebody whose turn in line has come; `None`: there is no line to wait in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_ms: Option<u64>,
    /// Whether those who get something are drawn, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw: Option<Draw>,
}

/// One line of a sale after the first: a SKU with a stock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineTerms {
    /// Units offered, at most [`MAX_STOCK`]. Of a known sale, it only grows.
    pub stock: u32,
    /// Units that one buyer may hold and buy together.
    pub per_buyer: u32,
}

/// When units are set aside for a buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaleMode {
    /// With the hold.
    #[default]
    HoldInCart,
    /// With the money: first paid, first served. Who pays when nothing is left gets the money back.
    FirstPaid,
}

impl SaleMode {
    fn is_cart(&self) -> bool {
        *self == SaleMode::HoldInCart
    }
}

/// A sale opens earlier for a tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyAccess {
    /// For whom: the `tier` of their token.
    pub tier: TierId,
    /// By how much.
    pub ms: u64,
}

impl SaleTerms {
    /// Checks the terms of a new sale.
    pub fn validate(&self) -> Result<(), TermsError> {
        self.check_bounds()?;
        let &Self { opens_at, closes_at, .. } = self;
        let per_buyer = self.lines().fold(0, |sum: u32, line| sum.saturating_add(line.per_buyer));
        if per_buyer > MAX_PER_BUYER {
            return Err(TermsError::PerBuyer(per_buyer));
        }
        if self.offer_ms.is_some() && self.mode == SaleMode::FirstPaid {
            return Err(TermsError::NoLine);
        }
        if let Some(draw) = &self.draw
            && (!GATHER_MS.contains(&draw.ms)
                || opens_at.0.saturating_add(draw.ms) >= closes_at.0
                || self.offer_ms.is_some()
                || self.mode == SaleMode::FirstPaid)
        {
            return Err(TermsError::Draw);
        }
        if closes_at <= opens_at {
            return Err(TermsError::NeverOpen { opens_at, closes_at });
        }
        Ok(())
    }

    /// Checks what every gate's arithmetic relies on. A known sale may well be closed before it opens: that is how one
    /// is called off.
    pub fn check_bounds(&self) -> Result<(), TermsError> {
        if self.more.len() >= MAX_LINES {
            return Err(TermsError::Lines(1 + self.more.len()));
        }
        for line in self.lines() {
            for (field, given) in [("stock", line.stock), ("per_buyer", line.per_buyer)] {
                if !(1..=MAX_STOCK).contains(&given) {
                    return Err(TermsError::Units { field, given });
                }
            }
        }
        let offer_ms = self.offer_ms.unwrap_or(self.hold_ms);
        for (field, given) in [("hold_ms", self.hold_ms), ("pay_ms", self.pay_ms), ("offer_ms", offer_ms)] {
            if !HOLD_MS.contains(&given) {
                return Err(TermsError::Duration { field, given });
            }
        }
        for (field, given) in [("opens_at", self.opens_at), ("closes_at", self.closes_at)] {
            if given > MAX_TIME {
                return Err(TermsError::Time { field, given });
            }
        }
        let named_before =
            |index: usize| self.early[..index].iter().any(|one| one.tier == self.early[index].tier);
        if self.early.len() > MAX_TIERS
            || self.early.iter().any(|one| !(1..=MAX_EARLY_MS).contains(&one.ms))
            || (0..self.early.len()).any(named_before)
        {
            return Err(TermsError::Early);
        }
        Ok(())
    }

    /// All lines, in order.
    pub fn lines(&self) -> impl Iterator<Item = LineTerms> + '_ {
        let first = LineTerms { stock: self.stock, per_buyer: self.per_buyer };
        std::iter::once(first).chain(self.more.iter().copied())
    }

    /// A line, if there is one of that number.
    pub fn line(&self, line: Line) -> Option<LineTerms> {
        self.lines().nth(usize::from(line))
    }

    /// Units of all lines.
    pub fn total_stock(&self) -> u64 {
        self.lines().map(|line| u64::from(line.stock)).sum()
    }

    /// When it opens for somebody of this tier.
    pub fn opens_for(&self, tier: Option<&TierId>) -> UnixMillis {
        let early = self.early.iter().find(|one| Some(&one.tier) == tier).map_or(0, |one| one.ms);
        UnixMillis(self.opens_at.0.saturating_sub(early))
    }

    /// When it is drawn; from then on it goes on as first come, first served. `None`: it is not drawn.
    pub fn draws_at(&self) -> Option<UnixMillis> {
        self.draw.as_ref().map(|draw| UnixMillis(self.opens_at.0.saturating_add(draw.ms)))
    }

    /// When it opens for the first of all.
    pub fn opens_first(&self) -> UnixMillis {
        let early = self.early.iter().map(|one| one.ms).max().unwrap_or(0);
        UnixMillis(self.opens_at.0.saturating_sub(early))
    }

    /// These terms as a gate that knows the sale takes them over: its times, whether it is paused, and stock that was
    /// added. All else stays as it was.
    pub fn changed_to(&self, wanted: &SaleTerms) -> SaleTerms {
        let mut terms = SaleTerms {
            opens_at: wanted.opens_at,
            closes_at: wanted.closes_at,
            paused: wanted.paused,
            stock: self.stock.max(wanted.stock),
            ..self.clone()
        };
        for (line, wanted) in terms.more.iter_mut().zip(&wanted.more) {
            line.stock = line.stock.max(wanted.stock);
        }
        terms
    }
}

/// What is to change of a sale that is known; what is absent stays as it is, whatever that is by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SaleMove {
    /// When it opens.
    pub opens_at: Option<UnixMillis>,
    /// When it closes.
    pub closes_at: Option<UnixMillis>,
    /// Whether it is paused.
    pub paused: Option<bool>,
}

impl SaleMove {
    /// All that may change of a sale, as it is.
    pub fn all_of(terms: &SaleTerms) -> Self {
        let &SaleTerms { opens_at, closes_at, paused, .. } = terms;
        Self { opens_at: Some(opens_at), closes_at: Some(closes_at), paused: Some(paused) }
    }
}

/// A sale as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// Its id.
    pub id: SaleId,
    /// Whose it is.
    pub merchant: MerchantId,
    /// Where it takes place.
    pub live: LiveId,
    /// What is sold on line 0.
    pub product: ProductId,
    /// Which form of it, where there are several.
    pub variant: Option<VariantId>,
    /// Price of one unit of line 0.
    pub unit_price: Money,
    /// What is sold on the lines after it, as many as the terms have.
    pub more: Vec<SaleLine>,
    /// What the gate enforces.
    pub terms: SaleTerms,
}

/// What is sold on one line of a sale: a SKU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleLine {
    /// The product.
    pub product: ProductId,
    /// Which form of it, where there are several.
    pub variant: Option<VariantId>,
    /// Price of one unit.
    pub unit_price: Money,
}

impl Sale {
    /// Whether it offers what `asked` does, wherever it stands by now: the same on each line for the same price, and as much of
    /// it or more.
    pub fn is_offer_of(&self, asked: &Self) -> bool {
        let stock = |sale: &Self| sale.terms.lines().map(|line| line.stock).collect::<Vec<_>>();
        self.lines().eq(asked.lines())
            && self.terms.mode == asked.terms.mode
            && stock(self).iter().zip(stock(asked)).all(|(has, asked)| *has >= asked)
    }

    /// What is sold on each line, in order.
    pub fn lines(&self) -> impl Iterator<Item = SaleLine> + '_ {
        let first = SaleLine {
            product: self.product.clone(),
            variant: self.variant.clone(),
            unit_price: self.unit_price,
        };
        std::iter::once(first).chain(self.more.iter().cloned())
    }

    /// Whether the sale has all of these lines.
    pub fn has_lines(&self, units: &Units) -> bool {
        units.iter().all(|(line, _)| usize::from(line) <= self.more.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_named_in_its_error() {
        let good = SaleTerms {
            stock: 100,
            per_buyer: 2,
            hold_ms: 120_000,
            pay_ms: 600_000,
            opens_at: UnixMillis(1_000),
            closes_at: UnixMillis(2_000),
            ..SaleTerms::default()
        };
        assert_eq!(good.validate(), Ok(()));
        for (bad, message) in [
            (SaleTerms { stock: 0, ..good.clone() }, "stock must be 1 to 10000000 units, not 0"),
            (
                SaleTerms { per_buyer: MAX_STOCK + 1, ..good.clone() },
                "per_buyer must be 1 to 10000000 units, not 10000001",
            ),
            (
                SaleTerms { per_buyer: MAX_PER_BUYER + 1, ..good.clone() },
                "per_buyer must be 1 to 100 units, not 101",
            ),
            (
                SaleTerms { hold_ms: 999, ..good.clone() },
                "hold_ms must be 1000 to 3600000 milliseconds, not 999",
            ),
            (
                SaleTerms { pay_ms: u64::MAX, ..good.clone() },
                "pay_ms must be 1000 to 3600000 milliseconds, not 18446744073709551615",
            ),
            (
                SaleTerms { closes_at: UnixMillis(u64::MAX), ..good.clone() },
                "closes_at must be a time before the year 10000 in milliseconds since 1970, \
                 not 18446744073709551615 ms",
            ),
            (
                SaleTerms { closes_at: UnixMillis(1_000), ..good.clone() },
                "closes_at must be later than opens_at (1000 ms), not 1000 ms",
            ),
        ] {
            assert_eq!(bad.validate().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_sale_can_be_called_off_before_it_opens() {
        let terms = SaleTerms {
            stock: 1,
            per_buyer: 1,
            hold_ms: 1_000,
            pay_ms: 1_000,
            opens_at: UnixMillis(2_000),
            closes_at: UnixMillis(1_000),
            ..SaleTerms::default()
        };
        assert!(terms.validate().is_err());
        assert_eq!(terms.check_bounds(), Ok(()));
    }

    #[test]
    fn a_sale_made_before_the_limit_on_one_buyer_is_still_carried_on() {
        let mut terms = SaleTerms {
            stock: 1_000,
            per_buyer: MAX_PER_BUYER,
            hold_ms: 1_000,
            pay_ms: 1_000,
            opens_at: UnixMillis(1_000),
            closes_at: UnixMillis(2_000),
            ..SaleTerms::default()
        };
        assert_eq!(terms.validate(), Ok(()));
        terms.per_buyer += 1;
        assert_eq!(terms.validate(), Err(TermsError::PerBuyer(MAX_PER_BUYER + 1)));
        assert_eq!(terms.check_bounds(), Ok(()));
    }
}
