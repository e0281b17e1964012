//! What a product costs a buyer now, by which rule, and until when.

use haul_model::{Money, SaleId, UnixMillis, VariantId};

use crate::{PriceError, listing::Listing, price::total};

/// Which rule made a price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriceRule {
    /// The catalogue's price.
    List,
    /// The price of a sale in this live, which goes before the catalogue's while the sale is open.
    LivePrice {
        /// Which sale; units are held there.
        sale: SaleId,
    },
}

/// A sale's price, if it can be had now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePrice {
    /// Which sale.
    pub sale: SaleId,
    /// Of which variant; `None`: of the product as it is.
    pub variant: Option<VariantId>,
    /// Price of a unit.
    pub unit_price: Money,
    /// Open from this time on.
    pub opens_at: UnixMillis,
    /// Up to this time, not included.
    pub closes_at: UnixMillis,
}

/// What so many units cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// By which rule.
    pub rule: PriceRule,
    /// Price of a unit.
    pub unit_price: Money,
    /// What the catalogue says, for comparison.
    pub list_price: Money,
    /// Price of all units.
    pub total: Money,
    /// Until when it stands: when the sale ends, or when the next one begins. `None`: until the catalogue is changed.
    pub valid_until: Option<UnixMillis>,
}

/// Why there is no quote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// There is no such variant, or one must be named.
    #[error("sku: expected one of the product's variants")]
    Variant,
    /// So many can't be ordered.
    #[error(transparent)]
    Price(#[from] PriceError),
}

/// What `quantity` units of a product, or of a variant of it, cost at `now`. Of several sales that are open, the cheapest
/// counts; of equals, the one that is open longest.
pub fn quote(
    listing: &Listing,
    variant: Option<&VariantId>,
    quantity: u32,
    sales: &[LivePrice],
    now: UnixMillis,
) -> Result<Quote, QuoteError> {
    let list_price = match variant {
        Some(variant) => listing.price_of(variant).ok_or(QuoteError::Variant)?,
        None => listing.product.list_price,
    };
    let ours = || {
        sales.iter().filter(|sale| {
            sale.unit_price.currency == list_price.currency
                && (sale.variant.is_none() || sale.variant.as_ref() == variant)
        })
    };
    let open = ours()
        .filter(|sale| sale.opens_at <= now && now < sale.closes_at)
        .min_by_key(|sale| (sale.unit_price.amount_minor, std::cmp::Reverse(sale.closes_at)));
    let next = ours().map(|sale| sale.opens_at).filter(|opens_at| *opens_at > now).min();
    let (rule, unit_price, ends_at) = match open {
        Some(sale) => {
            (PriceRule::LivePrice { sale: sale.sale.clone() }, sale.unit_price, Some(sale.closes_at))
        }
        None => (PriceRule::List, list_price, None),
    };
    let valid_until = match (ends_at, next) {
        (Some(ends_at), Some(next)) => Some(ends_at.min(next)),
        (ends_at, next) => ends_at.or(next),
    };
    Ok(Quote { rule, unit_price, list_price, total: total(unit_price, quantity)?, valid_until })
}

#[cfg(test)]
mod tests {
    use haul_model::MerchantId;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{Product, listing::Variant};

    fn eur(amount_minor: i64) -> Money {
        Money { amount_minor, currency: "EUR".parse().unwrap() }
    }

    fn lamp() -> Listing {
        let mut lamp = Listing::plain(Product {
            id: "lamp".parse().unwrap(),
            merchant: MerchantId::main(),
            title: "Lamp".to_owned(),
            subtitle: String::new(),
            image_url: String::new(),
            list_price: eur(8_900),
        });
        let sku = "L".parse().unwrap();
        lamp.details.variants = vec![Variant { sku, values: Vec::new(), price_minor: Some(12_900) }];
        lamp
    }

    fn sale(id: &str, amount_minor: i64, opens_at: u64, closes_at: u64) -> LivePrice {
        LivePrice {
            sale: id.parse().unwrap(),
            variant: None,
            unit_price: eur(amount_minor),
            opens_at: UnixMillis(opens_at),
            closes_at: UnixMillis(closes_at),
        }
    }

    #[test]
    fn a_live_price_goes_before_the_list_price_and_ends_with_its_sale() {
        let sales = [sale("a", 5_000, 100, 200)];
        let at = |now| {
            let quote = quote(&lamp(), None, 2, &sales, UnixMillis(now)).unwrap();
            (quote.rule, quote.total.amount_minor, quote.valid_until.map(|until| until.0))
        };
        assert_eq!(at(99), (PriceRule::List, 17_800, Some(100)));
        let live = || PriceRule::LivePrice { sale: "a".parse().unwrap() };
        assert_eq!(at(100), (live(), 10_000, Some(200)));
        assert_eq!(at(199), (live(), 10_000, Some(200)));
        assert_eq!(at(200), (PriceRule::List, 17_800, None));
    }

    #[test]
    fn a_variant_has_its_price_and_must_be_there() {
        let quoted = quote(&lamp(), Some(&"L".parse().unwrap()), 1, &[], UnixMillis(0)).unwrap();
        assert_eq!((quoted.unit_price, quoted.list_price), (eur(12_900), eur(12_900)));
        let none = quote(&lamp(), Some(&"X".parse().unwrap()), 1, &[], UnixMillis(0));
        assert_eq!(none, Err(QuoteError::Variant));
        let mut other = sale("a", 1, 0, 10);
        other.variant = Some("M".parse().unwrap());
        let quoted = quote(&lamp(), Some(&"L".parse().unwrap()), 1, &[other], UnixMillis(5)).unwrap();
        assert_eq!(quoted.rule, PriceRule::List, "another variant's sale");
    }

    #[test]
    fn a_quote_is_the_cheapest_open_price_and_stands_until_it_says() {
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..2_000 {
            let sales: Vec<_> = (0..rng.random_range(0..6))
                .map(|n| {
                    let opens_at = rng.random_range(0..100);
                    sale(
                        &format!("s{n}"),
                        rng.random_range(1..10_000),
                        opens_at,
                        opens_at + rng.random_range(1..50),
                    )
                })
                .collect();
            let now = rng.random_range(0..120);
            let price = |now: u64| quote(&lamp(), None, 1, &sales, UnixMillis(now)).unwrap();
            let quoted = price(now);
            let open = sales.iter().filter(|sale| sale.opens_at.0 <= now && now < sale.closes_at.0);
            let cheapest = open.map(|sale| sale.unit_price.amount_minor).min().unwrap_or(8_900);
            assert_eq!(quoted.unit_price.amount_minor, cheapest);
            for later in now..quoted.valid_until.map_or(200, |until| until.0) {
                assert_eq!(price(later).unit_price, quoted.unit_price);
            }
        }
    }
}
