//! Sales and holds over REST: the channel's requests, asked once by a merchant's systems.

use std::{net::IpAddr, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{delete, get, post},
};
use haul_commerce::{
    attribution::Touch,
    keys::{Area, Permission, hash},
};
use haul_live::Live;
use haul_model::{BuyerId, Charge, LiveId, Role, SaleId, TierId, UnixMillis, Viewer};
use haul_wire::{HoldView, MAX_KEY_BYTES, OrderView, Request, SaleSchedule, SaleView, parse};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{IDEMPOTENCY_KEY, Who, missing};
use crate::{
    app::{App, path_id, unavailable},
    auth::clean_name,
    guard::Taker,
    openapi::{Operation, Who as For, json as body, refused_with},
    problem::{PENDING, Problem},
    rest::{Body, Params, bad_request},
};

/// The longest name of a device.
const MAX_DEVICE_BYTES: usize = 128;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/lives/{live}/sales", post(create))
        .route("/v1/lives/{live}/sales/{sale}", get(one).patch(reschedule))
        .route("/v1/lives/{live}/sales/{sale}/open", post(open))
        .route("/v1/lives/{live}/sales/{sale}/pause", post(pause))
        .route("/v1/lives/{live}/sales/{sale}/resume", post(resume))
        .route("/v1/lives/{live}/sales/{sale}/stock", post(add_stock))
        .route("/v1/lives/{live}/sales/{sale}/close", post(close))
        .route("/v1/lives/{live}/holds", post(hold).get(holds))
        .route("/v1/lives/{live}/line", post(wait))
        .route("/v1/lives/{live}/holds/{hold}", delete(cancel))
        .route("/v1/lives/{live}/holds/{hold}/checkout", post(checkout))
}

pub(super) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    const REFUSALS: &[&str] = &["400", "401", "403", "404", "409", "422", "429", "503"];
    let op = refused_with(REFUSALS);
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
            "get",
            "/v1/lives/{live}/sales/{sale}",
            For::Watcher,
            "A sale: scheduled, open, or closed a while ago (with an API key: scope sales:read)",
            None,
            ("200", body::<Sale>(generator)),
        ),
        op(
            "patch",
            "/v1/lives/{live}/sales/{sale}",
            For::Host,
            "Change when a sale opens, while it has not, and when it closes (with an API key: scope sales:write)",
            body::<Reschedule>(generator),
            ("200", body::<Sale>(generator)),
        ),
        op(
            "post",
            "/v1/lives/{live}/sales/{sale}/pause",
            For::Host,
            "Let nothing new be held for the moment (with an API key: scope sales:write)",
            None,
            ("200", body::<Sale>(generator)),
        ),
        op(
            "post",
            "/v1/lives/{live}/sales/{sale}/resume",
            For::Host,
            "Go on with a paused sale (with an API key: scope sales:write)",
            None,
            ("200", body::<Sale>(generator)),
        ),
        op(
            "post",
            "/v1/lives/{live}/sales/{sale}/stock",
            For::Host,
            "Offer more units; the same `key` adds them once (with an API key: scope sales:write)",
            body::<MoreStock>(generator),
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
            "post",
            "/v1/lives/{live}/line",
            For::Merchant,
            "Set units aside for a buyer, or put them in line for units that are set aside for others (scope holds:write)",
            body::<NewHold>(generator),
            ("201", body::<Hold>(generator)),
        ),
        op(
            "get",
            "/v1/lives/{live}/holds",
            For::Merchant,
            "What a buyer holds, waits for or has bought in the sales that go on (scope holds:read)",
            None,
            ("200", body::<Holds>(generator)),
        )
        .query::<WhoseHolds>(generator),
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
            body::<NewCheckout>(generator),
            ("200", body::<Checkout>(generator)),
        ),
    ]
}

/// What is answered about a sale.
#[derive(Debug, Serialize, JsonSchema)]
struct Sale {
    sale: SaleView,
}

/// When a sale is to open and close; what is absent stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only described: the channel's request has the same fields, and reads them")]
struct Reschedule {
    /// When it opens, by the server's clock.
    opens_at: Option<UnixMillis>,
    /// When it closes; where absent, it is open for as long as before.
    closes_at: Option<UnixMillis>,
}

/// Units to be offered besides.
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only described, as above")]
struct MoreStock {
    /// Of which line; 0 where absent.
    #[serde(default)]
    line: u8,
    /// How many more.
    units: u32,
    /// Chosen by the asker, the same for a retry: at most 64 bytes.
    key: String,
}

/// Whose holds are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
struct WhoseHolds {
    /// The buyer's.
    buyer: BuyerId,
}

/// A buyer's holds.
#[derive(Debug, Serialize, JsonSchema)]
struct Holds {
    holds: Vec<HoldView>,
}

