//! A product as its merchant publishes it: texts in several languages, variants with prices of their own, and perhaps an
//! external shop where it is sold.

use std::collections::{BTreeMap, BTreeSet};

use haul_model::{Languages, LiveId, Locale, MerchantId, Money, ProductId, UnixMillis, VariantId};
use serde::{Deserialize, Serialize};

use crate::{PriceError, Product, check_price, ledger::Answer};

/// Languages of one product beside its own; more are refused.
pub const MAX_TEXTS: usize = 40;
/// Ways in which variants of one product differ (size, colour, scent); more are refused.
pub const MAX_OPTIONS: usize = 3;
/// Values of one option; more are refused.
pub const MAX_VALUES: usize = 50;
/// Variants of one product; more are refused.
pub const MAX_VARIANTS: usize = 100;
/// The longest title, subtitle, option or value, in characters; longer ones are refused.
pub const MAX_TEXT_CHARS: usize = 120;
/// The longest address of a picture or a shop, in bytes; longer ones are refused.
pub const MAX_URL_BYTES: usize = 512;
/// Products in one call of [`Catalogue::put_listings`].
pub const MAX_BATCH: usize = 200;

/// What a product is called in one language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductText {
    /// What it is called.
    pub title: String,
    /// One line more; may be empty.
    #[serde(default)]
    pub subtitle: String,
}

/// A way in which variants differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductOption {
    /// Such as "Size".
    pub name: String,
    /// Such as "S", "M" and "L", in the order in which they are shown.
    pub values: Vec<String>,
}

/// One variant of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// As the merchant's stock knows it.
    pub sku: VariantId,
    /// Its value of each option, in their order.
    pub values: Vec<String>,
    /// Its own list price in the product's currency, in minor units; absent: the product's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_minor: Option<i64>,
}

/// What there is of a product beside its record in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The language of the record's texts, and the one that is fallen back to.
    pub locale: Locale,
    /// The same in other languages.
    #[serde(default)]
    pub texts: BTreeMap<Locale, ProductText>,
    /// The external shop where it is sold; nothing of it can be held here then.
    #[serde(default)]
    pub external_url: Option<String>,
    /// How its variants differ.
    #[serde(default)]
    pub options: Vec<ProductOption>,
    /// Its variants; none: it is sold as it is.
    #[serde(default)]
    pub variants: Vec<Variant>,
}

impl Default for Details {
    fn default() -> Self {
        Self {
            locale: "en".parse().expect("two letters are a language"),
            texts: BTreeMap::new(),
            external_url: None,
            options: Vec::new(),
            variants: Vec::new(),
        }
    }
}

/// A product with all that there is of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// As it is sold; its texts are those of `details.locale`.
    pub product: Product,
    /// The rest.
    pub details: Details,
}

/// Why a listing is refused. Each message names the field and what it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// A text is missing, too long, or has control characters.
    #[error("{field}: expected {least} to {MAX_TEXT_CHARS} characters and no control characters")]
    Text {
        /// Where.
        field: String,
        /// The fewest characters.
        least: usize,
    },
    /// Too many of something.
    #[error("{field}: expected at most {most}, not {given}")]
    TooMany {
        /// Of what.
        field: &'static str,
        /// How many may be.
        most: usize,
        /// How many there are.
        given: usize,
    },
    /// An address is none that a page may show or follow.
    #[error("{field}: expected {expected}, of at most {MAX_URL_BYTES} bytes")]
    Url {
        /// Which.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// A price is.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// A variant does not name a value of each option.
    #[error("variants: {0} must have one of the values of each option, in the options' order")]
    Values(VariantId),
    /// Two variants, values or options are the same.
    #[error("{field}: {twice:?} is there twice")]
    Twice {
        /// Of what.
        field: &'static str,
        /// Which.
        twice: String,
    },
    /// There are options and nothing that has them.
    #[error("options: expected variants that have them")]
    NoVariants,
}

impl Listing {
    /// A product without anything more.
    pub fn plain(product: Product) -> Self {
        Self { product, details: Details::default() }
    }

    /// Checks all of it. Texts are to be trimmed before.
    pub fn validate(&self) -> Result<(), ListingError> {
        let Self { product, details } = self;
        text("title", &product.title, 1)?;
        text("subtitle", &product.subtitle, 0)?;
        check_price("price_minor", product.list_price)?;
        picture_url(&product.image_url)?;
        at_most("texts", MAX_TEXTS, details.texts.len())?;
        for (locale, ProductText { title, subtitle }) in &details.texts {
            text(&format!("texts.{locale}.title"), title, 1)?;
            text(&format!("texts.{locale}.subtitle"), subtitle, 0)?;
        }
        if let Some(url) = &details.external_url {
            shop_url(url)?;
        }
        self.check_variants()
    }

