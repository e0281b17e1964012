//! How a live, a product or a creator does.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::HeaderMap,
    routing::get,
};
use haul_commerce::{
    insight::{Metrics, Revenue, Scope},
    keys::Area,
};
use haul_model::{Currency, LiveId, MerchantId, Money, Role};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;

use crate::{
    app::{App, path_id},
    openapi::{Operation, Who, json},
    problem::Problem,
};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/lives/{live}/metrics", get(of_live))
        .route("/v1/products/{product}/metrics", get(of_product))
        .route("/v1/creators/{creator}/metrics", get(of_creator))
}

pub(crate) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let mut op = |path, who, summary| Operation {
        path,
        method: "get",
        who,
        summary,
        body: None,
        answer: ("200", json::<MetricsDocument>(generator)),
        refusals: &["400", "401", "403", "404", "503"],
        query: Vec::new(),
    };
    vec![
        op("/v1/lives/{live}/metrics", Who::Host, "How a live does (with an API key: scope marketing:read)"),
        op("/v1/products/{product}/metrics", Who::Merchant, "How a product does (scope marketing:read)"),
        op("/v1/creators/{creator}/metrics", Who::Merchant, "How a creator does (scope marketing:read)"),
    ]
}

/// What came of it. Rates are in hundredths of a percent, rounded down, and null of nothing.
#[derive(Debug, Serialize, JsonSchema)]
struct MetricsDocument {
    /// Different people who joined with a token; null for a product.
    viewers: Option<u64>,
    /// Joins without a token; null for a product.
    anonymous_joins: Option<u64>,
    clicks: u64,
    /// Holds that were made; null for a creator.
    holds: Option<u64>,
    /// Sold orders.
    orders: u64,
    units: u64,
    /// Different buyers.
    buyers: u64,
    revenue: Vec<RevenueDocument>,
    /// How many of the viewers bought.
    conversion_bps: Option<u32>,
    /// Of those who bought in the last 90 days, how many did so more than once.
    repeat_90d_bps: Option<u32>,
    /// The same of 180 days.
    repeat_180d_bps: Option<u32>,
    /// What each of these buyers has spent with the merchant altogether, less refunds, on average, by currency.
    lifetime_value: Vec<Money>,
}

/// Money of one currency.
#[derive(Debug, Serialize, JsonSchema)]
struct RevenueDocument {
    currency: Currency,
    gross_minor: i64,
    refunded_minor: i64,
}

async fn of_live(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
) -> Result<Json<MetricsDocument>, Problem> {
    let live: LiveId = path_id("live", &live)?;
    let (live, _) = app.in_live(&headers, &live, Role::Host, Area::Marketing.read()).await?;
    metrics(&app, live.merchant(), Scope::Live(live.id().clone())).await
}

async fn of_product(
    State(app): State<App>,
    Path(product): Path<String>,
    headers: HeaderMap,
) -> Result<Json<MetricsDocument>, Problem> {
    let merchant = app.merchant(&headers, Area::Marketing.read()).await?;
    metrics(&app, &merchant, Scope::Product(path_id("product", &product)?)).await
}

async fn of_creator(
    State(app): State<App>,
    Path(creator): Path<String>,
    headers: HeaderMap,
) -> Result<Json<MetricsDocument>, Problem> {
    let merchant = app.merchant(&headers, Area::Marketing.read()).await?;
    metrics(&app, &merchant, Scope::Creator(path_id("creator", &creator)?)).await
}

async fn metrics(app: &App, merchant: &MerchantId, scope: Scope) -> Result<Json<MetricsDocument>, Problem> {
    let metrics = app.storefront.metrics(merchant, &scope, haul_live::now().wall).await?;
    let conversion_bps = metrics.conversion_bps();
    let Metrics { seen, sold } = metrics;
    let revenue = sold.revenue.into_iter().map(|(currency, Revenue { gross_minor, refunded_minor })| {
        RevenueDocument { currency, gross_minor, refunded_minor }
    });
    let lifetime =
        sold.lifetime_minor.into_iter().map(|(currency, amount_minor)| Money { amount_minor, currency });
    Ok(Json(MetricsDocument {
        viewers: seen.viewers,
        anonymous_joins: seen.anonymous_joins,
        clicks: seen.clicks,
        holds: seen.holds,
        orders: sold.orders,
        units: sold.units,
        buyers: sold.buyers,
        revenue: revenue.collect(),
        conversion_bps,
        repeat_90d_bps: sold.repeat_bps[0],
        repeat_180d_bps: sold.repeat_bps[1],
        lifetime_value: lifetime.collect(),
    }))
}