/// Units to be set aside.
#[derive(Debug, Deserialize, JsonSchema)]
struct NewHold {
    /// For whom.
    buyer_id: BuyerId,
    /// Their name, for the host.
    #[serde(default)]
    buyer_name: String,
    /// The tier of the shop's that they have: who may come earlier is let in by it.
    tier: Option<TierId>,
    /// The device that the shop knows them by, at most 128 bytes; only for the limit.
    device: Option<String>,
    /// The address that they ask from; only for the limit.
    address: Option<IpAddr>,
    /// Of which sale, how many, under which key: as the channel's `hold` or `wait` has it.
    #[serde(flatten)]
    request: Map<String, Value>,
}

/// A hold to be paid.
#[derive(Debug, Deserialize, JsonSchema)]
struct NewCheckout {
    /// Whose hold it is.
    buyer_id: BuyerId,
    /// Their name, for the host.
    #[serde(default)]
    buyer_name: String,
    /// What of the total is shipping and tax; at most 20, together no more than the total. Replaces what was said before.
    #[serde(default)]
    charges: Vec<Charge>,
    /// Of which sale, with which `coupon`, `ref` and `contact`: as the channel's `checkout` has it.
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
    Body(mut request): Body<Map<String, Value>>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let (live, host) = hosted(&app, &live, &headers, Area::Sales).await?;
    // Where no answer was kept, as the server ended or the stock store was away, the key still names the same sale.
    if let Some(key) = headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()) {
        request.entry("key").or_insert_with(|| json!(short(key)));
    }
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

