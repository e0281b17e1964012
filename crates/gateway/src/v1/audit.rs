//! The audit log: every change that somebody made over REST or the channel, with who they are and where they came from.

use axum::{
    Json, Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use haul_commerce::{
    audit::{AuditFilter, Entry, MAX_TEXT_BYTES},
    keys::Area,
};
use haul_model::{LiveId, MerchantId, MessageId, Role, UnixMillis, Viewer};
use rand::RngExt;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{Page, next};
use crate::{
    app::{App, Peer, path_id},
    auth::bearer,
    openapi::{Operation, Who as For, json},
    problem::{PENDING, Problem, ProblemCode},
    rest::Params,
};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/v1/audit", get(list))
}

pub(super) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    vec![
        Operation {
            path: "/v1/audit",
            method: "get",
            who: For::Merchant,
            summary: "Who changed what, newest first (scope audit:read)",
            body: None,
            answer: ("200", json::<AuditPage>(generator)),
            refusals: &["400", "401", "403", "503"],
            query: Vec::new(),
        }
        .query::<Wanted>(generator)
        .query::<Page>(generator),
    ]
}

/// A page of the audit log.
#[derive(Debug, Serialize, JsonSchema)]
struct AuditPage {
    entries: Vec<EntryDocument>,
    /// For `?after=`; absent on the last page.
    next: Option<String>,
}

/// Something that somebody did.
#[derive(Debug, Serialize, JsonSchema)]
struct EntryDocument {
    id: String,
    at: UnixMillis,
    /// As what: `key`, `host`, `moderator`, `operator`.
    role: String,
    /// A key's id, or a token's subject.
    actor: String,
    /// A method and route, or the channel's request.
    action: String,
    /// The path, or what the request named.
    target: String,
    live_id: Option<LiveId>,
    address: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    /// In this live only.
    live: Option<String>,
    /// By this key, or this token's subject.
    actor: Option<String>,
}

async fn list(
    State(app): State<App>,
    Params(wanted): Params<Wanted>,
    Params(page): Params<Page>,
    headers: HeaderMap,
) -> Result<Json<AuditPage>, Problem> {
    let who = app.backend(&headers, Area::Audit.read()).await?;
    let limit = page.limit()?;
    let live = wanted.live.as_deref().map(|live| path_id("live", live)).transpose()?;
    let filter = AuditFilter { live, actor: wanted.actor, after: page.after };
    let entries = app.backoffice.audit(who.merchant(), &filter, limit).await?;
    let next = next(&entries, limit, |last| last.id.clone());
    let document = |entry: Entry| EntryDocument {
        id: entry.id,
        at: entry.at,
        role: entry.role,
        actor: entry.actor,
        action: entry.action,
        target: entry.target,
        live_id: entry.live,
        address: entry.address,
    };
    Ok(Json(AuditPage { entries: entries.into_iter().map(document).collect(), next }))
}

/// Middleware for all of `/v1` and `/whip`: what was changed is written down before it is answered, or as soon as the ledger takes it.
/// So is what is pending, since it may have happened. A change and its entry go on when whoever asked hangs up.
pub(crate) async fn audited(
    State(app): State<App>,
    peer: Peer,
    route: Option<MatchedPath>,
    request: Request,
    then: Next,
) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(&method);
    // A broadcast begins and ends; the ways that its packets take are nobody's doing.
    let changes = path.starts_with("/v1/") || path.starts_with("/whip/") && method != Method::PATCH;
    if reads || !changes {
        return then.run(request).await;
    }
    let headers = request.headers().clone();
    let carried_out = tokio::spawn(async move {
        let response = then.run(request).await;
        let pending = response.extensions().get() == Some(&ProblemCode(PENDING));
        if (response.status().is_success() || pending)
            && let Some((merchant, role, actor)) = actor(&app, &headers).await
        {
            let route = route.as_ref().map_or(path.as_str(), |route| route.as_str());
            let rest = path.strip_prefix("/v1/lives/").or_else(|| path.strip_prefix("/whip/"));
            let live = rest.and_then(|rest| rest.split('/').next()?.parse().ok());
            let address = app.sender(&peer, &headers).map(|address| address.to_string());
            let action = format!("{method} {route}{}", if pending { " (pending)" } else { "" });
            app.note(merchant, role, actor, Doing { action, target: path.clone(), live, address }).await;
        }
        response
    });
    carried_out.await.unwrap_or_else(|_| {
        let detail = "the server could not do it";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
    })
}

/// What somebody did.
pub(crate) struct Doing {
    pub(crate) action: String,
    pub(crate) target: String,
    pub(crate) live: Option<LiveId>,
    pub(crate) address: Option<String>,
}

impl App {
    /// Writes down what a host or moderator did over the channel.
    pub(crate) async fn note_viewer(&self, viewer: &Viewer, doing: Doing) {
        let role = viewer.role.as_str().to_owned();
        self.note(viewer.merchant.clone(), role, viewer.id.to_string(), doing).await;
    }

    async fn note(&self, merchant: MerchantId, role: String, actor: String, doing: Doing) {
        let now = haul_live::now().wall;
        let entry = Entry {
            // Sorts by time, as all ids that are made here.
            id: MessageId::generate("audit_", now, rand::rng().random()).to_string(),
            merchant,
            at: now,
            role,
            actor,
            action: cut(doing.action),
            target: cut(doing.target),
            live: doing.live,
            address: doing.address,
        };
        self.clerk.write(entry).await;
    }
}

/// Whose change it was: nobody's in particular without a key or a token.
async fn actor(app: &App, headers: &HeaderMap) -> Option<(MerchantId, String, String)> {
    if let Ok(Some(key)) = app.api_key(headers).await {
        return Some((key.merchant.clone(), "key".to_owned(), key.id.to_string()));
    }
    let (merchant, sub, role) = app.authority.bearer(bearer(headers)?, haul_live::now().wall).ok()?;
    // What viewers do for themselves is no change of the shop's.
    role.includes(Role::Moderator).then(|| (merchant, role.as_str().to_owned(), sub.to_string()))
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
    }
    text
}