    fn check_variants(&self) -> Result<(), ListingError> {
        let Details { options, variants, .. } = &self.details;
        at_most("options", MAX_OPTIONS, options.len())?;
        at_most("variants", MAX_VARIANTS, variants.len())?;
        for option in options {
            text("options.name", &option.name, 1)?;
            at_most("options.values", MAX_VALUES, option.values.len())?;
            for value in &option.values {
                text("options.values", value, 1)?;
            }
            once("options.values", option.values.iter().map(String::as_str))?;
        }
        once("options", options.iter().map(|option| option.name.as_str()))?;
        if variants.is_empty() && !options.is_empty() {
            return Err(ListingError::NoVariants);
        }
        once("variants", variants.iter().map(|variant| variant.sku.as_str()))?;
        let mut combinations = BTreeSet::new();
        for variant in variants {
            let fits = variant.values.len() == options.len()
                && variant.values.iter().zip(options).all(|(value, option)| option.values.contains(value));
            if !fits {
                return Err(ListingError::Values(variant.sku.clone()));
            }
            if !combinations.insert(&variant.values) {
                return Err(ListingError::Twice { field: "variants", twice: variant.values.join(" / ") });
            }
            if let Some(amount_minor) = variant.price_minor {
                check_price("variants.price_minor", Money { amount_minor, ..self.product.list_price })?;
            }
        }
        Ok(())
    }

    /// The list price of a variant; `None` where there is no such variant.
    pub fn price_of(&self, sku: &VariantId) -> Option<Money> {
        let variant = self.details.variants.iter().find(|variant| variant.sku == *sku)?;
        let amount_minor = variant.price_minor.unwrap_or(self.product.list_price.amount_minor);
        Some(Money { amount_minor, ..self.product.list_price })
    }

    /// Its texts for a reader, and the language they are in.
    pub fn text_for<'a>(&'a self, languages: &Languages) -> (&'a Locale, &'a str, &'a str) {
        let own = &self.details.locale;
        let there = std::iter::once(own).chain(self.details.texts.keys());
        let best = languages.best(there, own);
        // The own language's texts are the record's, whatever `texts` says of it.
        match self.details.texts.get(best).filter(|_| best != own) {
            Some(text) => (best, &text.title, &text.subtitle),
            None => (own, &self.product.title, &self.product.subtitle),
        }
    }

    /// The product as that reader sees it.
    pub fn product_for(&self, languages: &Languages) -> Product {
        let (_, title, subtitle) = self.text_for(languages);
        Product { title: title.to_owned(), subtitle: subtitle.to_owned(), ..self.product.clone() }
    }
}

fn text(field: &str, text: &str, least: usize) -> Result<(), ListingError> {
    let chars = text.chars().count();
    if (least..=MAX_TEXT_CHARS).contains(&chars) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(ListingError::Text { field: field.to_owned(), least })
}

fn at_most(field: &'static str, most: usize, given: usize) -> Result<(), ListingError> {
    if given <= most { Ok(()) } else { Err(ListingError::TooMany { field, most, given }) }
}

fn once<'a>(field: &'static str, texts: impl Iterator<Item = &'a str>) -> Result<(), ListingError> {
    let mut seen = BTreeSet::new();
    for text in texts {
        if !seen.insert(text) {
            return Err(ListingError::Twice { field, twice: text.to_owned() });
        }
    }
    Ok(())
}

/// Pages put it into `<img src>`: nothing else than a picture's address may come through.
fn picture_url(url: &str) -> Result<(), ListingError> {
    let is_path = url.starts_with('/') && !url.starts_with("//");
    let good = url.is_empty() || is_path || url.starts_with("https://");
    if good && url.len() <= MAX_URL_BYTES && is_clean(url) {
        return Ok(());
    }
    Err(ListingError::Url { field: "image_url", expected: "an https URL or a path on this server" })
}

/// Buyers are sent there: only to where a browser's address bar shows whom they deal with.
fn shop_url(url: &str) -> Result<(), ListingError> {
    let host =
        url.strip_prefix("https://").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let good = host.is_some_and(|host| {
        !host.is_empty()
            && !host.contains('@')
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':'))
    });
    if good && url.len() <= MAX_URL_BYTES && is_clean(url) && url.is_ascii() {
        return Ok(());
    }
    Err(ListingError::Url { field: "external_url", expected: "an https URL in ASCII without a user name" })
}

fn is_clean(url: &str) -> bool {
    !url.chars().any(|c| c.is_control() || c == '\\' || c == ' ')
}

/// What became of one listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Created,
    /// It was there and is now this.
    Updated,
    /// A variant's SKU is another product's; nothing of this listing was changed.
    SkuTaken {
        /// The SKU.
        sku: VariantId,
        /// Whose it is.
        product: ProductId,
    },
    /// It was to be sold in an external shop, while a sale of it here has not closed.
    OnSale,
}

