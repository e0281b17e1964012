//! Coupons: a code that takes something off the price, so many times in all and so many times a buyer.
//!
//! A use is one hold, however many units. It is set aside at the gate together with the hold, or with the first checkout,
//! and goes back with it; it is spent when the hold is SOLD, and stays spent when the order is refunded or its units come
//! back. The ledger counts the uses of orders besides, and its constraint forbids more than the limit whatever the gate
//! said.

use haul_model::{BuyerId, CouponCode, Currency, LiveId, MerchantId, Money, ProductId, SaleId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{OrderLine, price::MAX_PRICE_MINOR, sale::MAX_TIME};

/// The most coupons that a live may have, closed ones too.
pub const MAX_COUPONS: usize = 100;
/// The most uses of one coupon.
pub const MAX_USES: u32 = 10_000_000;
/// The longest time a coupon is valid: a hundred days.
pub const MAX_VALID_MS: u64 = 100 * 86_400_000;
/// The most products that a coupon names.
pub const MAX_COUPON_PRODUCTS: usize = 20;
/// How long a code may be, in characters.
pub const CODE_CHARS: std::ops::RangeInclusive<usize> = 3..=32;

/// What a coupon takes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discount {
    /// So much, in minor units of the coupon's currency; never more than what it is for costs.
    Amount(i64),
    /// So many hundredths of the price, 1 to 100, rounded down to the minor unit.
    Percent(u8),
}

/// A coupon as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coupon {
    /// What buyers type, unique in its live.
    pub code: CouponCode,
    /// Whose it is.
    pub merchant: MerchantId,
    /// Where it is valid.
    pub live: LiveId,
    /// What it takes off.
    pub discount: Discount,
    /// Of amounts, the minimum and the prices that it is for.
    pub currency: Currency,
    /// What the products it is for must cost at least together, in minor units; 0: any price.
    pub minimum_minor: i64,
    /// For this sale only; `None`: for all of the live.
    pub sale: Option<SaleId>,
    /// For these products only; empty: for all.
    pub products: Vec<ProductId>,
    /// What the gate enforces.
    pub terms: CouponTerms,
    /// When it was made.
    pub created_at: UnixMillis,
}

/// What the gate must know of a coupon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponTerms {
    /// Uses in all. Of a known coupon, it only grows.
    pub limit: u32,
    /// Uses of one buyer.
    pub per_buyer: u32,
    /// Valid from this time of the gate's clock on.
    pub valid_from: UnixMillis,
    /// Valid until this time, not included. A use that was set aside before is good for as long as its hold.
    pub valid_until: UnixMillis,
    /// Whether nobody new may use it. It stays so.
    pub closed: bool,
}

/// How often a coupon is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uses {
    /// By everybody.
    pub all: u64,
    /// By one buyer.
    pub by_buyer: u64,
}

/// What an order has of a coupon; stored, never recomputed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderCoupon {
    /// Which coupon.
    pub code: CouponCode,
    /// What it takes off the sum of the lines.
    pub amount: Money,
}

/// What a sale's book must know of coupons, beside what is used of them in that sale itself.
pub trait Desk {
    /// A coupon's terms; `None` where it is not known.
    fn terms(&self, code: &CouponCode) -> Option<&CouponTerms>;
    /// What is used of it in other sales of the live.
    fn elsewhere(&self, code: &CouponCode, buyer: &BuyerId) -> Uses;
}

/// No coupons.
#[derive(Debug)]
pub struct NoCoupons;

impl Desk for NoCoupons {
    fn terms(&self, _: &CouponCode) -> Option<&CouponTerms> {
        None
    }

    fn elsewhere(&self, _: &CouponCode, _: &BuyerId) -> Uses {
        Uses::default()
    }
}

/// Why a coupon is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CouponError {
    /// The code is no code.
    #[error("code: expected {} to {} letters, digits, '-' or '_'", CODE_CHARS.start(), CODE_CHARS.end())]
    Code,
    /// What it takes off is out of bounds.
    #[error("expected amount_minor of 1 to {MAX_PRICE_MINOR}, or percent of 1 to 100")]
    Discount,
    /// Too few or too many uses.
    #[error("limit: expected 1 to {MAX_USES}, and per_buyer: 1 to that")]
    Uses,
    /// The minimum is out of bounds.
    #[error("minimum_minor: expected 0 to {MAX_PRICE_MINOR}")]
    Minimum,
    /// It is never valid, or for too long.
    #[error("valid_until: expected a time after valid_from, and at most {} days after it", MAX_VALID_MS / 86_400_000)]
    Validity,
    /// Too many products.
    #[error("product_ids: expected at most {MAX_COUPON_PRODUCTS}")]
    Products,
}

