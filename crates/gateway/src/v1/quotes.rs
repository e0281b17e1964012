//! What a product costs now.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::HeaderMap,
    routing::get,
};
use haul_commerce::{
    keys::Area,
    quote::{LivePrice, PriceRule, quote},
};
use haul_model::{Money, ProductId, SaleId, UnixMillis};
use haul_wire::SaleState;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::missing;
use crate::{
    app::{App, path_id, unavailable},
    openapi::{Operation, Who, json},
    problem::Problem,
    rest::{Params, bad_request},
};

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/v1/lives/{live}/products/{product}/quote", get(one))
}

pub(crate) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    vec![Operation {
        path: "/v1/lives/{live}/products/{product}/quote",
        method: "get",
        who: Who::Watcher,
        summary: "What so many units of a product, or of one of its variants, cost now (with an API key: scope products:read)",
        body: None,
        answer: ("200", json::<QuoteDocument>(generator)),
        refusals: &["400", "401", "403", "404", "503"],
        query: Vec::new(),
    }
    .query::<Wanted>(generator)]
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    /// Units; 1 where absent.
    quantity: Option<u32>,
    /// Which variant.
    sku: Option<String>,
}

/// What so many units cost now.
#[derive(Debug, Serialize, JsonSchema)]
struct QuoteDocument {
    rule: RuleDocument,
    /// Where the units can be held, for a live price.
    sale_id: Option<SaleId>,
    unit_price: Money,
    /// What the catalogue says.
    list_price: Money,
    quantity: u32,
    total: Money,
    /// Until when it stands: when the sale ends, or the next one begins; null: until the catalogue is changed.
    valid_until: Option<UnixMillis>,
}

/// Which rule made the price.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum RuleDocument {
    /// The catalogue's price.
    List,
    /// The price of a sale in this live, which goes before it while the sale is open.
    LivePrice,
}

async fn one(
    State(app): State<App>,
    Path((live, product)): Path<(String, String)>,
    Params(wanted): Params<Wanted>,
    headers: HeaderMap,
) -> Result<Json<QuoteDocument>, Problem> {
    let product: ProductId = path_id("product", &product)?;
    let sku = wanted.sku.as_deref().map(str::parse).transpose();
    let sku = sku.map_err(|error| bad_request(format!("sku: {error}")))?;
    let quantity = wanted.quantity.unwrap_or(1);
    if quantity == 0 {
        return Err(bad_request("quantity: expected at least 1"));
    }
    let (live, _) = app.watched(&headers, &path_id("live", &live)?, Area::Products.read()).await?;
    let listing = app.storefront.listing(live.merchant(), &product).await?;
    let listing = listing.ok_or_else(|| missing("the product"))?;
    let look = live.look().await.ok_or_else(|| unavailable("the live is restarting"))?;
    let now = haul_live::now().wall;
    let mut sales = Vec::new();
    for sale in look.sales {
        // The live says what is open, by the clock of its stock.
        let soon = UnixMillis(now.0 + 1);
        let (opens_at, closes_at) = match sale.state {
            SaleState::Open | SaleState::Frozen => (sale.opens_at.min(now), sale.closes_at.max(soon)),
            SaleState::Scheduled => (sale.opens_at.max(soon), sale.closes_at),
            _ => continue,
        };
        let first = (sale.product_id, sale.variant_id, sale.price);
        let others =
            sale.lines.into_iter().skip(1).map(|line| (line.product_id, line.variant_id, line.price));
        for (line_product, variant, unit_price) in std::iter::once(first).chain(others) {
            if line_product == product {
                sales.push(LivePrice { sale: sale.id.clone(), variant, unit_price, opens_at, closes_at });
            }
        }
    }
    let quoted = quote(&listing, sku.as_ref(), quantity, &sales, now);
    let quoted = quoted.map_err(|error| bad_request(error.to_string()))?;
    let (rule, sale_id) = match quoted.rule {
        PriceRule::List => (RuleDocument::List, None),
        PriceRule::LivePrice { sale } => (RuleDocument::LivePrice, Some(sale)),
    };
    Ok(Json(QuoteDocument {
        rule,
        sale_id,
        unit_price: quoted.unit_price,
        list_price: quoted.list_price,
        quantity,
        total: quoted.total,
        valid_until: quoted.valid_until,
    }))
}
