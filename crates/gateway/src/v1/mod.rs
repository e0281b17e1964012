//! `/v1` for a merchant's own systems: orders, refunds, webhooks, API keys, the audit log; and what all of `/v1` has in
//! common: who may, requests that are asked again, lists in pages.

mod access;
mod audit;
mod coupons;
mod idempotency;
mod keys;
mod orders;
mod refunds;
mod sales;
mod webhooks;

use axum::{Router, extract::DefaultBodyLimit};
use haul_model::{IdError, UnixMillis};
use schemars::SchemaGenerator;
use serde::Deserialize;

use crate::{app::App, openapi::Operation, problem::Problem, rest::bad_request};

pub(crate) use self::{
    access::{KnownKeys, Who, permits},
    audit::{Doing, audited},
    idempotency::{IDEMPOTENCY_KEY, once},
};

/// The largest JSON body read here.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Entries of one page of a list, where nothing else is asked for, and at most.
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .merge(orders::routes())
        .merge(refunds::routes())
        .merge(sales::routes())
        .merge(coupons::routes())
        .merge(webhooks::routes())
        .merge(keys::routes())
        .merge(audit::routes())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// All of it, described.
pub(crate) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let mut all = orders::operations(generator);
    all.extend(refunds::operations(generator));
    all.extend(sales::operations(generator));
    all.extend(coupons::operations(generator));
    all.extend(webhooks::operations(generator));
    all.extend(keys::operations(generator));
    all.extend(audit::operations(generator));
    all
}

/// Which page of a list: `?after=` the `next` of the page before, `?limit=`.
#[derive(Debug, Default, Deserialize)]
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

    /// The time and id that the page before ended with.
    fn place<T: std::str::FromStr<Err = IdError>>(&self) -> Result<Option<(UnixMillis, T)>, Problem> {
        let Some(after) = &self.after else { return Ok(None) };
        let read = || {
            let (at, id) = after.split_once('.')?;
            Some((UnixMillis(at.parse().ok()?), id.parse().ok()?))
        };
        read().map(Some).ok_or_else(|| bad_request("after: expected the `next` of the page before"))
    }
}

/// Where the next page begins: behind this entry, if the page is full.
fn next<T>(page: &[T], limit: u32, place: impl Fn(&T) -> (UnixMillis, String)) -> Option<String> {
    let last = page.last().filter(|_| page.len() as u32 >= limit)?;
    let (UnixMillis(at), id) = place(last);
    Some(format!("{at}.{id}"))
}