/// Why a coupon does not fit what somebody wants to buy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MisfitError {
    /// It is for another sale.
    #[error("this coupon is for another sale")]
    OtherSale,
    /// It is for other products, or for prices in another currency.
    #[error("this coupon is for other products")]
    OtherProducts,
    /// What it is for costs too little.
    #[error("this coupon is for purchases of {0} and more")]
    BelowMinimum(Money),
    /// Nothing would be left to pay, or it takes nothing off.
    #[error("this coupon takes nothing off this price")]
    Nothing,
}

/// Reads a code as people write it: case does not matter.
pub fn code(text: &str) -> Result<CouponCode, CouponError> {
    let text = text.trim().to_ascii_uppercase();
    let fits = CODE_CHARS.contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'));
    if !fits {
        return Err(CouponError::Code);
    }
    text.parse().map_err(|_| CouponError::Code)
}

impl Coupon {
    /// Checks a new coupon.
    pub fn validate(&self) -> Result<(), CouponError> {
        if code(self.code.as_str()) != Ok(self.code.clone()) {
            return Err(CouponError::Code);
        }
        match self.discount {
            Discount::Amount(minor) if (1..=MAX_PRICE_MINOR).contains(&minor) => {}
            Discount::Percent(percent) if (1..=100).contains(&percent) => {}
            _ => return Err(CouponError::Discount),
        }
        if !(0..=MAX_PRICE_MINOR).contains(&self.minimum_minor) {
            return Err(CouponError::Minimum);
        }
        if self.products.len() > MAX_COUPON_PRODUCTS {
            return Err(CouponError::Products);
        }
        self.terms.validate()
    }

    /// What it takes off these lines of an order in this sale. At least one minor unit is left to pay.
    pub fn off(&self, sale: &SaleId, lines: &[OrderLine]) -> Result<Money, MisfitError> {
        if self.sale.as_ref().is_some_and(|wanted| wanted != sale) {
            return Err(MisfitError::OtherSale);
        }
        let sum = |wanted: &dyn Fn(&OrderLine) -> bool| -> i64 {
            let minor = lines.iter().filter(|line| wanted(line)).map(|line| line.total.amount_minor);
            minor.fold(0, i64::saturating_add)
        };
        let is_for = |line: &OrderLine| {
            line.total.currency == self.currency
                && (self.products.is_empty() || self.products.contains(&line.product))
        };
        let (meant, all) = (sum(&is_for), sum(&|_| true));
        if meant == 0 {
            return Err(MisfitError::OtherProducts);
        }
        let money = |amount_minor| Money { amount_minor, currency: self.currency };
        if meant < self.minimum_minor {
            return Err(MisfitError::BelowMinimum(money(self.minimum_minor)));
        }
        let off = match self.discount {
            Discount::Amount(minor) => minor.min(meant),
            // At most MAX_PRICE_MINOR, a hundred times of which is far from the end of an i64.
            Discount::Percent(percent) => meant * i64::from(percent) / 100,
        };
        match off.min(all - 1) {
            1.. => Ok(money(off.min(all - 1))),
            _ => Err(MisfitError::Nothing),
        }
    }
}

impl CouponTerms {
    /// Checks what every gate relies on.
    pub fn validate(&self) -> Result<(), CouponError> {
        let uses = 1..=MAX_USES;
        if !uses.contains(&self.limit) || !(1..=self.limit).contains(&self.per_buyer) {
            return Err(CouponError::Uses);
        }
        let (from, until) = (self.valid_from, self.valid_until);
        if until <= from || until.0 - from.0 > MAX_VALID_MS || until > MAX_TIME {
            return Err(CouponError::Validity);
        }
        Ok(())
    }

