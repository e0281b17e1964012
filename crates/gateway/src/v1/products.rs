//! The catalogue: products with variants and texts in several languages.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::VARY},
    response::IntoResponse,
    routing::{get, post},
};
use haul_commerce::{
    Product,
    keys::Area,
    listing::{Details, Listing, MAX_BATCH, ProductOption, ProductText, Put, Variant},
};
use haul_model::{Currency, Languages, Locale, MerchantId, Money, ProductId, VariantId};
use haul_wire::ProductView;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Page, languages, missing, next};
use crate::{
    app::{App, path_id},
    openapi::{Operation, Who, json},
    problem::Problem,
    rest::{Body, Params, bad_request},
    shop::links::{self, Target},
};

/// The largest batch read. Bytes beyond it are refused with 413.
const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;
/// The longest `ref` that goes into a link; a longer one is none of ours.
const MAX_REF_BYTES: usize = 256;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/products:batch", post(batch).layer(DefaultBodyLimit::max(MAX_BATCH_BYTES)))
        .route("/v1/products", get(list))
        .route("/v1/products/{product}", get(one))
        .route("/v1/lives/{live}/products", get(in_live))
}

pub(crate) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    vec![
        Operation {
            path: "/v1/products:batch",
            method: "post",
            who: Who::Merchant,
            summary: "Create or change up to 200 products at once; each is answered by itself (scope products:write)",
            body: json::<Batch>(generator),
            answer: ("200", json::<Batched>(generator)),
            refusals: &["400", "401", "403", "413", "503"],
            query: Vec::new(),
        },
        Operation {
            path: "/v1/products",
            method: "get",
            who: Who::Merchant,
            summary: "The catalogue by product id (scope products:read)",
            body: None,
            answer: ("200", json::<ProductDocuments>(generator)),
            refusals: &["400", "401", "403", "503"],
            query: Vec::new(),
        }
        .query::<Page>(generator),
        Operation {
            path: "/v1/products/{product}",
            method: "get",
            who: Who::Merchant,
            summary: "A product with all that there is of it (scope products:read)",
            body: None,
            answer: ("200", json::<ProductDocument>(generator)),
            refusals: &["400", "401", "403", "404", "503"],
            query: Vec::new(),
        },
        Operation {
            path: "/v1/lives/{live}/products",
            method: "get",
            who: Who::Watcher,
            summary: "The bag, in the reader's language: by the query, or Accept-Language (with an API key: scope products:read)",
            body: None,
            answer: ("200", json::<Products>(generator)),
            refusals: &["400", "401", "403", "404"],
            query: Vec::new(),
        }
        .query::<Reading>(generator),
    ]
}

/// Products to be created or changed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Batch {
    /// At most 200.
    #[schemars(with = "Vec<PutListing>")]
    products: Vec<Value>,
}

/// A product to be created or changed: it will be what is said here, and nothing more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PutListing {
    id: ProductId,
    /// At most 120 characters, in the language of `locale`.
    title: String,
    /// At most 120 characters.
    #[serde(default)]
    subtitle: String,
    /// An https URL, or a path on this server. At most 512 bytes.
    #[serde(default)]
    image_url: String,
    /// The list price in the currency's minor unit (ISO 4217): 1250 is 12.50 EUR, 1250 JPY, or 1.250 KWD.
    price_minor: i64,
    currency: Currency,
    /// The language of `title` and `subtitle`, which readers of no other get; `en` where absent.
    locale: Option<Locale>,
    /// The same in other languages, by their tags (BCP 47). At most 40.
    #[serde(default)]
    texts: BTreeMap<Locale, Text>,
    /// The external shop where it is sold, an https URL; it can't be held here then.
    external_url: Option<String>,
    /// How its variants differ. At most 3, of 50 values.
    #[serde(default)]
    options: Vec<OptionDocument>,
    /// At most 100.
    #[serde(default)]
    variants: Vec<PutVariant>,
}

/// What a product is called in one language.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Text {
    title: String,
    #[serde(default)]
    subtitle: String,
}

/// A way in which variants differ.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OptionDocument {
    /// Such as "Size".
    name: String,
    /// Such as "S" and "L", in the order in which they are shown.
    values: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PutVariant {
    sku: VariantId,
    /// Its value of each option, in their order.
    #[serde(default)]
    values: Vec<String>,
    /// Its own list price; absent: the product's.
    price_minor: Option<i64>,
}

