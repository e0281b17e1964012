//! `/v1` for a merchant's backend: the catalogue, and those who bring buyers.
//!
//! What concerns one live is asked for with that live's tokens. What concerns all of a merchant's is asked for with a
//! host's token for all lives (`"live": "*"`), which only the merchant's own backend has.

mod buyers;
mod creators;
mod links;
mod metrics;
pub(crate) mod products;
mod quotes;
mod seal;
mod touches;
mod visit;

pub use self::{seal::Seal, touches::RefRules};
pub(crate) use self::{touches::Touches, visit::Visit};

use axum::{Router, http::HeaderMap};
use haul_commerce::ledger::LedgerError;
use haul_model::{Languages, MerchantId};
use schemars::SchemaGenerator;
use serde::Deserialize;

use crate::{app::App, auth::bearer, openapi::Operation, problem::Problem, rest::bad_request};

/// Entries of one page of a list, where nothing else is asked for, and at most.
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;

pub(crate) fn routes() -> Router<App> {
    products::routes()
        .merge(creators::routes())
        .merge(metrics::routes())
        .merge(buyers::routes())
        .merge(links::routes())
        .merge(quotes::routes())
}

/// All of it, described.
pub(crate) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let mut all = products::operations(generator);
    all.extend(creators::operations(generator));
    all.extend(metrics::operations(generator));
    all.extend(buyers::operations(generator));
    all.extend(links::operations(generator));
    all.extend(quotes::operations(generator));
    all
}

/// Whose backend asks.
fn merchant(app: &App, headers: &HeaderMap) -> Result<MerchantId, Problem> {
    Ok(app.authority.merchant(bearer(headers), haul_live::now().wall)?)
}

/// Which page of a list: `?after=` the last id of the page before, `?limit=`.
#[derive(Debug, Deserialize)]
struct Page {
    after: Option<String>,
    limit: Option<u32>,
}

impl Page {
    fn limit(&self) -> Result<u32, Problem> {
        match self.limit.unwrap_or(PAGE) {
            limit @ 1..=MAX_PAGE => Ok(limit),
            _ => Err(bad_request(format!("limit: expected 1 to {MAX_PAGE}"))),
        }
    }

    fn after<T: std::str::FromStr<Err = haul_model::IdError>>(&self) -> Result<Option<T>, Problem> {
        let after = self.after.as_deref().map(str::parse).transpose();
        after.map_err(|error| bad_request(format!("after: {error}")))
    }
}

/// What the asker reads: `?locale=`, or the header `Accept-Language`.
fn languages(locale: Option<&str>, headers: &HeaderMap) -> Result<Languages, Problem> {
    if let Some(locale) = locale {
        let locale = locale.parse().map_err(|error| bad_request(format!("locale: {error}")))?;
        return Ok(Languages::one(locale));
    }
    let header = headers.get(axum::http::header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    Ok(Languages::accepted(header.unwrap_or_default()))
}

fn missing(what: &str) -> Problem {
    LedgerError::NotFound(what.to_owned()).into()
}
