//! HTTP and websockets: WHIP and WHEP, the channel, REST, pages, metrics.
//!
//! Parses and checks what comes from outside, hands it to the live's owner or to the media edge, and puts their answers
//! into HTTP's words. It knows no RTP and no Lua, and decides nothing about stock.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod app;
pub mod auth;
mod channel;
pub mod client;
mod guard;
mod guest;
mod guests;
mod metrics;
mod moq;
mod node;
mod openapi;
pub mod origin;
mod pages;
mod payments;
pub mod problem;
mod quality;
mod rest;
mod session;
mod shop;
pub mod tls;
mod v1;
mod whip;

pub use app::{App, Parts, Settings};
pub use guard::{Check, RiskSettings};
pub use guest::{Guest, OnAir};
pub use moq::MoqDoor;
pub use session::{Sessions, Takeover};
pub use shop::{RefRules, Seal};

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER},
    },
    middleware,
    response::IntoResponse,
    routing::get,
};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::problem::Problem;

/// All routes.
pub fn router(app: App) -> Router {
    let origins = app.settings.origins.clone();
    let listed = AllowOrigin::predicate(move |origin, request| {
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let host = request.headers.get(HOST).and_then(text);
        origins.allows(text(origin).as_deref(), host.as_deref())
    });
    let cors = CorsLayer::new()
        .allow_origin(listed)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, v1::IDEMPOTENCY_KEY])
        .expose_headers([RETRY_AFTER])
        .max_age(Duration::from_secs(3600));
    routes()
        // Inside, so that an answer that is given again is no second change.
        .layer(middleware::from_fn_with_state(app.clone(), v1::audited))
        .layer(middleware::from_fn_with_state(app.clone(), v1::once))
        .layer(cors)
        .merge(pages::sdk())
        .merge(payments::routes())
        .merge(whip::routes(app.clone()).layer(middleware::from_fn_with_state(app.clone(), v1::audited)))
        .merge(channel::routes())
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here") })
        .layer(middleware::from_fn(problem::everywhere))
        .with_state(app)
}

/// What the two layers of `/v1` are round.
fn routes() -> Router<App> {
    Router::new()
        .merge(rest::routes())
        .merge(guests::routes())
        .merge(shop::links::routes())
        .merge(v1::routes())
        .merge(openapi::routes())
        .merge(node::routes())
        .merge(moq::routes())
        .merge(pages::routes())
        // Within the layers, so that a browser's OPTIONS is answered by theirs.
        .method_not_allowed_fallback(|| async {
            let detail = problem::METHOD_NOT_ALLOWED;
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        })
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let mut headers = HeaderMap::new();
    let openmetrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    headers.insert(CONTENT_TYPE, openmetrics);
    (headers, app.metrics.text())
}

/// Ready while it is not going away and its stores answer: a load balancer's question.
async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    if *app.draining().borrow() {
        return Err(app::unavailable("the server is going away"));
    }
    let services = app.lives.services();
    services.ledger.ping().await.map_err(|error| app::unavailable(error.to_string()))?;
    services.gate.now().await.map_err(|error| app::unavailable(error.to_string()))?;
    Ok("ready\n")
}
