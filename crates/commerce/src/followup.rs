//! Follow-ups: what a merchant wants to be told some time after an order, such as three days after a cream was bought, or
//! on day 25 of a supply for 30.

use std::time::Duration;

use haul_model::{BuyerId, MerchantId, OrderId, ProductId, UnixMillis};
use serde::{Deserialize, Serialize};

/// Follow-ups of one product; more are refused.
pub const MAX_FOLLOWUPS: usize = 10;
/// The longest name of one, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// The shortest and longest time after an order, in seconds: a minute, and two years.
pub const AFTER_SECONDS: std::ops::RangeInclusive<u64> = 60..=2 * 365 * 86_400;

/// One follow-up of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowupRule {
    /// What it is called to the merchant: `usage-check`, `refill`.
    pub name: String,
    /// How long after the order was paid.
    pub after_seconds: u64,
    /// How much later for each further unit: a second tin lasts longer.
    #[serde(default)]
    pub per_extra_unit_seconds: u64,
}

/// Why a follow-up is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowupError {
    /// Its name is none.
    #[error("name: expected 1 to {MAX_NAME_BYTES} letters, digits, '-' and '_', each name once")]
    Name,
    /// It is too soon or too late.
    #[error(
        "after_seconds: expected {} to {}, and per_extra_unit_seconds at most as much",
        AFTER_SECONDS.start(),
        AFTER_SECONDS.end()
    )]
    After,
    /// There are too many.
    #[error("followups: expected at most {MAX_FOLLOWUPS}")]
    TooMany,
}

/// Checks a product's follow-ups.
pub fn check(rules: &[FollowupRule]) -> Result<(), FollowupError> {
    if rules.len() > MAX_FOLLOWUPS {
        return Err(FollowupError::TooMany);
    }
    for (index, rule) in rules.iter().enumerate() {
        let is_name = (1..=MAX_NAME_BYTES).contains(&rule.name.len())
            && rule.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !is_name || rules[..index].iter().any(|before| before.name == rule.name) {
            return Err(FollowupError::Name);
        }
        if !AFTER_SECONDS.contains(&rule.after_seconds) || rule.per_extra_unit_seconds > *AFTER_SECONDS.end()
        {
            return Err(FollowupError::After);
        }
    }
    Ok(())
}

impl FollowupRule {
    /// When it is due for an order of so many units, paid at `sold_at`.
    pub fn due_at(&self, sold_at: UnixMillis, quantity: u32) -> UnixMillis {
        let extra = self.per_extra_unit_seconds.saturating_mul(u64::from(quantity.saturating_sub(1)));
        sold_at + Duration::from_secs(self.after_seconds.saturating_add(extra))
    }
}

/// A timer that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// Whose.
    pub merchant: MerchantId,
    /// After which order.
    pub order: OrderId,
    /// Of which product.
    pub product: ProductId,
    /// Who bought it.
    pub buyer: BuyerId,
    /// The follow-up's name.
    pub name: String,
    /// When it is due.
    pub due_at: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, after_seconds: u64, per_extra_unit_seconds: u64) -> FollowupRule {
        FollowupRule { name: name.to_owned(), after_seconds, per_extra_unit_seconds }
    }

    #[test]
    fn more_units_last_longer() {
        const DAY: u64 = 86_400;
        let refill = rule("refill", 25 * DAY, 30 * DAY);
        let sold_at = UnixMillis(1_000);
        assert_eq!(refill.due_at(sold_at, 1), UnixMillis(1_000 + 25 * DAY * 1_000));
        assert_eq!(refill.due_at(sold_at, 3), UnixMillis(1_000 + 85 * DAY * 1_000));
        assert!(refill.due_at(UnixMillis(u64::MAX), u32::MAX) == UnixMillis(u64::MAX), "it does not wrap");
    }

    #[test]
    fn follow_ups_have_names_and_bounds() {
        assert_eq!(check(&[rule("usage-check", 3 * 86_400, 0), rule("refill", 60, 0)]), Ok(()));
        for (bad, error) in [
            (vec![rule("", 60, 0)], FollowupError::Name),
            (vec![rule("a b", 60, 0)], FollowupError::Name),
            (vec![rule("a", 60, 0), rule("a", 61, 0)], FollowupError::Name),
            (vec![rule("a", 59, 0)], FollowupError::After),
            (vec![rule("a", 60, u64::MAX)], FollowupError::After),
            ((0..11).map(|n| rule(&n.to_string(), 60, 0)).collect(), FollowupError::TooMany),
        ] {
            assert_eq!(check(&bad), Err(error), "{bad:?}");
        }
    }
}
