//! Webhooks: endpoints, their secrets, their deliveries, and replay.

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use haul_commerce::{
    keys::{Area, Asked},
    outbox::{Delivery, DeliveryState, Endpoint, MAX_KINDS, Replay},
};
use haul_model::{MerchantId, MessageId, UnixMillis, WebhookId};
use rand::RngExt;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{
    Page, Secret,
    idempotency::{new_ids, stands},
    next, place, told,
};
use crate::{
    app::{App, path_id},
    openapi::{Operation, Who as For, json},
    problem::Problem,
    rest::{Body, Params, bad_request},
};

/// The longest name of a kind of messages.
const MAX_KIND_BYTES: usize = 64;
/// Tries to change a webhook that others change at the same time.
const MAX_CHANGES: usize = 8;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/webhooks", get(list).post(create))
        .route("/v1/webhooks/{webhook}", get(one).patch(change).delete(remove))
        .route("/v1/webhooks/{webhook}/rotate", post(rotate))
        .route("/v1/webhooks/{webhook}/deliveries", get(deliveries))
        .route("/v1/webhooks/{webhook}/replay", post(replay))
}

pub(super) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let op = |method, path, summary, body, answer, refusals| Operation {
        path,
        method,
        who: For::Merchant,
        summary,
        body,
        answer,
        refusals,
        query: Vec::new(),
    };
    vec![
        op(
            "get",
            "/v1/webhooks",
            "The merchant's webhooks (scope webhooks:read)",
            None,
            ("200", json::<WebhookList>(generator)),
            &["401", "403", "503"],
        ),
        op(
            "post",
            "/v1/webhooks",
            "Be told at this URL what happens; the secret that signs is told once (scope webhooks:write)",
            json::<NewWebhook>(generator),
            ("201", json::<MadeWebhook>(generator)),
            &["400", "401", "403", "409", "422", "503"],
        ),
        op(
            "get",
            "/v1/webhooks/{webhook}",
            "A webhook (scope webhooks:read)",
            None,
            ("200", json::<WebhookDocument>(generator)),
            &["400", "401", "403", "404", "503"],
        ),
        op(
            "patch",
            "/v1/webhooks/{webhook}",
            "Change a webhook, or enable it again (scope webhooks:write)",
            json::<ChangeWebhook>(generator),
            ("200", json::<WebhookDocument>(generator)),
            &["400", "401", "403", "404", "503"],
        ),
        op(
            "delete",
            "/v1/webhooks/{webhook}",
            "Forget a webhook and its deliveries (scope webhooks:write)",
            None,
            ("204", None),
            &["400", "401", "403", "404", "503"],
        ),
        op(
            "post",
            "/v1/webhooks/{webhook}/rotate",
            "A new secret; the old one signs too for a day (scope webhooks:write)",
            None,
            ("200", json::<MadeWebhook>(generator)),
            &["400", "401", "403", "404", "422", "503"],
        ),
        op(
            "get",
            "/v1/webhooks/{webhook}/deliveries",
            "Deliveries, newest first (scope webhooks:read)",
            None,
            ("200", json::<DeliveryPage>(generator)),
            &["400", "401", "403", "404", "503"],
        )
        .query::<Wanted>(generator)
        .query::<Page>(generator),
        op(
            "post",
            "/v1/webhooks/{webhook}/replay",
            "Deliver a message again, or all since a time that were not delivered (scope webhooks:write)",
            json::<AskReplay>(generator),
            ("202", json::<Replayed>(generator)),
            &["400", "401", "403", "404", "422", "503"],
        ),
    ]
}

/// A webhook to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    /// An https URL on the public Internet.
    url: String,
    /// Kinds such as `order.sold`, or `order.*`; all where absent.
    #[serde(default)]
    kinds: Vec<String>,
}

/// What is to be changed of a webhook; what is absent stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeWebhook {
    url: Option<String>,
    kinds: Option<Vec<String>>,
    /// True lets one go on that was disabled: what failed is tried again; what it missed is asked for with replay, before.
    enabled: Option<bool>,
}

/// A webhook, without its secret.
#[derive(Debug, Serialize, JsonSchema)]
struct WebhookDocument {
    id: WebhookId,
    url: String,
    kinds: Vec<String>,
    enabled: bool,
    /// Since when and why it is told nothing.
    disabled_at: Option<UnixMillis>,
    disabled_reason: Option<String>,
    /// Until when the secret before the last rotation signs, too.
    old_secret_until: Option<UnixMillis>,
    created_at: UnixMillis,
}

