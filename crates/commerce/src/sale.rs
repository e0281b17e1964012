//! A flash sale: one product of a live, offered at a price, for a while, with its own stock.

use haul_model::{LiveId, MerchantId, Money, ProductId, SaleId, UnixMillis};
use serde::{Deserialize, Serialize};

/// The most units one sale may have. Bounds the arithmetic of every gate, Lua's doubles included.
pub const MAX_STOCK: u32 = 10_000_000;
/// The most units a new sale may allow one buyer, and so the most holds a buyer can have standing in it.
pub const MAX_PER_BUYER: u32 = 100;
/// The shortest and the longest time a hold may be given, in milliseconds.
pub const HOLD_MS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleTerms {
    /// Units offered, at most [`MAX_STOCK`].
    pub stock: u32,
    /// Units one buyer may hold and buy together.
    pub per_buyer: u32,
    /// How long a hold lasts until payment starts.
    pub hold_ms: u64,
    /// How long a payment may take after it starts: the deadline is extended once, to at least this from then.
    pub pay_ms: u64,
    /// Opens at this time of the gate's clock (inclusive).
    pub opens_at: UnixMillis,
    /// Closes at this time of the gate's clock (exclusive). Holds taken before may still be paid.
    pub closes_at: UnixMillis,
}

impl SaleTerms {
    /// Checks the terms of a new sale.
    pub fn validate(&self) -> Result<(), TermsError> {
        self.check_bounds()?;
        let &Self { per_buyer, opens_at, closes_at, .. } = self;
        if per_buyer > MAX_PER_BUYER {
            return Err(TermsError::PerBuyer(per_buyer));
        }
        if closes_at <= opens_at {
            return Err(TermsError::NeverOpen { opens_at, closes_at });
        }
        Ok(())
    }

    /// Checks what every gate's arithmetic relies on. A known sale may well be closed before it opens: that is how one
    /// is called off.
    pub fn check_bounds(&self) -> Result<(), TermsError> {
        for (field, given) in [("stock", self.stock), ("per_buyer", self.per_buyer)] {
            if !(1..=MAX_STOCK).contains(&given) {
                return Err(TermsError::Units { field, given });
            }
        }
        for (field, given) in [("hold_ms", self.hold_ms), ("pay_ms", self.pay_ms)] {
            if !HOLD_MS.contains(&given) {
                return Err(TermsError::Duration { field, given });
            }
        }
        for (field, given) in [("opens_at", self.opens_at), ("closes_at", self.closes_at)] {
            if given > MAX_TIME {
                return Err(TermsError::Time { field, given });
            }
        }
        Ok(())
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
    /// What is sold.
    pub product: ProductId,
    /// Price of one unit.
    pub unit_price: Money,
    /// What the gate enforces.
    pub terms: SaleTerms,
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
        };
        assert_eq!(terms.validate(), Ok(()));
        terms.per_buyer += 1;
        assert_eq!(terms.validate(), Err(TermsError::PerBuyer(MAX_PER_BUYER + 1)));
        assert_eq!(terms.check_bounds(), Ok(()));
    }
}
