//! `/v1` for a merchant's own systems: the catalogue, orders, refunds, buyers, creators, webhooks, API keys, the audit log;
//! and what all of `/v1` has in common: who may, requests that are asked again, lists in pages.

mod access;
mod audit;
mod buyers;
mod clerk;
mod coupons;
mod creators;
mod idempotency;
mod keys;
mod lives;
mod metrics;
mod orders;
mod products;
mod quotes;
mod refunds;
mod sales;
mod told;
mod webhooks;

use axum::{Router, extract::DefaultBodyLimit, http::HeaderMap};
use haul_commerce::LedgerError;
use haul_model::{IdError, Languages, UnixMillis};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;

use crate::{app::App, openapi::Operation, problem::Problem, rest::bad_request};

pub(crate) use self::{
    access::{KnownKeys, Who, permits},
    audit::{Doing, audited},
    clerk::Clerk,
    idempotency::{IDEMPOTENCY_KEY, Secret, once},
    sales::answered,
    told::webhooks,
};

/// The largest JSON body read here.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Entries of one page of a list, where nothing else is asked for, and at most.
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .merge(lives::routes())
        .merge(products::routes())
        .merge(quotes::routes())
        .merge(orders::routes())
        .merge(refunds::routes())
        .merge(sales::routes())
        .merge(coupons::routes())
        .merge(buyers::routes())
        .merge(creators::routes())
        .merge(metrics::routes())
        .merge(webhooks::routes())
        .merge(keys::routes())
        .merge(audit::routes())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// All of it, described.
pub(crate) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let mut all = lives::operations(generator);
    all.extend(products::operations(generator));
    all.extend(quotes::operations(generator));
    all.extend(orders::operations(generator));
    all.extend(refunds::operations(generator));
    all.extend(sales::operations(generator));
    all.extend(coupons::operations(generator));
    all.extend(buyers::operations(generator));
    all.extend(creators::operations(generator));
    all.extend(metrics::operations(generator));
    all.extend(webhooks::operations(generator));
    all.extend(keys::operations(generator));
    all.extend(audit::operations(generator));
    all
}

/// Which page of a list: `?after=` the `next` of the page before, `?limit=`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Page {
    /// The `next` of the page before.
    after: Option<String>,
    /// Entries at most: 1 to 200; 50 where absent.
    limit: Option<u32>,
}

impl Page {
    pub(crate) fn limit(&self) -> Result<u32, Problem> {
        match self.limit.unwrap_or(PAGE) {
            limit @ 1..=MAX_PAGE => Ok(limit),
            _ => Err(bad_request(format!("limit: expected 1 to {MAX_PAGE}"))),
        }
    }

    /// The id that the page before ended with, of a list by id.
    fn after<T: std::str::FromStr<Err = IdError>>(&self) -> Result<Option<T>, Problem> {
        let after = self.after.as_deref().map(str::parse).transpose();
        after.map_err(|error| bad_request(format!("after: {error}")))
    }

    /// The time and id that the page before ended with, of a list by time.
    pub(crate) fn place<T: std::str::FromStr<Err = IdError>>(
        &self,
    ) -> Result<Option<(UnixMillis, T)>, Problem> {
        let Some(after) = &self.after else { return Ok(None) };
        let read = || {
            let (at, id) = after.split_once('.')?;
            Some((UnixMillis(at.parse().ok()?), id.parse().ok()?))
        };
        read().map(Some).ok_or_else(|| bad_request("after: expected the `next` of the page before"))
    }
}

/// Where the next page begins: behind the last entry, if the page is full.
pub(crate) fn next<T, P>(page: &[T], limit: u32, place: impl Fn(&T) -> P) -> Option<P> {
    page.last().filter(|_| page.len() as u32 >= limit).map(place)
}

/// The place of an entry in a list by time.
pub(crate) fn place(UnixMillis(at): UnixMillis, id: &impl std::fmt::Display) -> String {
    format!("{at}.{id}")
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
