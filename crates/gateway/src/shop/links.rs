//! `/r/…`: links to external shops. A link says which product of which live it is for; where that leads is looked up
//! when it is followed, so that no link of ours leads anywhere but to a product's shop as its merchant has it.

use std::time::Duration;

use axum::{
    Router,
    extract::{Path, State},
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use haul_commerce::attribution::{Touch, TouchKind};
use haul_model::{BuyerId, LiveId, MerchantId, ProductId, UnixMillis};
use schemars::SchemaGenerator;
use serde::{Deserialize, Serialize};

use super::seal::SealError;
use crate::{
    app::App,
    openapi::{Operation, Who},
    problem::Problem,
};

/// How long a link can be followed: an evening, and the morning after.
const LINK_LASTS: Duration = Duration::from_secs(24 * 3_600);
/// What a link is sealed for.
const PURPOSE: &str = "link";

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/r/{link}", get(follow))
}

pub(crate) fn operations(_: &mut SchemaGenerator) -> Vec<Operation> {
    vec![Operation {
        path: "/r/{link}",
        method: "get",
        who: Who::Anybody,
        summary: "Go to the external shop of a product (302); the click is counted",
        body: None,
        answer: ("302", None),
        refusals: &["404", "410", "503"],
        query: Vec::new(),
    }]
}

/// What a link says. Short names: it stands in an address.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Target {
    #[serde(rename = "m")]
    pub(crate) merchant: MerchantId,
    #[serde(rename = "l")]
    pub(crate) live: LiveId,
    #[serde(rename = "p")]
    pub(crate) product: ProductId,
    /// Who was given the link, if they said who they are.
    #[serde(rename = "b", skip_serializing_if = "Option::is_none")]
    pub(crate) buyer: Option<BuyerId>,
    /// Under whose `ref` they were.
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    pub(crate) referrer: Option<String>,
}

/// The path of a link.
pub(crate) fn path(app: &App, target: &Target, now: UnixMillis) -> String {
    // Ids and a text: serde_json can't fail on them.
    let payload = serde_json::to_vec(target).unwrap_or_default();
    format!("/r/{}", app.touches.seal().seal(PURPOSE, &payload, now + LINK_LASTS))
}

fn not_found(what: &str) -> Problem {
    haul_commerce::LedgerError::NotFound(what.to_owned()).into()
}

async fn follow(State(app): State<App>, Path(link): Path<String>) -> Result<Response, Problem> {
    let now = haul_live::now().wall;
    let payload = app.touches.seal().open(PURPOSE, &link, now).map_err(|error| match error {
        SealError::NotOurs => Problem::new(StatusCode::NOT_FOUND, "not_found", error.to_string()),
        SealError::Expired => Problem::new(StatusCode::GONE, "link_expired", error.to_string()),
    })?;
    let target: Target = serde_json::from_slice(&payload).map_err(|_| not_found("the link"))?;
    let listing = app.storefront.listing(&target.merchant, &target.product).await?;
    let url =
        listing.and_then(|listing| listing.details.external_url).ok_or_else(|| not_found("the shop"))?;
    let touch = Touch {
        kind: TouchKind::Click,
        creator: None,
        buyer: target.buyer,
        live: target.live,
        product: Some(target.product),
        hold: None,
        at: now,
    };
    app.touches.note(&target.merchant, target.referrer.as_deref(), touch);
    // Checked when it was put: ASCII, without control characters.
    let location = HeaderValue::from_str(&url).map_err(|_| not_found("the shop"))?;
    let headers = [
        (LOCATION, location),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Our addresses have links with people's ids in them.
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Ok((StatusCode::FOUND, headers).into_response())
}