/// A webhook with its secret.
#[derive(Debug, Serialize, JsonSchema)]
struct MadeWebhook {
    #[serde(flatten)]
    webhook: WebhookDocument,
    /// What signs (Standard Webhooks). Nobody can look it up again.
    secret: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct WebhookList {
    webhooks: Vec<WebhookDocument>,
}

/// A page of deliveries.
#[derive(Debug, Serialize, JsonSchema)]
struct DeliveryPage {
    deliveries: Vec<DeliveryDocument>,
    /// For `?after=`; absent on the last page.
    next: Option<String>,
}

/// A message on its way to an endpoint.
#[derive(Debug, Serialize, JsonSchema)]
struct DeliveryDocument {
    message_id: MessageId,
    kind: String,
    /// The order, or whatever else it is about.
    subject: String,
    state: DeliveryStateDocument,
    attempts: u32,
    next_attempt_at: Option<UnixMillis>,
    /// What the endpoint answered last.
    status: Option<u16>,
    error: Option<String>,
    created_at: UnixMillis,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum DeliveryStateDocument {
    /// It will be tried, or tried again.
    Pending,
    /// The endpoint has taken it.
    Done,
    /// All attempts failed.
    Failed,
}

/// What is to be delivered again: one message, or all since a time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AskReplay {
    message_id: Option<MessageId>,
    since: Option<UnixMillis>,
}

/// How many deliveries are in line again.
#[derive(Debug, Serialize, JsonSchema)]
struct Replayed {
    deliveries: u64,
}

fn document(endpoint: &Endpoint) -> WebhookDocument {
    let (disabled_at, disabled_reason) = endpoint.disabled.clone().unzip();
    WebhookDocument {
        id: endpoint.id.clone(),
        url: endpoint.url.clone(),
        kinds: endpoint.kinds.clone(),
        enabled: disabled_at.is_none(),
        disabled_at,
        disabled_reason,
        old_secret_until: endpoint.old_secret.as_ref().map(|(_, until)| *until),
        created_at: endpoint.created_at,
    }
}

async fn list(State(app): State<App>, headers: HeaderMap) -> Result<Json<WebhookList>, Problem> {
    let who = app.backend(&headers, Area::Webhooks.read()).await?;
    let endpoints = app.backoffice.endpoints(who.merchant()).await?;
    Ok(Json(WebhookList { webhooks: endpoints.iter().map(document).collect() }))
}

async fn create(
    State(app): State<App>,
    asked: Option<Extension<Asked>>,
    headers: HeaderMap,
    Body(new): Body<NewWebhook>,
) -> Result<(StatusCode, Extension<Secret>, Json<MadeWebhook>), Problem> {
    let who = app.backend(&headers, Area::Webhooks.write()).await?;
    let now = haul_live::now().wall;
    let known = app.backoffice.endpoints(who.merchant()).await?;
    let free = |id: &WebhookId| {
        known.iter().find(|known| known.id == *id).is_none_or(|known| stands(known.created_at))
    };
    let mut ids = new_ids(asked, |at, bits| WebhookId::generate("wh_", at, bits));
    let id = ids.find(free).expect("ids don't end");
    let endpoint = Endpoint {
        id,
        merchant: who.merchant().clone(),
        url: url(&app, new.url)?,
        kinds: kinds(new.kinds)?,
        secret: secret(),
        old_secret: None,
        disabled: None,
        created_at: now,
    };
    app.backoffice.put_endpoint(&endpoint).await?;
    let webhook = document(&endpoint);
    Ok((StatusCode::CREATED, Extension(Secret), Json(MadeWebhook { webhook, secret: endpoint.secret })))
}

async fn one(
    State(app): State<App>,
    Path(webhook): Path<String>,
    headers: HeaderMap,
) -> Result<Json<WebhookDocument>, Problem> {
    let who = app.backend(&headers, Area::Webhooks.read()).await?;
    Ok(Json(document(&own(&app, &webhook, who.merchant()).await?)))
}

async fn change(
    State(app): State<App>,
    Path(webhook): Path<String>,
    headers: HeaderMap,
    Body(change): Body<ChangeWebhook>,
) -> Result<Json<WebhookDocument>, Problem> {
    let who = app.backend(&headers, Area::Webhooks.write()).await?;
    let ChangeWebhook { url: to, kinds: wanted, enabled } = change;
    let to = to.map(|to| url(&app, to)).transpose()?;
    let wanted = wanted.map(kinds).transpose()?;
    let changed = changed(&app, &webhook, who.merchant(), |endpoint| {
        endpoint.url = to.clone().unwrap_or_else(|| endpoint.url.clone());
        endpoint.kinds = wanted.clone().unwrap_or_else(|| endpoint.kinds.clone());
        match enabled {
            Some(true) => endpoint.disabled = None,
            Some(false) if endpoint.disabled.is_none() => {
                endpoint.disabled = Some((haul_live::now().wall, "disabled by the merchant".to_owned()));
            }
            _ => {}
        }
    });
    Ok(Json(document(&changed.await?)))
}

/// Changes a webhook as it is now: others may be changing it, and so is its delivery when it gives up.
async fn changed(
    app: &App,
    webhook: &str,
    merchant: &MerchantId,
    mut change: impl FnMut(&mut Endpoint),
) -> Result<Endpoint, Problem> {
    for _ in 0..MAX_CHANGES {
        let before = own(app, webhook, merchant).await?;
        let mut after = before.clone();
        change(&mut after);
        if app.backoffice.change_endpoint(&before, &after).await? {
            return Ok(after);
        }
    }
    Err(Problem::new(StatusCode::CONFLICT, "conflict", "others are changing this webhook: try again"))
}

async fn remove(
    State(app): State<App>,
    Path(webhook): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let who = app.backend(&headers, Area::Webhooks.write()).await?;
    let id: WebhookId = path_id("webhook", &webhook)?;
    match app.backoffice.remove_endpoint(who.merchant(), &id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(missing(&id)),
    }
}

async fn rotate(
    State(app): State<App>,
    Path(webhook): Path<String>,
    headers: HeaderMap,
) -> Result<(Extension<Secret>, Json<MadeWebhook>), Problem> {
    let who = app.backend(&headers, Area::Webhooks.write()).await?;
    let secret = secret();
    let endpoint = changed(&app, &webhook, who.merchant(), |endpoint| {
        *endpoint = endpoint.clone().rotate(secret.clone(), haul_live::now().wall);
    })
    .await?;
    Ok((Extension(Secret), Json(MadeWebhook { webhook: document(&endpoint), secret: endpoint.secret })))
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    /// `pending`, `done` or `failed`.
    state: Option<String>,
}

async fn deliveries(
    State(app): State<App>,
    Path(webhook): Path<String>,
    Params(wanted): Params<Wanted>,
    Params(page): Params<Page>,
    headers: HeaderMap,
) -> Result<Json<DeliveryPage>, Problem> {
    let who = app.backend(&headers, Area::Webhooks.read()).await?;
    let endpoint = own(&app, &webhook, who.merchant()).await?;
    let limit = page.limit()?;
    let state = match wanted.state.as_deref() {
        None => None,
        Some("pending") => Some(DeliveryState::Pending),
        Some("done") => Some(DeliveryState::Done),
        Some("failed") => Some(DeliveryState::Failed),
        Some(_) => return Err(bad_request("state: expected pending, done or failed")),
    };
    let after = page.place::<MessageId>()?;
    let found = app.backoffice.deliveries(who.merchant(), &endpoint.id, state, after.as_ref(), limit).await?;
    let next = next(&found, limit, |delivery| place(delivery.created_at, &delivery.message));
    let document = |delivery: Delivery| DeliveryDocument {
        message_id: delivery.message,
        kind: delivery.kind,
        subject: delivery.subject,
        next_attempt_at: (delivery.state == DeliveryState::Pending).then_some(delivery.next_attempt_at),
        state: match delivery.state {
            DeliveryState::Pending => DeliveryStateDocument::Pending,
            DeliveryState::Done => DeliveryStateDocument::Done,
            DeliveryState::Failed => DeliveryStateDocument::Failed,
        },
        attempts: delivery.attempts,
        status: delivery.status,
        error: delivery.error,
        created_at: delivery.created_at,
    };
    Ok(Json(DeliveryPage { deliveries: found.into_iter().map(document).collect(), next }))
}

async fn replay(
    State(app): State<App>,
    Path(webhook): Path<String>,
    headers: HeaderMap,
    Body(ask): Body<AskReplay>,
) -> Result<(StatusCode, Json<Replayed>), Problem> {
    let who = app.backend(&headers, Area::Webhooks.write()).await?;
    let id: WebhookId = path_id("webhook", &webhook)?;
    let which = match (ask.message_id, ask.since) {
        (Some(message), None) => Replay::Message(message),
        (None, Some(since)) => Replay::Since(since),
        _ => return Err(bad_request("expected either message_id or since")),
    };
    let deliveries = app.backoffice.replay(who.merchant(), &id, &which, haul_live::now().wall).await?;
    Ok((StatusCode::ACCEPTED, Json(Replayed { deliveries })))
}

async fn own(app: &App, webhook: &str, merchant: &MerchantId) -> Result<Endpoint, Problem> {
    let id: WebhookId = path_id("webhook", webhook)?;
    app.backoffice.endpoint(merchant, &id).await?.ok_or_else(|| missing(&id))
}

fn missing(id: &WebhookId) -> Problem {
    haul_commerce::LedgerError::NotFound(format!("the webhook {id}")).into()
}

fn url(app: &App, url: String) -> Result<String, Problem> {
    let url = url.trim().to_owned();
    app.webhooks.check_url(&url).map_err(|error| bad_request(format!("url: {error}")))?;
    Ok(url)
}

fn kinds(kinds: Vec<String>) -> Result<Vec<String>, Problem> {
    if kinds.len() > MAX_KINDS {
        return Err(bad_request(format!("kinds: expected at most {MAX_KINDS}")));
    }
    // One that is never told of would be a webhook that is silent for ever.
    if let Some(unknown) = kinds.iter().find(|kind| !told::is_told(kind)) {
        let known = told::kinds().collect::<Vec<_>>().join(", ");
        let shown: String = unknown.chars().take(MAX_KIND_BYTES).collect();
        return Err(bad_request(format!("kinds: {shown:?} is none of {known}, nor order.* or the like")));
    }
    Ok(kinds)
}

/// A new secret, as Standard Webhooks writes it.
fn secret() -> String {
    let random: [u8; 32] = rand::rng().random();
    format!("whsec_{}", STANDARD.encode(random))
}