    /// These terms as a gate that knows the coupon takes them over: it is closed by either, and has the greater limit. So it
    /// does not matter which of two words about it comes first.
    pub fn changed_to(&self, wanted: &CouponTerms) -> CouponTerms {
        CouponTerms {
            limit: self.limit.max(wanted.limit),
            closed: self.closed || wanted.closed,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eur(amount_minor: i64) -> Money {
        Money { amount_minor, currency: "EUR".parse().unwrap() }
    }

    fn coupon(discount: Discount) -> Coupon {
        Coupon {
            code: code("mia-10").unwrap(),
            merchant: MerchantId::main(),
            live: "demo".parse().unwrap(),
            discount,
            currency: "EUR".parse().unwrap(),
            minimum_minor: 0,
            sale: None,
            products: Vec::new(),
            terms: CouponTerms {
                limit: 10,
                per_buyer: 1,
                valid_from: UnixMillis(1_000),
                valid_until: UnixMillis(2_000),
                closed: false,
            },
            created_at: UnixMillis(0),
        }
    }

    fn line(product: &str, amount_minor: i64) -> OrderLine {
        OrderLine::only(product.parse().unwrap(), 1, eur(amount_minor), eur(amount_minor))
    }

    fn off(coupon: &Coupon, lines: &[OrderLine]) -> Result<i64, MisfitError> {
        coupon.off(&"sale_1".parse().unwrap(), lines).map(|money| money.amount_minor)
    }

    #[test]
    fn a_code_is_read_as_people_write_it() {
        assert_eq!(code(" mia-10 ").unwrap().as_str(), "MIA-10");
        for bad in ["", "ab", "a b c", "ünder", "a|b|c", &"x".repeat(33)] {
            assert_eq!(code(bad), Err(CouponError::Code), "{bad}");
        }
    }

    #[test]
    fn what_is_taken_off_is_whole_minor_units_and_leaves_something_to_pay() {
        let lamp = [line("lamp", 999)];
        assert_eq!(off(&coupon(Discount::Percent(10)), &lamp), Ok(99), "rounded down");
        assert_eq!(off(&coupon(Discount::Amount(500)), &lamp), Ok(500));
        assert_eq!(off(&coupon(Discount::Amount(5_000)), &lamp), Ok(998), "one is left to pay");
        assert_eq!(off(&coupon(Discount::Percent(100)), &lamp), Ok(998));
        assert_eq!(off(&coupon(Discount::Percent(1)), &[line("pin", 50)]), Err(MisfitError::Nothing));
        assert_eq!(off(&coupon(Discount::Amount(1)), &[line("pin", 1)]), Err(MisfitError::Nothing));
        let dearest = [line("ring", MAX_PRICE_MINOR)];
        assert_eq!(off(&coupon(Discount::Percent(99)), &dearest), Ok(MAX_PRICE_MINOR / 100 * 99));
    }

    #[test]
    fn it_counts_for_what_it_is_for() {
        let lines = [line("lamp", 1_000), line("tea", 300)];
        let mut tea = coupon(Discount::Amount(500));
        tea.products = vec!["tea".parse().unwrap()];
        assert_eq!(off(&tea, &lines), Ok(300), "no more than the tea costs");
        tea.minimum_minor = 301;
        assert_eq!(off(&tea, &lines), Err(MisfitError::BelowMinimum(eur(301))));
        assert_eq!(off(&tea, &lines[..1]), Err(MisfitError::OtherProducts));
        let mut other = coupon(Discount::Percent(10));
        other.sale = Some("sale_2".parse().unwrap());
        assert_eq!(off(&other, &lines), Err(MisfitError::OtherSale));
        let mut yen = coupon(Discount::Percent(10));
        yen.currency = "JPY".parse().unwrap();
        assert_eq!(off(&yen, &lines), Err(MisfitError::OtherProducts));
    }

    #[test]
    fn each_bound_is_told() {
        let good = coupon(Discount::Percent(10));
        assert_eq!(good.validate(), Ok(()));
        let terms = |change: &dyn Fn(&mut CouponTerms)| {
            let mut coupon = good.clone();
            change(&mut coupon.terms);
            coupon.validate()
        };
        assert_eq!(terms(&|terms| terms.limit = 0), Err(CouponError::Uses));
        assert_eq!(terms(&|terms| terms.per_buyer = 11), Err(CouponError::Uses));
        assert_eq!(terms(&|terms| terms.valid_until = terms.valid_from), Err(CouponError::Validity));
        assert_eq!(
            terms(&|terms| terms.valid_until.0 = terms.valid_from.0 + MAX_VALID_MS + 1),
            Err(CouponError::Validity)
        );
        for bad in [Discount::Percent(0), Discount::Percent(101), Discount::Amount(0), Discount::Amount(-1)] {
            assert_eq!(coupon(bad).validate(), Err(CouponError::Discount), "{bad:?}");
        }
    }

    #[test]
    fn of_two_words_about_a_coupon_the_order_does_not_matter() {
        let first = coupon(Discount::Percent(10)).terms;
        let (closed, more) =
            (CouponTerms { closed: true, ..first.clone() }, CouponTerms { limit: 20, ..first.clone() });
        let both = first.changed_to(&closed).changed_to(&more);
        assert_eq!(both, first.changed_to(&more).changed_to(&closed));
        assert!(both.closed && both.limit == 20);
    }
}
