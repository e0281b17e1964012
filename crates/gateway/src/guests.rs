//! Guests of the demo live: a viewer's token for the asking, under a name of one's own choice.
//!
//! How many an address gets is limited here; whether a name is free, and whether somebody was put out, the room knows.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use haul_model::{BuyerId, LiveId, Role, Viewer};
use haul_room::{Limiter, Rate};
use haul_wire::Request;
use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    app::{App, Peer, path_id},
    auth::{Claims, Shop, clean_name},
    problem::Problem,
    rest::{Body, TOKEN_SECONDS, Token, bad_request, not_found},
    v1::answered,
};

/// The largest body read.
const MAX_BODY_BYTES: usize = 4 * 1024;
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/v1/lives/{live}/guests", post(guest)).layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// Somebody who wants to take part in the demo.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guest {
    /// The name shown to others. Neither one of somebody who is there, nor one that may not be said in the chat.
    name: String,
}

async fn guest(
    State(app): State<App>,
    Path(live): Path<String>,
    Peer(peer): Peer,
    headers: HeaderMap,
    Body(guest): Body<Guest>,
) -> Result<(StatusCode, Json<Token>), Problem> {
    let live: LiveId = path_id("live", &live)?;
    if app.settings.demo.as_ref() != Some(&live) {
        return Err(not_found());
    }
    let name = clean_name(&guest.name).ok_or_else(|| bad_request("name: expected a name"))?;
    let network = peer.and_then(|peer| network(app.client(peer, &headers)));
    let admitted = match app.guests.admit(network, haul_live::now().instant) {
        Ok(()) => knock(&app, &live, name, network).await,
        Err(problem) => Err(problem),
    };
    if let Err(problem) = &admitted {
        app.metrics.guest_refused(problem.code);
    }
    let viewer = admitted?;
    let claims = Claims {
        sub: viewer.id.clone(),
        live: (&live).into(),
        role: viewer.role,
        name: viewer.name,
        shop: Shop::default(),
        exp: viewer.expires_at,
    };
    let token = app.authority.mint(claims, haul_live::now().wall);
    Ok((StatusCode::CREATED, Json(Token { token, sub: viewer.id, expires_at: viewer.expires_at })))
}

/// The guest, if the room takes them.
async fn knock(app: &App, live: &LiveId, name: String, network: Option<IpAddr>) -> Result<Viewer, Problem> {
    let now = haul_live::now().wall;
    let digest = network.map(|network| app.authority.network_digest(network));
    let live = app.lives.get(live).await?;
    let viewer = Viewer {
        id: BuyerId::guest(now, rand::rng().random(), digest),
        name,
        role: Role::Viewer,
        expires_at: now + Duration::from_secs(TOKEN_SECONDS),
        tier: None,
        follower: false,
        merchant: live.merchant().clone(),
    };
    let hello = Request::Hello { token: None, resume: None, locale: None, referrer: None };
    answered(&live, viewer.clone(), hello).await.map(|_| viewer)
}

/// What of a client's address says who they are. This machine itself says nothing: a proxy that nobody named would look
/// like one guest who comes again and again.
fn network(client: IpAddr) -> Option<IpAddr> {
    (!client.is_loopback()).then(|| haul_webrtc::network(client))
}

/// How many guests came from where.
///
/// A lock, since any request may count; held to count.
#[derive(Debug)]
pub(crate) struct Guests(Option<Mutex<Limiter<IpAddr>>>);

impl Guests {
    /// So many an hour of one network; 0: no limit.
    pub(crate) fn new(per_address: u32) -> Self {
        let rate = |burst| Rate { burst, every: HOUR / burst };
        Self((per_address > 0).then(|| Mutex::new(Limiter::new(rate(per_address)))))
    }

    fn admit(&self, network: Option<IpAddr>, now: Instant) -> Result<(), Problem> {
        let (Some(limiter), Some(network)) = (&self.0, network) else { return Ok(()) };
        let mut limiter = limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.take(network, now).map_err(|wait| {
            let detail = "too many guests from your address: wait, or ask the shop for a link of your own";
            let problem =
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(wait);
            Problem { why: Some("guests".to_owned()), ..problem }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_so_many_guests_an_hour_and_this_machine_any_number() {
        let (guests, start) = (Guests::new(3), haul_live::now().instant);
        let come = |from: &str, at: Instant| {
            guests.admit(network(from.parse().unwrap()), at).map_err(|problem| problem.retry_after.unwrap())
        };
        for last in 1..=3 {
            assert_eq!(come(&format!("2001:db8:0:7::{last}"), start), Ok(()));
        }
        assert_eq!(come("2001:db8:0:7::9", start), Err(HOUR / 3), "a network of 64 bits is one's own");
        assert_eq!(come("2001:db8:0:8::1", start), Ok(()), "others are not harmed");
        assert_eq!(come("2001:db8:0:7::9", start + HOUR / 3), Ok(()));
        for _ in 0..10 {
            assert_eq!(come("127.0.0.1", start), Ok(()));
        }
        let unlimited = Guests::new(0);
        let anybody = network("192.0.2.7".parse().unwrap());
        assert!((0..100).all(|_| unlimited.admit(anybody, start).is_ok()));
    }
}