async fn pause(
    State(app): State<App>,
    Path((live, sale)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    change(&app, &live, sale, &headers, "sale.pause", Map::new()).await
}

async fn resume(
    State(app): State<App>,
    Path((live, sale)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    change(&app, &live, sale, &headers, "sale.resume", Map::new()).await
}

async fn reschedule(
    State(app): State<App>,
    Path((live, sale)): Path<(String, String)>,
    headers: HeaderMap,
    Body(times): Body<Map<String, Value>>,
) -> Result<Json<Value>, Problem> {
    change(&app, &live, sale, &headers, "sale.reschedule", times).await
}

async fn add_stock(
    State(app): State<App>,
    Path((live, sale)): Path<(String, String)>,
    headers: HeaderMap,
    Body(more): Body<Map<String, Value>>,
) -> Result<Json<Value>, Problem> {
    change(&app, &live, sale, &headers, "sale.add_stock", more).await
}

async fn change(
    app: &App,
    live: &str,
    sale: String,
    headers: &HeaderMap,
    kind: &str,
    mut request: Map<String, Value>,
) -> Result<Json<Value>, Problem> {
    let (live, host) = hosted(app, live, headers, Area::Sales).await?;
    request.insert("sale_id".to_owned(), json!(sale));
    Ok(Json(ask(&live, host, kind, request).await?))
}

async fn one(
    State(app): State<App>,
    Path((live, sale)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Sale>, Problem> {
    let sale: SaleId = path_id("sale", &sale)?;
    let (live, _) = app.watched(&headers, &path_id("live", &live)?, Area::Sales.read()).await?;
    let look = live.look().await.ok_or_else(|| unavailable("the live is restarting"))?;
    let found = look.sales.into_iter().find(|known| known.id == sale);
    Ok(Json(Sale {
        sale: found.ok_or_else(|| missing("a sale of that id that goes on, or ended a while ago"))?,
    }))
}

async fn holds(
    State(app): State<App>,
    Path(live): Path<String>,
    Params(whose): Params<WhoseHolds>,
    headers: HeaderMap,
) -> Result<Json<Holds>, Problem> {
    let live = sold_for(&app, &live, &headers, Area::Holds.read()).await?;
    let holds = live.holds_of(&whose.buyer).await;
    Ok(Json(Holds { holds: holds.ok_or_else(|| unavailable("the stock's keeper does not answer"))? }))
}

async fn hold(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
    Body(new): Body<NewHold>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    take(&app, &live, &headers, new, "hold").await
}

async fn wait(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
    Body(new): Body<NewHold>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    take(&app, &live, &headers, new, "wait").await
}

/// Where the buyer is, the merchant's backend knows: what it does not say is not looked at.
async fn take(
    app: &App,
    live: &str,
    headers: &HeaderMap,
    new: NewHold,
    kind: &str,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let live = sold_for(app, live, headers, Area::Holds.write()).await?;
    let NewHold { buyer_id, buyer_name, tier, device, address, request } = new;
    if device.as_ref().is_some_and(|device| device.len() > MAX_DEVICE_BYTES) {
        return Err(bad_request(format!("device: expected at most {MAX_DEVICE_BYTES} bytes")));
    }
    let taker = Taker { live: live.id().clone(), buyer: buyer_id.clone(), device, address };
    app.risk.admit(&taker, json!(request)).await.map_err(|failure| refused(&json!(failure)))?;
    let tier = tier.map(|tier| tier.as_str().into());
    let buyer = Viewer { tier, ..buyer(&live, buyer_id, &buyer_name) };
    Ok((StatusCode::CREATED, Json(ask(&live, buyer, kind, request).await?)))
}

async fn cancel(
    State(app): State<App>,
    Path((live, hold)): Path<(String, String)>,
    headers: HeaderMap,
    Body(of): Body<OfBuyer>,
) -> Result<Json<Value>, Problem> {
    of_hold(&app, &live, hold, &headers, of, "hold.cancel").await
}

/// As a buyer's own checkout; and the backend may say what of the total is shipping and tax.
async fn checkout(
    State(app): State<App>,
    Path((live, hold)): Path<(String, String)>,
    headers: HeaderMap,
    Body(new): Body<NewCheckout>,
) -> Result<Json<Value>, Problem> {
    let NewCheckout { buyer_id, buyer_name, charges, mut request } = new;
    let live = sold_for(&app, &live, &headers, Area::Holds.write()).await?;
    if let Some(referrer) = request.get("ref").and_then(Value::as_str) {
        let hold = path_id("hold", &hold)?;
        let touch = Touch::of_order(buyer_id.clone(), live.id().clone(), hold, haul_live::now().wall);
        app.touches.order(live.merchant(), referrer, touch).await?;
    }
    request.insert("hold_id".to_owned(), json!(hold));
    let mut request = parsed("checkout", request)?;
    if let Request::Checkout { charges: said, .. } = &mut request {
        *said = charges;
    }
    Ok(Json(answered(&live, buyer(&live, buyer_id, &buyer_name), request).await?))
}

async fn of_hold(
    app: &App,
    live: &str,
    hold: String,
    headers: &HeaderMap,
    of: OfBuyer,
    kind: &str,
) -> Result<Json<Value>, Problem> {
    let live = sold_for(app, live, headers, Area::Holds.write()).await?;
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
async fn sold_for(app: &App, live: &str, headers: &HeaderMap, needed: Permission) -> Result<Live, Problem> {
    let live: LiveId = path_id("live", live)?;
    let who = app.backend(headers, needed).await?;
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

/// An idempotency key as short as the channel's.
fn short(key: &str) -> String {
    match key.len() <= MAX_KEY_BYTES {
        true => key.to_owned(),
        false => hash(&[key.as_bytes()]),
    }
}

/// Asks as the channel's client would, and gives the reply's result.
pub(super) async fn ask(
    live: &Live,
    viewer: Viewer,
    kind: &str,
    request: Map<String, Value>,
) -> Result<Value, Problem> {
    answered(live, viewer, parsed(kind, request)?).await
}

fn parsed(kind: &str, mut request: Map<String, Value>) -> Result<Request, Problem> {
    request.insert("id".to_owned(), json!(1));
    request.insert("type".to_owned(), json!(kind));
    let (_, request) =
        parse(&Value::Object(request).to_string()).map_err(|error| bad_request(error.to_string()))?;
    Ok(request)
}

pub(crate) async fn answered(live: &Live, viewer: Viewer, request: Request) -> Result<Value, Problem> {
    let pending = || {
        let detail = "the outcome is not known yet: ask again with the same key";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, PENDING, detail).retry_after(Duration::from_secs(1))
    };
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
        ("contact_invalid", StatusCode::BAD_REQUEST),
        ("unauthorized", StatusCode::UNAUTHORIZED),
        ("forbidden", StatusCode::FORBIDDEN),
        ("not_found", StatusCode::NOT_FOUND),
        ("unknown_hold", StatusCode::NOT_FOUND),
        ("rate_limited", StatusCode::TOO_MANY_REQUESTS),
        ("sale_not_open", StatusCode::CONFLICT),
        ("sale_paused", StatusCode::CONFLICT),
        ("no_line", StatusCode::CONFLICT),
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
        ("unknown_type", StatusCode::BAD_REQUEST),
        ("muted", StatusCode::FORBIDDEN),
        ("banned", StatusCode::FORBIDDEN),
        ("rejected", StatusCode::FORBIDDEN),
        ("internal", StatusCode::INTERNAL_SERVER_ERROR),
    ];
    let code = answer["code"].as_str().unwrap_or_default();
    let known = CODES.iter().find(|(known, _)| *known == code);
    let (code, status) = known.copied().unwrap_or(("conflict", StatusCode::CONFLICT));
    let problem = Problem {
        why: answer["why"].as_str().map(str::to_owned),
        standing: answer.get("standing").cloned().map(Box::new),
        ..Problem::new(status, code, answer["message"].as_str().unwrap_or("it was refused"))
    };
    match answer["retry_after_ms"].as_u64() {
        Some(wait) => problem.retry_after(Duration::from_millis(wait)),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_the_channel_has_a_status() {
        let schema = json!(schemars::schema_for!(haul_wire::Code));
        let codes: Vec<&str> =
            schema["oneOf"].as_array().unwrap().iter().map(|code| code["const"].as_str().unwrap()).collect();
        assert!(codes.len() > 20, "{schema}");
        for code in codes {
            assert_eq!(refused(&json!({ "code": code })).code, code);
        }
        let defect = refused(&json!({ "code": "internal", "message": "a defect" }));
        assert_eq!(defect.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
