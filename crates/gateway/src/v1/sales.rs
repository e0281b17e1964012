//! Sales and holds over REST: the channel's requests, asked once by a merchant's systems.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{delete, post},
};
use haul_commerce::keys::{Area, Permission};
use haul_live::Live;
use haul_model::{BuyerId, LiveId, Role, UnixMillis, Viewer};
use haul_wire::{HoldView, OrderView, SaleSchedule, SaleView, parse};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Who;
use crate::{
    app::{App, path_id, unavailable},
    auth::clean_name,
    guard::Taker,
    openapi::{Operation, Who as For, json as body},
    problem::Problem,
    rest::{Body, bad_request},
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/lives/{live}/sales", post(create))
        .route("/v1/lives/{live}/sales/{sale}/open", post(open))
        .route("/v1/lives/{live}/sales/{sale}/close", post(close))
        .route("/v1/lives/{live}/holds", post(hold))
        .route("/v1/lives/{live}/holds/{hold}", delete(cancel))
        .route("/v1/lives/{live}/holds/{hold}/checkout", post(checkout))
}

pub(super) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    const REFUSALS: &[&str] = &["400", "401", "403", "404", "409", "422", "429", "503"];
    let op = |method, path, who, summary, body, answer| Operation {
        path,
        method,
        who,
        summary,
        body,
        answer,
        refusals: REFUSALS,
    };
    vec![
        op(
            "post",
            "/v1/lives/{live}/sales",
            For::Host,
            "Open a sale, now or later (with an API key: scope sales:write)",
            body::<SaleSchedule>(generator),
            ("201", body::<Sale>(generator)),
        ),
        op(
            "post",
            "/v1/lives/{live}/sales/{sale}/open",
            For::Host,
            "Open a scheduled sale now (with an API key: scope sales:write)",
            None,
            ("200", body::<Sale>(generator)),
        ),
        op(
            "post",
            "/v1/lives/{live}/sales/{sale}/close",
            For::Host,
            "Close a sale now; holds taken before may still be paid (with an API key: scope sales:write)",
            None,
            ("200", body::<Sale>(generator)),
        ),
        op(
            "post",
            "/v1/lives/{live}/holds",
            For::Merchant,
            "Set units aside for a buyer (scope holds:write)",
            body::<NewHold>(generator),
            ("201", body::<Hold>(generator)),
        ),
        op(
            "delete",
            "/v1/lives/{live}/holds/{hold}",
            For::Merchant,
            "Give a buyer's hold up; the body says whose and of which sale (scope holds:write)",
            body::<OfBuyer>(generator),
            ("200", body::<Hold>(generator)),
        ),
        op(
            "post",
            "/v1/lives/{live}/holds/{hold}/checkout",
            For::Merchant,
            "Go to pay for a buyer's hold (scope holds:write)",
            body::<OfBuyer>(generator),
            ("200", body::<Checkout>(generator)),
        ),
    ]
}

/// What is answered about a sale.
#[derive(Debug, Serialize, JsonSchema)]
struct Sale {
    sale: SaleView,
}

/// Units to be set aside.
#[derive(Debug, Deserialize, JsonSchema)]
struct NewHold {
    /// For whom.
    buyer_id: BuyerId,
    /// Their name, for the host.
    #[serde(default)]
    buyer_name: String,
    /// Of which sale, how many, under which key: as the channel's `hold` has it.
    #[serde(flatten)]
    request: Map<String, Value>,
}

/// Whose hold, of which sale.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfBuyer {
    buyer_id: BuyerId,
    #[serde(default)]
    buyer_name: String,
    #[serde(flatten)]
    request: Map<String, Value>,
}

/// What is answered about a hold.
#[derive(Debug, Serialize, JsonSchema)]
struct Hold {
    hold: HoldView,
    server_time: UnixMillis,
}

/// What is answered to a checkout.
#[derive(Debug, Serialize, JsonSchema)]
struct Checkout {
    order: OrderView,
    hold: HoldView,
    /// Where the buyer pays; a path on this server, or an absolute URL.
    pay_url: String,
    server_time: UnixMillis,
}

async fn create(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
    Body(request): Body<Map<String, Value>>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let (live, host) = hosted(&app, &live, &headers, Area::Sales).await?;
    Ok((StatusCode::CREATED, Json(ask(&live, host, "sale.schedule", request).await?)))
}

