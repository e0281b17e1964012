//! Refunds: asked for, looked at, and asked for again where the provider refused.

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use haul_commerce::{
    Line, Order, Refund, RefundFilter, RefundOrigin, RefundState, Units,
    keys::{Area, Asked, Permission},
    parts::LineAsk,
    refund::MAX_REASON_CHARS,
    units::MAX_LINES,
};
use haul_live::RefundAsk;
use haul_model::{Money, OrderId, RefundId, Role, UnixMillis};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{
    Page, Who,
    idempotency::{new_ids, stands},
    next, place,
};
use crate::{
    app::{App, path_id},
    openapi::{Operation, Who as For, json},
    problem::Problem,
    rest::{Body, Params, bad_request},
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/orders/{order}/refunds", post(create).get(list))
        .route("/v1/refunds", get(all))
        .route("/v1/refunds/{refund}", get(one))
        .route("/v1/refunds/{refund}/retry", post(retry))
}

pub(super) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    vec![
        Operation {
            path: "/v1/orders/{order}/refunds",
            method: "post",
            who: For::Merchant,
            summary: "Send money of an order back, a part or all that is left (scope refunds:write, or the host of its live)",
            body: json::<AskRefund>(generator),
            answer: ("202", json::<RefundDocument>(generator)),
            refusals: &["400", "401", "403", "404", "409", "422", "503"],
            query: Vec::new(),
        },
        Operation {
            path: "/v1/orders/{order}/refunds",
            method: "get",
            who: For::Merchant,
            summary: "An order's refunds, oldest first (scope refunds:read, or the host of its live)",
            body: None,
            answer: ("200", json::<RefundList>(generator)),
            refusals: &["400", "401", "403", "404", "503"],
            query: Vec::new(),
        },
        Operation {
            path: "/v1/refunds",
            method: "get",
            who: For::Merchant,
            summary: "Refunds of all orders, newest first (scope refunds:read)",
            body: None,
            answer: ("200", json::<RefundPage>(generator)),
            refusals: &["400", "401", "403", "503"],
            query: Vec::new(),
        }
        .query::<Wanted>(generator)
        .query::<Page>(generator),
        Operation {
            path: "/v1/refunds/{refund}",
            method: "get",
            who: For::Merchant,
            summary: "A refund (scope refunds:read)",
            body: None,
            answer: ("200", json::<RefundDocument>(generator)),
            refusals: &["400", "401", "403", "404", "503"],
            query: Vec::new(),
        },
        Operation {
            path: "/v1/refunds/{refund}/retry",
            method: "post",
            who: For::Merchant,
            summary: "Ask the provider again for a refund that it refused (scope refunds:write)",
            body: None,
            answer: ("202", json::<RefundDocument>(generator)),
            refusals: &["400", "401", "403", "404", "409", "503"],
            query: Vec::new(),
        },
    ]
}

/// What is to be sent back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AskRefund {
    /// In the currency's minor unit; all that is left where absent.
    amount_minor: Option<i64>,
    /// At most 300 characters, for the provider and the records.
    #[serde(default)]
    reason: String,
    /// Whether units of the order are on the shelf again, too: those of `lines`, or all that have not come back.
    #[serde(default)]
    restock: bool,
    /// Which lines it is of; where absent, all in proportion to what was paid for them.
    #[schemars(length(min = 1, max = 50))]
    lines: Option<Vec<AskLine>>,
}

/// A line that money is sent back for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AskLine {
    /// Which line of the order.
    #[serde(default)]
    line: Line,
    /// So many units of it; all where absent.
    quantity: Option<u32>,
    /// In the currency's minor unit; absent: what was paid for those units, or their part of `amount_minor`.
    amount_minor: Option<i64>,
}

/// An order's refunds.
#[derive(Debug, Serialize, JsonSchema)]
struct RefundList {
    refunds: Vec<RefundDocument>,
}

/// A page of refunds.
#[derive(Debug, Serialize, JsonSchema)]
struct RefundPage {
    refunds: Vec<RefundDocument>,
    /// For `?after=`; absent on the last page.
    next: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    /// `due`, `asked`, `done` or `failed`.
    state: Option<RefundStateDocument>,
    /// Of this order only.
    order: Option<String>,
    /// Made then or later.
    since: Option<UnixMillis>,
}

