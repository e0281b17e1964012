//! Prices: what may be asked for, and what a number of units costs.

use haul_model::Money;

use crate::{
    Sale, TermsError,
    ledger::OrderLine,
    sale::SaleLine,
    units::{Line, Units},
};

/// The highest price of one unit and the highest total of an order, in minor units: ten billion in a currency of two
/// digits. Far below what SQL, JavaScript and Lua count exactly.
pub const MAX_PRICE_MINOR: i64 = 1_000_000_000_000;

/// Why a price or a total is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// A price is zero, negative or absurd. Ask for another one.
    #[error("{field} must be 1 to {MAX_PRICE_MINOR} minor units, not {amount_minor}")]
    OutOfRange {
        /// Which price.
        field: &'static str,
        /// What was given.
        amount_minor: i64,
    },
    /// So many units at this price are more than an order may cost.
    #[error("{quantity} units at {unit} are more than an order may cost ({MAX_PRICE_MINOR} minor units)")]
    TotalTooHigh {
        /// Units.
        quantity: u32,
        /// Price of one.
        unit: Money,
    },
    /// The sale has no such line.
    #[error("the sale has no line {0}")]
    UnknownLine(Line),
}

/// Why a sale is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaleError {
    /// Its terms are.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// Its price is.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// Its lines are priced in several currencies.
    #[error("all lines of a sale must have one currency")]
    Currencies,
}

/// Checks a price that a host or a merchant sets; `field` is its name in the error.
pub fn check_price(field: &'static str, price: Money) -> Result<(), PriceError> {
    if (1..=MAX_PRICE_MINOR).contains(&price.amount_minor) {
        return Ok(());
    }
    Err(PriceError::OutOfRange { field, amount_minor: price.amount_minor })
}

/// What `quantity` units cost.
pub fn total(unit: Money, quantity: u32) -> Result<Money, PriceError> {
    unit.times(quantity)
        .filter(|total| total.amount_minor <= MAX_PRICE_MINOR)
        .ok_or(PriceError::TotalTooHigh { quantity, unit })
}

impl Sale {
    /// Checks a new sale: its terms, its prices, and that the most one buyer may take is an order that can be paid.
    pub fn validate(&self) -> Result<(), SaleError> {
        self.terms.validate()?;
        if self.more.len() != self.terms.more.len() {
            return Err(TermsError::Lines(1 + self.more.len()).into());
        }
        let mut most = 0_i64;
        for (line, terms) in self.lines().zip(self.terms.lines()) {
            check_price("unit_price", line.unit_price)?;
            if line.unit_price.currency != self.unit_price.currency {
                return Err(SaleError::Currencies);
            }
            let quantity = terms.per_buyer.min(terms.stock);
            // At most 50 lines of at most MAX_PRICE_MINOR each.
            most += total(line.unit_price, quantity)?.amount_minor;
            if most > MAX_PRICE_MINOR {
                return Err(PriceError::TotalTooHigh { quantity, unit: line.unit_price }.into());
            }
        }
        Ok(())
    }

    /// The lines of an order for these units, each with its total.
    pub fn order_lines(&self, units: &Units) -> Result<Vec<OrderLine>, PriceError> {
        let mut lines = Vec::new();
        for (line, quantity) in units.iter() {
            let Some(SaleLine { product, variant, unit_price }) = self.lines().nth(usize::from(line)) else {
                return Err(PriceError::UnknownLine(line));
            };
            let total = total(unit_price, quantity)?;
            lines.push(OrderLine { line, product, variant, quantity, unit_price, total });
        }
        Ok(lines)
    }
}

/// What all lines of an order cost together. They have one currency, as their sale has.
pub fn sum(lines: &[OrderLine]) -> Result<Money, PriceError> {
    let first = lines.first().ok_or(PriceError::UnknownLine(0))?;
    let amount_minor = lines.iter().fold(0, |sum: i64, line| sum.saturating_add(line.total.amount_minor));
    if amount_minor > MAX_PRICE_MINOR {
        return Err(PriceError::TotalTooHigh { quantity: first.quantity, unit: first.unit_price });
    }
    Ok(Money { amount_minor, currency: first.total.currency })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eur(amount_minor: i64) -> Money {
        Money { amount_minor, currency: "EUR".parse().unwrap() }
    }

    #[test]
    fn a_price_is_positive_and_sane() {
        assert_eq!(check_price("unit_price", eur(1)), Ok(()));
        assert_eq!(check_price("unit_price", eur(MAX_PRICE_MINOR)), Ok(()));
        for amount_minor in [0, -1, MAX_PRICE_MINOR + 1, i64::MIN, i64::MAX] {
            let error = check_price("unit_price", eur(amount_minor)).unwrap_err();
            assert_eq!(error, PriceError::OutOfRange { field: "unit_price", amount_minor });
            assert!(error.to_string().starts_with("unit_price must be 1 to"), "{error}");
        }
    }

    #[test]
    fn a_total_is_exact_or_refused() {
        assert_eq!(total(eur(1_999), 3), Ok(eur(5_997)));
        assert_eq!(
            total(eur(MAX_PRICE_MINOR), 2),
            Err(PriceError::TotalTooHigh { quantity: 2, unit: eur(MAX_PRICE_MINOR) })
        );
        assert!(total(eur(i64::MAX), u32::MAX).is_err());
    }
}
