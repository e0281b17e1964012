//! Coupons, and how a sale was drawn.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use haul_commerce::keys::Area;
use haul_model::{HoldId, LiveId, Role, SaleId, UnixMillis};
use haul_wire::coupon::{CouponMake, CouponView};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::sales::{ask, hosted};
use crate::{
    app::{App, path_id},
    openapi::{Operation, Who as For, json as body, refused_with},
    problem::Problem,
    rest::Body,
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/lives/{live}/coupons", post(create).get(list))
        .route("/v1/lives/{live}/coupons/{code}/close", post(close))
        .route("/v1/lives/{live}/coupons/{code}/add_uses", post(add_uses))
        .route("/v1/lives/{live}/coupons/{code}/show", post(show))
        .route("/v1/lives/{live}/sales/{sale}/draw", get(draw))
}

pub(super) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    const REFUSALS: &[&str] = &["400", "401", "403", "404", "409", "422", "503"];
    let op = refused_with(REFUSALS);
    vec![
        op(
            "post",
            "/v1/lives/{live}/coupons",
            For::Host,
            "Make a coupon; the same again is the same coupon (with an API key: scope marketing:write)",
            body::<CouponMake>(generator),
            ("201", body::<Coupon>(generator)),
        ),
        op(
            "get",
            "/v1/lives/{live}/coupons",
            For::Host,
            "A live's coupons with their uses, oldest first (with an API key: scope marketing:read)",
            None,
            ("200", body::<CouponList>(generator)),
        ),
        op(
            "post",
            "/v1/lives/{live}/coupons/{code}/close",
            For::Host,
            "Let nobody new use a coupon (with an API key: scope marketing:write)",
            None,
            ("200", body::<Coupon>(generator)),
        ),
        op(
            "post",
            "/v1/lives/{live}/coupons/{code}/add_uses",
            For::Host,
            "Let a coupon be used more often (with an API key: scope marketing:write)",
            body::<AddUses>(generator),
            ("200", body::<Coupon>(generator)),
        ),
        op(
            "post",
            "/v1/lives/{live}/coupons/{code}/show",
            For::Host,
            "Drop a coupon into the room (with an API key: scope marketing:write)",
            None,
            ("200", body::<Coupon>(generator)),
        ),
        op(
            "get",
            "/v1/lives/{live}/sales/{sale}/draw",
            For::Watcher,
            "The entries of a sale that was drawn, in the order of their tickets, and the seed they follow from (with an API key: scope sales:read)",
            None,
            ("200", body::<DrawDocument>(generator)),
        ),
    ]
}

/// What is answered about a coupon.
#[derive(Debug, Serialize, JsonSchema)]
struct Coupon {
    coupon: CouponView,
}

/// How often it may be used from now on.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AddUses {
    /// Uses in all; fewer than before change nothing.
    limit: u32,
}

/// A live's coupons.
#[derive(Debug, Serialize, JsonSchema)]
struct CouponList {
    coupons: Vec<CouponUses>,
}

/// A coupon and its uses.
#[derive(Debug, Serialize, JsonSchema)]
struct CouponUses {
    #[serde(flatten)]
    coupon: CouponView,
    /// Uses of orders that are being paid.
    paying: u64,
    /// Uses of orders that are sold.
    sold: u64,
    created_at: UnixMillis,
}

/// How a sale was drawn.
#[derive(Debug, Serialize, JsonSchema)]
struct DrawDocument {
    draws_at: UnixMillis,
    /// SHA-256 of the seed, as it was told with the sale.
    commitment: String,
    seed: String,
    /// Units of each line, counted from 0. Entries get theirs in this order, as long as there are so many.
    stock: Vec<u32>,
    /// Those that were in it when it was drawn, as long as they are remembered.
    entries: Vec<EntryDocument>,
}

/// An entry.
#[derive(Debug, Serialize, JsonSchema)]
struct EntryDocument {
    /// The hold's id, which its buyer knows.
    hold_id: HoldId,
    line: u8,
    quantity: u32,
    /// From the SHA-256 of `seed:hold_id`.
    ticket: u64,
}

async fn create(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
    Body(request): Body<Map<String, Value>>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let (live, host) = hosted(&app, &live, &headers, Area::Marketing).await?;
    Ok((StatusCode::CREATED, Json(ask(&live, host, "coupon.make", request).await?)))
}

async fn list(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
) -> Result<Json<CouponList>, Problem> {
    let live: LiveId = path_id("live", &live)?;
    let (live, _) = app.in_live(&headers, &live, Role::Host, Area::Marketing.read()).await?;
    let known = app.lives.services().ledger.coupons(live.id()).await?;
    let uses = |known: haul_commerce::CouponUse| CouponUses {
        coupon: haul_live::coupon_view(&known.coupon),
        paying: known.paying,
        sold: known.sold,
        created_at: known.coupon.created_at,
    };
    Ok(Json(CouponList { coupons: known.into_iter().map(uses).collect() }))
}

async fn close(
    State(app): State<App>,
    Path((live, code)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    change(&app, &live, &headers, "coupon.close", code, None).await
}

async fn add_uses(
    State(app): State<App>,
    Path((live, code)): Path<(String, String)>,
    headers: HeaderMap,
    Body(AddUses { limit }): Body<AddUses>,
) -> Result<Json<Value>, Problem> {
    change(&app, &live, &headers, "coupon.add_uses", code, Some(limit)).await
}

async fn show(
    State(app): State<App>,
    Path((live, code)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    change(&app, &live, &headers, "coupon.show", code, None).await
}

async fn change(
    app: &App,
    live: &str,
    headers: &HeaderMap,
    kind: &str,
    code: String,
    limit: Option<u32>,
) -> Result<Json<Value>, Problem> {
    let (live, host) = hosted(app, live, headers, Area::Marketing).await?;
    let mut request = Map::from_iter([("code".to_owned(), json!(code))]);
    request.extend(limit.map(|limit| ("limit".to_owned(), json!(limit))));
    Ok(Json(ask(&live, host, kind, request).await?))
}

async fn draw(
    State(app): State<App>,
    Path((live, sale)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<DrawDocument>, Problem> {
    let sale: SaleId = path_id("sale", &sale)?;
    let (live, _) = app.watched(&headers, &path_id("live", &live)?, Area::Sales.read()).await?;
    let Some(drawn) = app.lives.drawn(&live, &sale).await? else {
        return Err(Problem::new(StatusCode::CONFLICT, "not_drawn", "this sale is not drawn, or not yet"));
    };
    let entry = |entry: haul_live::DrawEntry| EntryDocument {
        hold_id: entry.hold,
        line: entry.line,
        quantity: entry.quantity,
        ticket: entry.ticket,
    };
    Ok(Json(DrawDocument {
        draws_at: drawn.draws_at,
        commitment: drawn.draw.commitment(),
        seed: drawn.draw.seed,
        stock: drawn.stock,
        entries: drawn.entries.into_iter().map(entry).collect(),
    }))
}
