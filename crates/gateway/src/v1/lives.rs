//! A merchant's lives: the list of them.

use std::collections::HashMap;

use axum::{Json, Router, extract::State, http::HeaderMap, routing::get};
use haul_commerce::{LiveRecord, keys::Area};
use haul_live::{Live, Look};
use haul_model::{LiveId, UnixMillis};
use haul_wire::LiveState;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{MAX_PAGE, Page, place};
use crate::{
    app::App,
    openapi::{Operation, Who as For, json},
    problem::Problem,
    rest::Params,
};

/// Lives looked through for one page. Where fewer of them are in the wanted state, the page is shorter, and has a `next`.
const MAX_LOOKED_AT: u32 = 10 * MAX_PAGE;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/v1/lives", get(list))
}

pub(super) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let list = Operation {
        path: "/v1/lives",
        method: "get",
        who: For::Merchant,
        summary: "The merchant's lives, newest first (scope lives:read)",
        body: None,
        answer: ("200", json::<LivePage>(generator)),
        refusals: &["400", "401", "403", "503"],
        query: Vec::new(),
    };
    vec![list.query::<Wanted>(generator).query::<Page>(generator)]
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    /// `waiting`, `live` or `reconnecting`; all where absent.
    state: Option<LiveState>,
}

/// A page of lives.
#[derive(Debug, Serialize, JsonSchema)]
struct LivePage {
    lives: Vec<ListedLive>,
    /// For `?after=`; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A live in a list.
#[derive(Debug, Serialize, JsonSchema)]
struct ListedLive {
    id: LiveId,
    title: String,
    /// Whether it may be watched without a token.
    public: bool,
    /// As this server knows it.
    state: LiveState,
    /// The same.
    viewers: u64,
    created_at: UnixMillis,
}

async fn list(
    State(app): State<App>,
    Params(wanted): Params<Wanted>,
    Params(page): Params<Page>,
    headers: HeaderMap,
) -> Result<Json<LivePage>, Problem> {
    let merchant = app.merchant(&headers, Area::Lives.read()).await?;
    let limit = page.limit()?;
    let mut after = page.place::<LiveId>()?;
    let running: HashMap<LiveId, Live> =
        app.lives.of_merchant(&merchant).into_iter().map(|live| (live.id().clone(), live)).collect();
    let mut lives = Vec::new();
    for _ in 0..MAX_LOOKED_AT / MAX_PAGE {
        let records = app.lives.services().ledger.lives(&merchant, after.as_ref(), MAX_PAGE).await?;
        let is_last = (records.len() as u32) < MAX_PAGE;
        for record in records {
            after = Some((record.created_at, record.id.clone()));
            let live = listed(record, &running).await;
            if wanted.state.is_none_or(|state| state == live.state) {
                lives.push(live);
            }
            if lives.len() as u32 == limit {
                return Ok(Json(LivePage { lives, next: after.map(|(at, id)| place(at, &id)) }));
            }
        }
        if is_last {
            return Ok(Json(LivePage { lives, next: None }));
        }
    }
    Ok(Json(LivePage { lives, next: after.map(|(at, id)| place(at, &id)) }))
}

/// One that does not run here waits for its host.
async fn listed(record: LiveRecord, running: &HashMap<LiveId, Live>) -> ListedLive {
    let look = match running.get(&record.id) {
        Some(live) => live.look().await,
        None => None,
    };
    let (state, viewers) =
        look.map_or((LiveState::Waiting, 0), |Look { state, viewers, .. }| (state, viewers));
    let LiveRecord { id, title, public, created_at, merchant: _ } = record;
    ListedLive { id, title, public, state, viewers, created_at }
}