/// What became of a batch.
#[derive(Debug, Serialize, JsonSchema)]
struct Batched {
    /// One for each product, in order.
    results: Vec<ItemResult>,
    /// Products created or changed.
    accepted: usize,
    /// Products refused; nothing of them was changed.
    refused: usize,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
struct ItemResult {
    /// As it was given, if it could be read.
    id: Option<ProductId>,
    status: ItemStatus,
    /// What was wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ItemError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ItemStatus {
    Created,
    Updated,
    Refused,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
struct ItemError {
    /// `bad_request`, `duplicate`, `sku_taken`, or `on_sale`.
    code: &'static str,
    /// What happened and what to do, in English.
    detail: String,
}

impl ItemResult {
    fn refused(id: Option<ProductId>, code: &'static str, detail: String) -> Self {
        Self { id, status: ItemStatus::Refused, error: Some(ItemError { code, detail }) }
    }
}

/// A product with all that there is of it, for its merchant.
#[derive(Debug, Serialize, JsonSchema)]
struct ProductDocument {
    id: ProductId,
    title: String,
    subtitle: String,
    image_url: String,
    list_price: Money,
    /// The language of `title` and `subtitle`.
    locale: Locale,
    texts: BTreeMap<Locale, Text>,
    external_url: Option<String>,
    options: Vec<OptionDocument>,
    variants: Vec<VariantDocument>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ProductDocuments {
    products: Vec<ProductDocument>,
    /// What to ask `?after=` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<ProductId>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct VariantDocument {
    sku: VariantId,
    /// Its value of each option, in their order.
    values: Vec<String>,
    list_price: Money,
}

/// The bag.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Products {
    products: Vec<ListedProduct>,
}

/// A product as a reader sees it.
#[derive(Debug, Serialize, JsonSchema)]
struct ListedProduct {
    #[serde(flatten)]
    product: ProductView,
    /// The language of its texts.
    locale: Locale,
    options: Vec<OptionDocument>,
    variants: Vec<VariantDocument>,
    /// Where it is sold, if that is an external shop: a path on this server that leads there and counts the click. Good
    /// for 24 hours, for the asker; nothing of such a product can be held here.
    #[serde(skip_serializing_if = "Option::is_none")]
    shop_link: Option<String>,
}

async fn batch(
    State(app): State<App>,
    headers: HeaderMap,
    Body(batch): Body<Batch>,
) -> Result<Json<Batched>, Problem> {
    let merchant = app.merchant(&headers, Area::Products.write()).await?;
    if batch.products.is_empty() || batch.products.len() > MAX_BATCH {
        return Err(bad_request(format!(
            "products: expected 1 to {MAX_BATCH}, not {}",
            batch.products.len()
        )));
    }
    let read = read_batch(&merchant, batch.products);
    let good: Vec<Listing> = read.iter().filter_map(|read| read.as_ref().ok()).cloned().collect();
    let mut put = match good.is_empty() {
        true => Vec::new(),
        false => app.storefront.put_listings(&merchant, &good, haul_live::now().wall).await?,
    }
    .into_iter();
    let mut results = Vec::with_capacity(read.len());
    for read in read {
        let result = match read {
            Err(refused) => refused,
            Ok(Listing { product, .. }) => match put.next() {
                Some(Put::Created) => {
                    ItemResult { id: Some(product.id), status: ItemStatus::Created, error: None }
                }
                Some(Put::Updated) => {
                    ItemResult { id: Some(product.id), status: ItemStatus::Updated, error: None }
                }
                Some(Put::SkuTaken { sku, product: owner }) => {
                    let detail = format!("variants: the SKU {sku} is that of the product {owner}");
                    ItemResult::refused(Some(product.id), "sku_taken", detail)
                }
                Some(Put::OnSale) => {
                    let detail = "external_url: a sale of this product has not closed here".to_owned();
                    ItemResult::refused(Some(product.id), "on_sale", detail)
                }
                None => return Err(crate::app::unavailable("the ledger did not answer for all products")),
            },
        };
        results.push(result);
    }
    let refused = results.iter().filter(|result| result.status == ItemStatus::Refused).count();
    tell_lives(&app, &merchant, &good);
    Ok(Json(Batched { accepted: results.len() - refused, refused, results }))
}

/// Each product by itself, so that one which can't be read costs the others nothing. Of two with one id, the later is
/// refused: which of them would stand is not to be guessed.
fn read_batch(merchant: &MerchantId, products: Vec<Value>) -> Vec<Result<Listing, ItemResult>> {
    let mut seen = std::collections::HashSet::new();
    let mut skus = std::collections::HashSet::new();
    let read = |item: Value| {
        let id = item.get("id").and_then(Value::as_str).and_then(|id| id.parse::<ProductId>().ok());
        let put: PutListing = serde_json::from_value(item)
            .map_err(|error| ItemResult::refused(id.clone(), "bad_request", error.to_string()))?;
        let listing = put.listing(merchant.clone());
        let id = listing.product.id.clone();
        listing
            .validate()
            .map_err(|error| ItemResult::refused(Some(id.clone()), "bad_request", error.to_string()))?;
        if !seen.insert(id.clone()) {
            let detail = format!("id: {id} is in this batch before");
            return Err(ItemResult::refused(Some(id), "duplicate", detail));
        }
        if let Some(twice) = listing.details.variants.iter().find(|variant| skus.contains(&variant.sku)) {
            let detail = format!("variants: the SKU {} is in this batch before", twice.sku);
            return Err(ItemResult::refused(Some(id), "duplicate", detail));
        }
        skus.extend(listing.details.variants.iter().map(|variant| variant.sku.clone()));
        Ok(listing)
    };
    products.into_iter().map(read).collect()
}

/// Rooms that show one of these products hear of it. Not waited for: the catalogue is written already.
fn tell_lives(app: &App, merchant: &MerchantId, changed: &[Listing]) {
    let products: Vec<ProductId> = changed.iter().map(|listing| listing.product.id.clone()).collect();
    let (app, merchant) = (app.clone(), merchant.clone());
    tokio::spawn(async move {
        for live in app.lives.of_merchant(&merchant) {
            match app.storefront.listed_in(live.id()).await {
                Ok(bag) if bag.iter().any(|listing| products.contains(&listing.product.id)) => {
                    live.bag_changed(bag);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(live = %live.id(), %error, "a room was not told of its bag"),
            }
        }
    });
}

impl PutListing {
    fn listing(self, merchant: MerchantId) -> Listing {
        let trimmed = |text: String| text.trim().to_owned();
        let text =
            |Text { title, subtitle }| ProductText { title: trimmed(title), subtitle: trimmed(subtitle) };
        let details = Details::default();
        Listing {
            product: Product {
                id: self.id,
                merchant,
                title: trimmed(self.title),
                subtitle: trimmed(self.subtitle),
                image_url: trimmed(self.image_url),
                list_price: Money { amount_minor: self.price_minor, currency: self.currency },
            },
            details: Details {
                locale: self.locale.unwrap_or(details.locale),
                texts: self.texts.into_iter().map(|(locale, words)| (locale, text(words))).collect(),
                external_url: self.external_url.map(trimmed),
                options: self
                    .options
                    .into_iter()
                    .map(|OptionDocument { name, values }| ProductOption {
                        name: trimmed(name),
                        values: values.into_iter().map(trimmed).collect(),
                    })
                    .collect(),
                variants: self
                    .variants
                    .into_iter()
                    .map(|PutVariant { sku, values, price_minor }| Variant {
                        sku,
                        values: values.into_iter().map(trimmed).collect(),
                        price_minor,
                    })
                    .collect(),
            },
        }
    }
}

async fn list(
    State(app): State<App>,
    Params(page): Params<Page>,
    headers: HeaderMap,
) -> Result<Json<ProductDocuments>, Problem> {
    let merchant = app.merchant(&headers, Area::Products.read()).await?;
    let (after, limit) = (page.after()?, page.limit()?);
    let listings = app.storefront.listings(&merchant, after.as_ref(), limit).await?;
    let next = next(&listings, limit, |listing| listing.product.id.clone());
    Ok(Json(ProductDocuments { products: listings.into_iter().map(document).collect(), next }))
}

async fn one(
    State(app): State<App>,
    Path(product): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ProductDocument>, Problem> {
    let merchant = app.merchant(&headers, Area::Products.read()).await?;
    let product = path_id("product", &product)?;
    let listing = app.storefront.listing(&merchant, &product).await?;
    listing.map(|listing| Json(document(listing))).ok_or_else(|| missing("the product"))
}

/// How a reader wants the bag.
#[derive(Debug, Deserialize, JsonSchema)]
struct Reading {
    /// The language, as BCP 47 has it; the header's where absent.
    locale: Option<String>,
    /// Under whose `ref` the reader is: it goes into links to external shops.
    #[serde(rename = "ref")]
    referrer: Option<String>,
}

async fn in_live(
    State(app): State<App>,
    Path(live): Path<String>,
    Params(reading): Params<Reading>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let languages = languages(reading.locale.as_deref(), &headers)?;
    let (live, viewer) = app.watched(&headers, &path_id("live", &live)?, Area::Products.read()).await?;
    let listings = app.storefront.listed_in(live.id()).await?;
    let now = haul_live::now().wall;
    let products = listings.into_iter().map(|listing| {
        let shop_link = listing.details.external_url.as_ref().map(|_| {
            let target = Target {
                merchant: live.merchant().clone(),
                live: live.id().clone(),
                product: listing.product.id.clone(),
                buyer: viewer.as_ref().map(|viewer| viewer.id.clone()),
                referrer: reading.referrer.clone().filter(|text| text.len() <= MAX_REF_BYTES),
            };
            links::path(&app, &target, now)
        });
        ListedProduct { shop_link, ..listed(&listing, &languages) }
    });
    let products = products.collect();
    let answer =
        (StatusCode::OK, [(VARY, HeaderValue::from_static("accept-language"))], Json(Products { products }));
    Ok(answer)
}

fn document(listing: Listing) -> ProductDocument {
    let variants = variants(&listing);
    let Listing { product, details } = listing;
    let text = |ProductText { title, subtitle }| Text { title, subtitle };
    ProductDocument {
        id: product.id,
        title: product.title,
        subtitle: product.subtitle,
        image_url: product.image_url,
        list_price: product.list_price,
        locale: details.locale,
        texts: details.texts.into_iter().map(|(locale, words)| (locale, text(words))).collect(),
        external_url: details.external_url,
        options: options(details.options),
        variants,
    }
}

fn listed(listing: &Listing, languages: &Languages) -> ListedProduct {
    let (locale, ..) = listing.text_for(languages);
    ListedProduct {
        product: haul_live::product_view(&listing.product_for(languages)),
        locale: locale.clone(),
        options: options(listing.details.options.clone()),
        variants: variants(listing),
        shop_link: None,
    }
}

fn options(options: Vec<ProductOption>) -> Vec<OptionDocument> {
    options.into_iter().map(|ProductOption { name, values }| OptionDocument { name, values }).collect()
}

fn variants(listing: &Listing) -> Vec<VariantDocument> {
    let priced = listing.details.variants.iter().filter_map(|variant| {
        let list_price = listing.price_of(&variant.sku)?;
        Some(VariantDocument { sku: variant.sku.clone(), values: variant.values.clone(), list_price })
    });
    priced.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bad_product_costs_the_others_of_its_batch_nothing() {
        let good = |id: &str, sku: &str| {
            json!({
                "id": id, "title": " Lamp ", "price_minor": 1250, "currency": "KWD",
                "options": [{ "name": "Size", "values": ["S"] }],
                "variants": [{ "sku": sku, "values": ["S"] }],
            })
        };
        let mut priceless = good("mug", "M");
        priceless["price_minor"] = json!(12.5);
        let mut shapeless = good("cup", "C");
        shapeless["variants"][0]["values"] = json!([]);
        let batch =
            vec![good("lamp", "L"), priceless, shapeless, good("lamp", "X"), good("bag", "L"), json!("?")];
        let read = read_batch(&MerchantId::main(), batch);
        let lamp = read[0].as_ref().unwrap();
        assert_eq!(
            (lamp.product.title.as_str(), lamp.product.list_price.to_string()),
            ("Lamp", "1.250 KWD".into())
        );
        let refused: Vec<_> = read[1..]
            .iter()
            .map(|read| {
                let refused = read.as_ref().unwrap_err();
                (refused.id.as_ref().map(ProductId::as_str), refused.error.as_ref().unwrap().code)
            })
            .collect();
        assert_eq!(
            refused,
            [
                (Some("mug"), "bad_request"),
                (Some("cup"), "bad_request"),
                (Some("lamp"), "duplicate"),
                (Some("bag"), "duplicate"),
                (None, "bad_request"),
            ]
        );
    }
}
