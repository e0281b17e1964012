//! Orders of a merchant over all lives.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::HeaderMap,
    routing::get,
};
use haul_commerce::{
    Dispute, Order,
    keys::Area,
    ledger::Standing,
    orders::{OrderEvent, OrderFilter},
};
use haul_model::{BuyerId, LiveId, Money, OrderId, PaymentId, UnixMillis};
use haul_wire::OrderView;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{Page, next, place, refunds::RefundDocument};
use crate::{
    app::{App, path_id},
    openapi::{Operation, Who as For, json},
    problem::Problem,
    rest::{Params, bad_request},
};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/v1/orders", get(list)).route("/v1/orders/{order}", get(one))
}

pub(super) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    vec![
        Operation {
            path: "/v1/orders",
            method: "get",
            who: For::Merchant,
            summary: "Orders, newest first (scope orders:read)",
            body: None,
            answer: ("200", json::<OrderPage>(generator)),
            refusals: &["400", "401", "403", "503"],
            query: Vec::new(),
        }
        .query::<Wanted>(generator)
        .query::<Page>(generator),
        Operation {
            path: "/v1/orders/{order}",
            method: "get",
            who: For::Merchant,
            summary: "An order with its refunds and what happened to it (scope orders:read)",
            body: None,
            answer: ("200", json::<WholeOrder>(generator)),
            refusals: &["400", "401", "403", "404", "503"],
            query: Vec::new(),
        },
    ]
}

/// A page of orders.
#[derive(Debug, Serialize, JsonSchema)]
struct OrderPage {
    orders: Vec<OrderDocument>,
    /// For `?after=`; absent on the last page.
    next: Option<String>,
}

/// An order, as its merchant sees it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct OrderDocument {
    #[serde(flatten)]
    order: OrderView,
    live_id: LiveId,
    buyer_id: BuyerId,
    payment_id: PaymentId,
    /// At which provider it is paid.
    provider: String,
    /// What was paid for it.
    paid: Option<Money>,
    dispute: Option<DisputeDocument>,
    updated_at: UnixMillis,
}

/// Whose the money is that the buyer disputes.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum DisputeDocument {
    /// Not decided yet.
    Open,
    /// The merchant's.
    Won,
    /// The buyer's: it is gone.
    Lost,
}

/// An order with all that belongs to it.
#[derive(Debug, Serialize, JsonSchema)]
struct WholeOrder {
    #[serde(flatten)]
    order: OrderDocument,
    /// Oldest first.
    refunds: Vec<RefundDocument>,
    /// What happened to it, oldest first.
    events: Vec<EventDocument>,
}

/// Something that happened to an order.
#[derive(Debug, Serialize, JsonSchema)]
struct EventDocument {
    number: u64,
    /// A state that it came to, or `refund_due`, `partly_refunded`, `disputed` and the like.
    state: String,
    /// The refund that it is about.
    refund_id: Option<String>,
    at: UnixMillis,
}

pub(super) fn document(order: &Order) -> OrderDocument {
    OrderDocument {
        order: haul_live::order_view(order),
        live_id: order.order.live.clone(),
        buyer_id: order.order.buyer.clone(),
        payment_id: order.order.payment.clone(),
        provider: order.order.provider.clone(),
        paid: order.paid.as_ref().map(|paid| paid.amount),
        dispute: order.dispute.map(|dispute| match dispute {
            Dispute::Open => DisputeDocument::Open,
            Dispute::Won => DisputeDocument::Won,
            Dispute::Lost => DisputeDocument::Lost,
        }),
        updated_at: order.updated_at,
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    /// Of this live only.
    live: Option<String>,
    /// Of this buyer only.
    buyer: Option<String>,
    /// `paying`, `sold`, `expired`, `refund_due`, `partly_refunded` or `refunded`: as the orders say it.
    state: Option<String>,
    /// Made then or later.
    since: Option<UnixMillis>,
}

async fn list(
    State(app): State<App>,
    Params(wanted): Params<Wanted>,
    Params(page): Params<Page>,
    headers: HeaderMap,
) -> Result<Json<OrderPage>, Problem> {
    let who = app.backend(&headers, Area::Orders.read()).await?;
    let limit = page.limit()?;
    let filter = OrderFilter {
        live: wanted.live.as_deref().map(|live| path_id("live", live)).transpose()?,
        buyer: wanted.buyer.as_deref().map(|buyer| path_id("buyer", buyer)).transpose()?,
        standing: wanted.state.as_deref().map(standing).transpose()?,
        since: wanted.since,
        after: page.place::<OrderId>()?,
    };
    let orders = app.backoffice.list_orders(who.merchant(), &filter, limit).await?;
    let next = next(&orders, limit, |order| place(order.order.created_at, &order.order.id));
    Ok(Json(OrderPage { orders: orders.iter().map(document).collect(), next }))
}

async fn one(
    State(app): State<App>,
    Path(order): Path<String>,
    headers: HeaderMap,
) -> Result<Json<WholeOrder>, Problem> {
    let who = app.backend(&headers, Area::Orders.read()).await?;
    let order = app.order_of(&order, &who).await?;
    let refunds = app.backoffice.refunds_of_order(&order.order.id).await?;
    let events = app.backoffice.order_events(&order.order.id).await?;
    let event = |event: OrderEvent| EventDocument {
        number: event.number,
        state: event.state,
        refund_id: event.detail,
        at: event.at,
    };
    Ok(Json(WholeOrder {
        order: document(&order),
        refunds: refunds.into_iter().map(RefundDocument::from).collect(),
        events: events.into_iter().map(event).collect(),
    }))
}

impl App {
    /// An order of the asker's own. Another merchant's is as unknown as one that there is not.
    pub(super) async fn order_of(&self, order: &str, who: &super::Who) -> Result<Order, Problem> {
        let id: OrderId = path_id("order", order)?;
        let found = self.lives.services().ledger.order(&id).await?;
        let own = found.filter(|order| order.order.merchant == *who.merchant());
        own.ok_or_else(|| haul_commerce::LedgerError::NotFound(format!("the order {id}")).into())
    }
}

fn standing(text: &str) -> Result<Standing, Problem> {
    let known = Standing::ALL.into_iter().find(|standing| standing.name() == text);
    known.ok_or_else(|| {
        bad_request(format!("state: expected one of {}", Standing::ALL.map(Standing::name).join(", ")))
    })
}
