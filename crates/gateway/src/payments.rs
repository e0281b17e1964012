//! Where payment providers call, and the sandbox's own page.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use haul_commerce::{Order, PaymentError, PaymentEventKind};
use haul_live::CallbackError;
use haul_model::{LiveId, PaymentId};
use haul_payments::Sandbox;
use haul_wire::OrderView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::{App, path_id, unavailable},
    problem::Problem,
    rest::Body,
};

/// The largest callback read.
const MAX_CALLBACK_BYTES: usize = 64 * 1024;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/payments/callback/{provider}", post(callback))
        .route("/sandbox/pay/{payment}/order", get(order))
        .route("/sandbox/pay/{payment}", post(pay))
        .layer(DefaultBodyLimit::max(MAX_CALLBACK_BYTES))
}

/// 204 says that the callback is recorded, and that the provider need not send it again.
async fn callback(
    State(app): State<App>,
    Path(provider): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    app.lives.callback(&provider, &header, &body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the sandbox's page shows.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SandboxOrder {
    order: OrderView,
    product_title: String,
    live: LiveId,
}

async fn order(State(app): State<App>, Path(payment): Path<String>) -> Result<Json<SandboxOrder>, Problem> {
    let (_, order) = find(&app, &payment).await?;
    let bag = app.lives.services().ledger.bag(&order.order.live).await?;
    let product = bag.into_iter().find(|product| product.id == order.order.product);
    Ok(Json(SandboxOrder {
        product_title: product.map_or_else(|| order.order.product.to_string(), |product| product.title),
        live: order.order.live.clone(),
        order: haul_live::order_view(&order),
    }))
}

/// What the buyer does on the sandbox's page.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Pay {
    outcome: PayOutcome,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum PayOutcome {
    Paid,
    Failed,
}

/// The sandbox calls us as any provider would: signed, through the same door.
async fn pay(
    State(app): State<App>,
    Path(payment): Path<String>,
    Body(pay): Body<Pay>,
) -> Result<StatusCode, Problem> {
    let (sandbox, order) = find(&app, &payment).await?;
    let kind = match pay.outcome {
        PayOutcome::Paid => PaymentEventKind::Paid,
        PayOutcome::Failed => PaymentEventKind::Failed,
    };
    let signed = sandbox.callback(&order.order.payment, kind, order.order.total, haul_live::now().wall);
    let header = |name: &str| signed.header(name);
    app.lives.callback(haul_payments::sandbox::NAME, &header, signed.body.as_bytes()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find<'a>(app: &'a App, payment: &str) -> Result<(&'a Sandbox, Order), Problem> {
    let not_found = || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such payment here");
    let sandbox = app.sandbox.as_ref().ok_or_else(not_found)?;
    let payment: PaymentId = path_id("payment", payment)?;
    let order = app.lives.services().ledger.order_of_payment(&payment).await?.ok_or_else(not_found)?;
    Ok((sandbox, order))
}

impl From<CallbackError> for Problem {
    fn from(error: CallbackError) -> Self {
        let (status, code) = match &error {
            CallbackError::UnknownProvider | CallbackError::UnknownPayment => {
                (StatusCode::NOT_FOUND, "not_found")
            }
            CallbackError::Contradiction(_) => (StatusCode::CONFLICT, "conflict"),
            CallbackError::Refused(PaymentError::Unsigned(_)) => (StatusCode::UNAUTHORIZED, "unsigned"),
            CallbackError::Refused(PaymentError::Malformed(_)) => (StatusCode::BAD_REQUEST, "bad_request"),
            CallbackError::Refused(PaymentError::Unavailable(_) | PaymentError::Refused(_))
            | CallbackError::NotRecorded(_) => {
                return unavailable(error.to_string());
            }
        };
        Problem::new(status, code, error.to_string())
    }
}