/// Products with all that there is of them. Every question names a merchant, or a live, which has one.
pub trait Catalogue: Send + Sync + 'static {
    /// Creates or changes at most [`MAX_BATCH`] products, in one transaction; each gets its own answer, in order.
    fn put_listings<'a>(
        &'a self,
        merchant: &'a MerchantId,
        listings: &'a [Listing],
        now: UnixMillis,
    ) -> Answer<'a, Vec<Put>>;
    /// A product.
    fn listing<'a>(&'a self, merchant: &'a MerchantId, product: &'a ProductId)
    -> Answer<'a, Option<Listing>>;
    /// A merchant's products by id, from behind `after`, at most `limit`.
    fn listings<'a>(
        &'a self,
        merchant: &'a MerchantId,
        after: Option<&'a ProductId>,
        limit: u32,
    ) -> Answer<'a, Vec<Listing>>;
    /// A live's products in the bag's order.
    fn listed_in<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<Listing>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lamp() -> Listing {
        let mut lamp = Listing::plain(Product {
            id: "lamp".parse().unwrap(),
            merchant: MerchantId::main(),
            title: "Paper lamp".to_owned(),
            subtitle: String::new(),
            image_url: String::new(),
            list_price: Money { amount_minor: 8_900, currency: "EUR".parse().unwrap() },
        });
        lamp.details.options =
            vec![ProductOption { name: "Size".to_owned(), values: vec!["S".to_owned(), "L".to_owned()] }];
        lamp.details.variants =
            vec![variant("LAMP-S", &["S"], None), variant("LAMP-L", &["L"], Some(12_900))];
        lamp
    }

    fn variant(sku: &str, values: &[&str], price_minor: Option<i64>) -> Variant {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Variant { sku: sku.parse().unwrap(), values, price_minor }
    }

    #[test]
    fn a_variant_has_its_own_price_or_the_products() {
        let lamp = lamp();
        assert_eq!(lamp.validate(), Ok(()));
        let price = |sku: &str| lamp.price_of(&sku.parse().unwrap()).map(|price| price.amount_minor);
        assert_eq!((price("LAMP-S"), price("LAMP-L"), price("MUG")), (Some(8_900), Some(12_900), None));
    }

    #[test]
    fn variants_are_those_that_the_options_allow() {
        type Change = fn(&mut Listing);
        let cases: [(Change, &str); 8] = [
            (|lamp| lamp.details.variants[0].values = vec!["M".to_owned()], "variants: LAMP-S must have"),
            (|lamp| lamp.details.variants[0].values.clear(), "variants: LAMP-S must have"),
            (|lamp| lamp.details.variants[0].values = vec!["L".to_owned()], "variants: \"L\" is there twice"),
            (
                |lamp| lamp.details.variants[0].sku = "LAMP-L".parse().unwrap(),
                "variants: \"LAMP-L\" is there twice",
            ),
            (|lamp| lamp.details.variants.clear(), "options: expected variants"),
            (
                |lamp| lamp.details.options[0].values.push("S".to_owned()),
                "options.values: \"S\" is there twice",
            ),
            (|lamp| lamp.details.variants[1].price_minor = Some(0), "variants.price_minor must be 1 to"),
            (
                |lamp| lamp.details.options = vec![lamp.details.options[0].clone(); MAX_OPTIONS + 1],
                "options: expected at most 3, not 4",
            ),
        ];
        for (change, message) in cases {
            let mut lamp = lamp();
            change(&mut lamp);
            let error = lamp.validate().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn a_reader_gets_their_language_or_the_products_own() {
        let mut lamp = lamp();
        let text = |title: &str| ProductText { title: title.to_owned(), subtitle: String::new() };
        lamp.details.texts.insert("zh-Hans".parse().unwrap(), text("纸灯"));
        lamp.details.texts.insert("pt-BR".parse().unwrap(), text("Luminária"));
        // A second word on the own language is not a second truth.
        lamp.details.texts.insert("en".parse().unwrap(), text("Lamp, wrong"));
        let read = |wanted: &str| lamp.product_for(&Languages::accepted(wanted)).title;
        assert_eq!(read("zh-CN,zh;q=0.9,en;q=0.8"), "纸灯");
        assert_eq!(read("pt-PT"), "Luminária");
        assert_eq!(read("en-GB"), "Paper lamp");
        assert_eq!(read("fr"), "Paper lamp");
        assert_eq!(read(""), "Paper lamp");
    }

    #[test]
    fn a_shop_is_an_address_that_shows_where_it_leads() {
        for good in
            ["https://shop.example/lamp?id=7", "https://xn--bcher-kva.example", "https://shop.example:8443/a"]
        {
            assert_eq!(shop_url(good), Ok(()), "{good}");
        }
        for bad in [
            "http://shop.example",
            "https://",
            "https:///evil",
            "https://shop.example@evil.example/",
            "https://evil.example\\@shop.example",
            "javascript:alert(1)",
            "//evil.example",
            "https://a b.example",
            "https://bücher.example",
            "https://shop.example/\r\nSet-Cookie: x",
        ] {
            assert!(shop_url(bad).is_err(), "{bad}");
        }
    }
}