/// A refund.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RefundDocument {
    id: RefundId,
    order_id: OrderId,
    amount: Money,
    /// How much of it is of which line: as it was asked for, and once it is done, as it went. Empty while it is of all in
    /// proportion.
    lines: Vec<PartDocument>,
    state: RefundStateDocument,
    origin: RefundOriginDocument,
    /// False where it is money that came on top of what the order was paid with.
    of_order: bool,
    reason: String,
    /// How often the provider was asked.
    attempts: u32,
    /// When it is asked next, while the refund is under way.
    next_attempt_at: Option<UnixMillis>,
    /// The provider's own name of it.
    reference: Option<String>,
    /// Why it failed last.
    error: Option<String>,
    created_at: UnixMillis,
    updated_at: UnixMillis,
}

/// How much of a refund is of a line.
#[derive(Debug, Serialize, JsonSchema)]
struct PartDocument {
    line: Line,
    amount: Money,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum RefundStateDocument {
    /// To be asked of the provider.
    Due,
    /// The provider has taken it, and will say when the money has gone.
    Asked,
    /// The money has gone back.
    Done,
    /// The provider refuses.
    Failed,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum RefundOriginDocument {
    /// Money that bought nothing.
    Automatic,
    /// Asked for by the merchant.
    Merchant,
    /// Made at the provider.
    Provider,
}

impl From<Refund> for RefundDocument {
    fn from(refund: Refund) -> Self {
        let Refund { refund: new, state, attempts, next_attempt_at, reference, error, updated_at, .. } =
            refund;
        let under_way = matches!(state, RefundState::Due | RefundState::Asked);
        let part = |(line, amount_minor)| PartDocument { line, amount: Money { amount_minor, ..new.amount } };
        Self {
            lines: new.parts.iter().map(part).collect(),
            id: new.id,
            order_id: new.order,
            amount: new.amount,
            state: match state {
                RefundState::Due => RefundStateDocument::Due,
                RefundState::Asked => RefundStateDocument::Asked,
                RefundState::Done => RefundStateDocument::Done,
                RefundState::Failed => RefundStateDocument::Failed,
            },
            origin: match new.origin {
                RefundOrigin::Automatic => RefundOriginDocument::Automatic,
                RefundOrigin::Merchant => RefundOriginDocument::Merchant,
                RefundOrigin::Provider => RefundOriginDocument::Provider,
            },
            of_order: new.of_order,
            reason: new.reason,
            attempts,
            next_attempt_at: under_way.then_some(next_attempt_at),
            reference,
            error,
            created_at: new.at,
            updated_at,
        }
    }
}

async fn create(
    State(app): State<App>,
    Path(order): Path<String>,
    asked: Option<Extension<Asked>>,
    headers: HeaderMap,
    Body(ask): Body<AskRefund>,
) -> Result<(StatusCode, Json<RefundDocument>), Problem> {
    let (order, who) = order_for(&app, &order, &headers, Area::Refunds.write()).await?;
    if ask.amount_minor.is_some_and(|amount| amount <= 0) {
        return Err(bad_request("amount_minor: expected 1 or more"));
    }
    let reason: String = ask.reason.trim().chars().filter(|c| !c.is_control()).collect();
    if reason.chars().count() > MAX_REASON_CHARS {
        return Err(bad_request(format!("reason: expected at most {MAX_REASON_CHARS} characters")));
    }
    // None that are named is not all: who builds an empty list does not mean the whole order.
    if ask.lines.as_ref().is_some_and(|lines| !(1..=MAX_LINES).contains(&lines.len())) {
        return Err(bad_request(format!(
            "lines: expected 1 to {MAX_LINES}, or no `lines` for all of the order"
        )));
    }
    let asked_lines = ask.lines.unwrap_or_default();
    if asked_lines.iter().any(|line| line.amount_minor.is_some_and(|amount| amount <= 0)) {
        return Err(bad_request("lines: expected amounts of 1 or more"));
    }
    // What comes back of a line where it is not said: all of it that was not given back before.
    let kept = |line: Line| {
        order.order.lines.iter().find(|known| known.line == line).map_or(1, |known| order.kept(known).max(1))
    };
    let units = match &asked_lines[..] {
        [] => None,
        lines => {
            let units = lines.iter().map(|ask| (ask.line, ask.quantity.unwrap_or_else(|| kept(ask.line))));
            Some(Units::new(units).map_err(|error| bad_request(format!("lines: {error}")))?)
        }
    };
    let lines = asked_lines.iter().map(|ask| LineAsk {
        line: ask.line,
        quantity: ask.quantity,
        amount_minor: ask.amount_minor,
    });
    // The same request with its key is the same refund, also where its answer was not kept.
    let mut keys = new_ids(asked, |_, bits| format!("{bits:032x}"));
    let key = loop {
        let key = keys.next().expect("keys don't end");
        let id = RefundAsk::id(who.merchant(), &order.order.id, &key);
        if app.backoffice.refund(&id).await?.is_none_or(|known| stands(known.refund.at)) {
            break key;
        }
    };
    let currency = order.order.total.currency;
    let ask = RefundAsk {
        merchant: who.merchant().clone(),
        order: order.order.id,
        amount: ask.amount_minor.map(|amount_minor| Money { amount_minor, currency }),
        lines: lines.collect(),
        reason,
        key,
        restock: ask.restock.then_some(units),
    };
    let (refund, _) = app.lives.ask_refund(ask).await?;
    Ok((StatusCode::ACCEPTED, Json(refund.into())))
}

async fn list(
    State(app): State<App>,
    Path(order): Path<String>,
    headers: HeaderMap,
) -> Result<Json<RefundList>, Problem> {
    let (order, _) = order_for(&app, &order, &headers, Area::Refunds.read()).await?;
    let refunds = app.backoffice.refunds_of_order(&order.order.id).await?;
    Ok(Json(RefundList { refunds: refunds.into_iter().map(RefundDocument::from).collect() }))
}

async fn all(
    State(app): State<App>,
    Params(wanted): Params<Wanted>,
    Params(page): Params<Page>,
    headers: HeaderMap,
) -> Result<Json<RefundPage>, Problem> {
    let who = app.backend(&headers, Area::Refunds.read()).await?;
    let limit = page.limit()?;
    let filter = RefundFilter {
        state: wanted.state.map(|state| match state {
            RefundStateDocument::Due => RefundState::Due,
            RefundStateDocument::Asked => RefundState::Asked,
            RefundStateDocument::Done => RefundState::Done,
            RefundStateDocument::Failed => RefundState::Failed,
        }),
        order: wanted.order.as_deref().map(|order| path_id("order", order)).transpose()?,
        since: wanted.since,
        after: page.place::<RefundId>()?,
    };
    let refunds = app.backoffice.list_refunds(who.merchant(), &filter, limit).await?;
    let next = next(&refunds, limit, |refund| place(refund.refund.at, &refund.refund.id));
    Ok(Json(RefundPage { refunds: refunds.into_iter().map(RefundDocument::from).collect(), next }))
}

/// An order for who may refund it: the merchant's backend, or the host of the live that it was made in.
async fn order_for(
    app: &App,
    order: &str,
    headers: &HeaderMap,
    needed: Permission,
) -> Result<(Order, Who), Problem> {
    let refused = match app.backend(headers, needed).await {
        Ok(who) => return Ok((app.order_of(order, &who).await?, who)),
        Err(refused) => refused,
    };
    // What a key may do is in its scopes.
    if app.api_key(headers).await?.is_some() {
        return Err(refused);
    }
    let id: OrderId = path_id("order", order)?;
    let Some(found) = app.lives.services().ledger.order(&id).await? else { return Err(refused) };
    let (_, viewer) = app.as_role(headers, &found.order.live, Role::Host).await?;
    Ok((found, Who::Token(viewer)))
}

async fn one(
    State(app): State<App>,
    Path(refund): Path<String>,
    headers: HeaderMap,
) -> Result<Json<RefundDocument>, Problem> {
    let who = app.backend(&headers, Area::Refunds.read()).await?;
    Ok(Json(own(&app, &refund, &who).await?.into()))
}

async fn retry(
    State(app): State<App>,
    Path(refund): Path<String>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<RefundDocument>), Problem> {
    let who = app.backend(&headers, Area::Refunds.write()).await?;
    let refund = own(&app, &refund, &who).await?;
    let again = app.lives.ask_refund_again(&refund.refund.id).await?;
    Ok((StatusCode::ACCEPTED, Json(again.into())))
}

async fn own(app: &App, refund: &str, who: &Who) -> Result<Refund, Problem> {
    let id: RefundId = path_id("refund", refund)?;
    let found = app.backoffice.refund(&id).await?.filter(|refund| refund.merchant == *who.merchant());
    found.ok_or_else(|| haul_commerce::LedgerError::NotFound(format!("the refund {id}")).into())
}