async fn open(
    State(app): State<App>,
    Path((live, sale)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let (live, host) = hosted(&app, &live, &headers, Area::Sales).await?;
    Ok(Json(ask(&live, host, "sale.open", fields([("sale_id", sale)])).await?))
}

async fn close(
    State(app): State<App>,
    Path((live, sale)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let (live, host) = hosted(&app, &live, &headers, Area::Sales).await?;
    Ok(Json(ask(&live, host, "sale.close", fields([("sale_id", sale)])).await?))
}

async fn hold(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
    Body(new): Body<NewHold>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let live = sold_for(&app, &live, &headers).await?;
    // Where the buyer is, the merchant's backend knows and we do not.
    let taker = Taker { live: live.id().clone(), buyer: new.buyer_id.clone(), device: None, address: None };
    app.risk.admit(&taker, json!(new.request)).await.map_err(|failure| refused(&json!(failure)))?;
    let buyer = buyer(&live, new.buyer_id, &new.buyer_name);
    Ok((StatusCode::CREATED, Json(ask(&live, buyer, "hold", new.request).await?)))
}

async fn cancel(
    State(app): State<App>,
    Path((live, hold)): Path<(String, String)>,
    headers: HeaderMap,
    Body(of): Body<OfBuyer>,
) -> Result<Json<Value>, Problem> {
    of_hold(&app, &live, hold, &headers, of, "hold.cancel").await
}

async fn checkout(
    State(app): State<App>,
    Path((live, hold)): Path<(String, String)>,
    headers: HeaderMap,
    Body(of): Body<OfBuyer>,
) -> Result<Json<Value>, Problem> {
    of_hold(&app, &live, hold, &headers, of, "checkout").await
}

async fn of_hold(
    app: &App,
    live: &str,
    hold: String,
    headers: &HeaderMap,
    of: OfBuyer,
    kind: &str,
) -> Result<Json<Value>, Problem> {
    let live = sold_for(app, live, headers).await?;
    let buyer = buyer(&live, of.buyer_id, &of.buyer_name);
    let mut request = of.request;
    request.insert("hold_id".to_owned(), json!(hold));
    Ok(Json(ask(&live, buyer, kind, request).await?))
}

/// The live for its host, or for its merchant's backend.
pub(super) async fn hosted(
    app: &App,
    live: &str,
    headers: &HeaderMap,
    area: Area,
) -> Result<(Live, Viewer), Problem> {
    let live: LiveId = path_id("live", live)?;
    let (live, who) = app.in_live(headers, &live, Role::Host, area.write()).await?;
    let host = match who {
        Who::Token(viewer) => viewer,
        Who::Key(key) => visitor(&live, path_id("key", key.id.as_str())?, key.name.clone(), Role::Host),
        Who::Backend(_) => visitor(&live, path_id("sub", "backend")?, String::new(), Role::Host),
    };
    Ok((live, host))
}

/// The live for its merchant's backend, which acts for a buyer.
async fn sold_for(app: &App, live: &str, headers: &HeaderMap) -> Result<Live, Problem> {
    const NEEDED: Permission = Area::Holds.write();
    let live: LiveId = path_id("live", live)?;
    let who = app.backend(headers, NEEDED).await?;
    let live = app.lives.get(&live).await?;
    match live.merchant() == who.merchant() {
        true => Ok(live),
        false => Err(crate::auth::AuthError::WrongLive.into()),
    }
}

fn buyer(live: &Live, id: BuyerId, name: &str) -> Viewer {
    visitor(live, id, clean_name(name).unwrap_or_else(|| "Guest".to_owned()), Role::Viewer)
}

fn visitor(live: &Live, id: BuyerId, name: String, role: Role) -> Viewer {
    Viewer {
        id,
        name,
        role,
        expires_at: UnixMillis(u64::MAX),
        tier: None,
        follower: false,
        merchant: live.merchant().clone(),
    }
}

fn fields<const N: usize>(fields: [(&str, String); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

/// Asks as the channel's client would, and gives the reply's result.
pub(super) async fn ask(
    live: &Live,
    viewer: Viewer,
    kind: &str,
    mut request: Map<String, Value>,
) -> Result<Value, Problem> {
    request.insert("id".to_owned(), json!(1));
    request.insert("type".to_owned(), json!(kind));
    let (_, request) =
        parse(&Value::Object(request).to_string()).map_err(|error| bad_request(error.to_string()))?;
    let pending = || unavailable("the outcome is not known yet: ask again with the same key");
    let line = live.ask_once(viewer, request).await.ok_or_else(pending)?;
    let mut answer: Value = serde_json::from_slice(line.as_ref()).map_err(|_| pending())?;
    if answer["type"] == "reply" {
        return Ok(answer["result"].take());
    }
    Err(refused(&answer))
}

/// The channel's failures in HTTP's words.
fn refused(answer: &Value) -> Problem {
    const CODES: &[(&str, StatusCode)] = &[
        ("bad_request", StatusCode::BAD_REQUEST),
        ("unauthorized", StatusCode::UNAUTHORIZED),
        ("forbidden", StatusCode::FORBIDDEN),
        ("not_found", StatusCode::NOT_FOUND),
        ("unknown_hold", StatusCode::NOT_FOUND),
        ("rate_limited", StatusCode::TOO_MANY_REQUESTS),
        ("sale_not_open", StatusCode::CONFLICT),
        ("sale_closed", StatusCode::CONFLICT),
        ("sold_out", StatusCode::CONFLICT),
        ("not_enough", StatusCode::CONFLICT),
        ("buyer_limit", StatusCode::CONFLICT),
        ("coupon_invalid", StatusCode::CONFLICT),
        ("coupon_used_up", StatusCode::CONFLICT),
        ("key_reused", StatusCode::CONFLICT),
        ("hold_over", StatusCode::CONFLICT),
        ("wrong_state", StatusCode::CONFLICT),
        ("pending", StatusCode::SERVICE_UNAVAILABLE),
        ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
    ];
    let code = answer["code"].as_str().unwrap_or_default();
    let known = CODES.iter().find(|(known, _)| *known == code);
    let (code, status) = known.copied().unwrap_or(("conflict", StatusCode::CONFLICT));
    let problem = Problem::new(status, code, answer["message"].as_str().unwrap_or("it was refused"));
    match answer["retry_after_ms"].as_u64() {
        Some(wait) => problem.retry_after(std::time::Duration::from_millis(wait)),
        None => problem,
    }
}
