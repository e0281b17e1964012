//! Creators and buyers: how long touches count, how money is divided, what buyers come to.

use std::time::Duration;

use haul_commerce::{
    attribution::Rule,
    follow::Rules,
    milestones::{MAX_MILESTONES, Milestones},
    split::Shares,
};
use haul_live::Keep;
use haul_model::Money;
use serde::{Deserialize, Serialize};

/// Who brings buyers, and what they get for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Creators {
    /// Of every order, in hundredths of a percent.
    platform_bps: u32,
    /// Of an order that a creator with an agency brought.
    agency_bps: u32,
    /// Of an order that a creator brought, where they have no share of their own.
    creator_bps: u32,
    /// How long a click counts.
    click_window_hours: u64,
    /// How long a join counts.
    join_window_hours: u64,
    /// Whether a `ref` must be one that this server signed.
    pub(crate) signed_refs: bool,
}

impl Default for Creators {
    fn default() -> Self {
        Self {
            platform_bps: 0,
            agency_bps: 300,
            creator_bps: 1_000,
            click_window_hours: 168,
            join_window_hours: 24,
            signed_refs: false,
        }
    }
}

/// What buyers come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Buyers {
    /// The how manieth paid orders are told to the merchant.
    order_milestones: Vec<OrderMilestone>,
    /// Sums spent that are, too.
    spend_milestones: Vec<SpendMilestone>,
    /// How long joins and clicks are kept; 0: for good.
    keep_touches_days: u64,
    /// How long contacts and addresses of orders are kept; 0: for good.
    keep_details_days: u64,
}

impl Buyers {
    /// How long what is personal is kept.
    pub(crate) fn keep(&self) -> Keep {
        let days = |days: u64| (days > 0).then(|| Duration::from_secs(days * 86_400));
        Keep { touches: days(self.keep_touches_days), details: days(self.keep_details_days) }
    }
}

impl Default for Buyers {
    fn default() -> Self {
        Self {
            order_milestones: vec![OrderMilestone(1), OrderMilestone(5)],
            spend_milestones: Vec::new(),
            keep_touches_days: 400,
            keep_details_days: 0,
        }
    }
}

/// A number of orders.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct OrderMilestone(u32);

impl TryFrom<String> for OrderMilestone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse() {
            Ok(count) if count > 0 => Ok(Self(count)),
            _ => Err(format!("expected a number of orders such as 5, got {text:?}")),
        }
    }
}

impl From<OrderMilestone> for String {
    fn from(milestone: OrderMilestone) -> Self {
        milestone.0.to_string()
    }
}

/// A sum, as `EUR:10000`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct SpendMilestone(Money);

impl TryFrom<String> for SpendMilestone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let sum = text.split_once(':').and_then(|(currency, amount)| {
            let amount_minor: i64 = amount.parse().ok().filter(|amount| *amount > 0)?;
            Some(Money { currency: currency.parse().ok()?, amount_minor })
        });
        sum.map(Self).ok_or_else(|| format!("expected a sum in minor units such as EUR:10000, got {text:?}"))
    }
}

impl From<SpendMilestone> for String {
    fn from(SpendMilestone(money): SpendMilestone) -> Self {
        format!("{}:{}", money.currency, money.amount_minor)
    }
}

/// What follows from orders, as configured; or what is wrong with that.
pub(crate) fn rules(creators: &Creators, buyers: &Buyers) -> Result<Rules, String> {
    let &Creators { platform_bps, agency_bps, creator_bps, click_window_hours, join_window_hours, .. } =
        creators;
    let shares = Shares { platform_bps, agency_bps, creator_bps };
    if !shares.fit() {
        return Err(format!(
            "creators.platform_bps, creators.agency_bps and creators.creator_bps: expected at most 10000 together, \
             got {platform_bps}, {agency_bps} and {creator_bps}"
        ));
    }
    let count = buyers.order_milestones.len().max(buyers.spend_milestones.len());
    if count > MAX_MILESTONES {
        return Err(format!(
            "buyers.order_milestones and buyers.spend_milestones: expected at most {MAX_MILESTONES} each, got {count}"
        ));
    }
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    Ok(Rules {
        attribution: Rule { click_window: hours(click_window_hours), join_window: hours(join_window_hours) },
        shares,
        milestones: Milestones {
            orders: buyers.order_milestones.iter().map(|milestone| milestone.0).collect(),
            spent: buyers.spend_milestones.iter().map(|milestone| milestone.0).collect(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_no_more_than_all_of_it() {
        let creators = Creators { platform_bps: 5_000, agency_bps: 4_001, ..Creators::default() };
        let error = rules(&creators, &Buyers::default()).unwrap_err();
        assert!(error.contains("at most 10000 together"), "{error}");
    }

    #[test]
    fn milestones_are_read_as_they_are_written() {
        let sum = SpendMilestone::try_from("JPY:5000".to_owned()).unwrap();
        assert_eq!((sum.0.to_string(), String::from(sum)), ("5000 JPY".to_owned(), "JPY:5000".to_owned()));
        for bad in ["", "EUR", "EUR:", "EUR:0", "EUR:1.5", "eur:5", "5"] {
            assert!(SpendMilestone::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert!(OrderMilestone::try_from("0".to_owned()).is_err());
    }
}
