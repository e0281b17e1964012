//! API keys: made, listed, revoked. The text of a key is told once.

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{delete, get},
};
use haul_commerce::keys::{ApiKey, Area, Asked, MAX_KEYS, Permission, hash, key_text};
use haul_model::{KeyId, UnixMillis};
use rand::RngExt;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{
    Secret, Who,
    idempotency::{new_ids, stands},
};
use crate::{
    app::{App, path_id},
    openapi::{Operation, Who as For, json},
    problem::Problem,
    rest::{Body, bad_request, title},
};

/// The most scopes of one key.
const MAX_SCOPES: usize = 50;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/v1/keys", get(list).post(create)).route("/v1/keys/{key}", delete(revoke))
}

pub(super) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    vec![
        Operation {
            path: "/v1/keys",
            method: "get",
            who: For::Merchant,
            summary: "The merchant's API keys, newest first (scope keys:read)",
            body: None,
            answer: ("200", json::<KeyList>(generator)),
            refusals: &["401", "403", "503"],
            query: Vec::new(),
        },
        Operation {
            path: "/v1/keys",
            method: "post",
            who: For::Merchant,
            summary: "Make an API key with scopes that one's own key has; its text is told once (scope keys:write)",
            body: json::<NewKey>(generator),
            answer: ("201", json::<MadeKey>(generator)),
            refusals: &["400", "401", "403", "409", "422", "503"],
            query: Vec::new(),
        },
        Operation {
            path: "/v1/keys/{key}",
            method: "delete",
            who: For::Merchant,
            summary: "Revoke an API key, for good (scope keys:write)",
            body: None,
            answer: ("200", json::<KeyDocument>(generator)),
            refusals: &["400", "401", "403", "404", "503"],
            query: Vec::new(),
        },
    ]
}

/// A key to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewKey {
    /// What it is for: at most 120 characters.
    name: String,
    /// Such as `orders:read`, `refunds:write`; `*` is everything.
    scopes: Vec<String>,
}

/// A key that was made.
#[derive(Debug, Serialize, JsonSchema)]
struct MadeKey {
    #[serde(flatten)]
    key: KeyDocument,
    /// What to send as `Authorization: Bearer`. Nobody can look it up again.
    secret: String,
}

/// A key, without its secret.
#[derive(Debug, Serialize, JsonSchema)]
struct KeyDocument {
    id: KeyId,
    name: String,
    scopes: Vec<String>,
    /// What its text begins with.
    prefix: String,
    created_at: UnixMillis,
    revoked_at: Option<UnixMillis>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct KeyList {
    keys: Vec<KeyDocument>,
}

fn document(key: &ApiKey) -> KeyDocument {
    KeyDocument {
        id: key.id.clone(),
        name: key.name.clone(),
        scopes: key.scopes.iter().map(ToString::to_string).collect(),
        prefix: key.prefix(),
        created_at: key.created_at,
        revoked_at: key.revoked_at,
    }
}

async fn list(State(app): State<App>, headers: HeaderMap) -> Result<Json<KeyList>, Problem> {
    let who = app.backend(&headers, Area::Keys.read()).await?;
    // Revoked ones too, as far back as a page goes.
    let keys = app.backoffice.keys(who.merchant(), 2 * MAX_KEYS as u32).await?;
    Ok(Json(KeyList { keys: keys.iter().map(document).collect() }))
}

async fn create(
    State(app): State<App>,
    asked: Option<Extension<Asked>>,
    headers: HeaderMap,
    Body(new): Body<NewKey>,
) -> Result<(StatusCode, Extension<Secret>, Json<MadeKey>), Problem> {
    let who = app.backend(&headers, Area::Keys.write()).await?;
    let name = title("name", &new.name)?;
    if new.scopes.is_empty() || new.scopes.len() > MAX_SCOPES {
        return Err(bad_request(format!("scopes: expected 1 to {MAX_SCOPES}")));
    }
    let scopes: Result<Vec<Permission>, _> = new.scopes.iter().map(|scope| scope.parse()).collect();
    let scopes = scopes.map_err(|error| bad_request(format!("scopes: {error}")))?;
    // A key can't make one that may more than itself.
    if let Who::Key(own) = &who
        && let Some(more) = scopes.iter().find(|scope| !own.permits(**scope))
    {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "scope_missing",
            format!("this key lacks the scope {more}"),
        ));
    }
    let now = haul_live::now().wall;
    let mut ids = new_ids(asked, |at, bits| KeyId::generate("key_", at, bits));
    let id = loop {
        let id = ids.next().expect("ids don't end");
        if app.backoffice.key(&id).await?.is_none_or(|known| stands(known.created_at)) {
            break id;
        }
    };
    let secret = key_text(&id, &rand::rng().random());
    let key = ApiKey {
        id,
        merchant: who.merchant().clone(),
        name,
        scopes,
        hash: hash(&[secret.as_bytes()]),
        created_at: now,
        revoked_at: None,
    };
    app.backoffice.put_key(&key).await?;
    app.keys.forget(&key.id);
    Ok((StatusCode::CREATED, Extension(Secret), Json(MadeKey { key: document(&key), secret })))
}

async fn revoke(
    State(app): State<App>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Json<KeyDocument>, Problem> {
    let who = app.backend(&headers, Area::Keys.write()).await?;
    let id: KeyId = path_id("key", &key)?;
    let revoked = app.backoffice.revoke_key(who.merchant(), &id, haul_live::now().wall).await?;
    app.keys.forget(&id);
    Ok(Json(document(&revoked)))
}
