//! Stripe counts some currencies otherwise than ISO 4217 (<https://docs.stripe.com/currencies>).

use haul_model::{Currency, Money};

/// An amount as Stripe counts it; an error where it can't be said there.
pub(super) fn to_stripe(Money { amount_minor, currency }: Money) -> Result<i64, String> {
    let amount = match Unit::of(currency) {
        Unit::Same => Some(amount_minor),
        Unit::Hundredfold => amount_minor.checked_mul(100),
        Unit::Hundredth => (amount_minor % 100 == 0).then_some(amount_minor / 100),
        Unit::Tens => (amount_minor % 10 == 0).then_some(amount_minor),
    };
    amount.ok_or_else(|| format!("Stripe can't collect {amount_minor} minor units of {currency}"))
}

/// An amount that Stripe says, in the currency's own minor unit; `None` where either makes no sense.
pub(super) fn from_stripe(amount: i64, currency: &str) -> Option<Money> {
    // Whatever it is: money that arrived is not to be overlooked.
    let currency = Currency::kept(&currency.to_uppercase()).ok()?;
    let amount_minor = match Unit::of(currency) {
        Unit::Same | Unit::Tens => amount,
        Unit::Hundredfold => (amount % 100 == 0).then_some(amount / 100)?,
        Unit::Hundredth => amount.checked_mul(100)?,
    };
    Some(Money { amount_minor, currency })
}

enum Unit {
    Same,
    /// Counted in hundredths that there are not.
    Hundredfold,
    /// Counted in whole units, though the currency has two digits.
    Hundredth,
    /// Three digits, of which the last must be 0.
    Tens,
}

impl Unit {
    fn of(currency: Currency) -> Self {
        match currency.code() {
            "ISK" | "UGX" => Self::Hundredfold,
            "MGA" => Self::Hundredth,
            _ if currency.exponent() == 3 => Self::Tens,
            _ => Self::Same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_go_there_and_back_or_not_at_all() {
        for (code, minor, stripe) in [
            ("EUR", 1_999, 1_999),
            ("JPY", 500, 500),
            ("ISK", 500, 50_000),
            ("MGA", 500, 5),
            ("KWD", 1_230, 1_230),
        ] {
            let money = Money { amount_minor: minor, currency: code.parse().unwrap() };
            assert_eq!(to_stripe(money), Ok(stripe), "{code}");
            assert_eq!(from_stripe(stripe, &code.to_lowercase()), Some(money), "{code}");
        }
        for (code, minor) in [("KWD", 1_234), ("MGA", 550), ("ISK", i64::MAX)] {
            let money = Money { amount_minor: minor, currency: code.parse().unwrap() };
            assert!(to_stripe(money).unwrap_err().contains(code));
        }
        assert_eq!(from_stripe(150, "isk"), None);
        assert_eq!(from_stripe(150, "euros"), None);
    }
}
