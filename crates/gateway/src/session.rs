//! WHIP (RFC 9725) and WHEP: offers in, answers out, one resource a session.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, LINK, LOCATION, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
    routing::{patch, post},
};
use haul_live::Live;
use haul_model::{BuyerId, LiveId, Role, SessionId, Viewer};
use haul_webrtc::{Answer, MAX_OFFER_BYTES, Notice, NoticeKind, Observer, OfferError, Seat};
use rand::RngExt;
use tower_http::cors::{Any, CorsLayer};

use crate::{
    app::{App, Peer, path_id, unavailable},
    auth::{AuthError, bearer},
    problem::Problem,
};

/// An SDP offer or answer (RFC 8866).
const SDP: &str = "application/sdp";
/// A piece of SDP with candidates (RFC 8840).
const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// When to ask again for a live whose host is not there.
const HOST_WAIT: Duration = Duration::from_secs(2);

/// When to ask again where there is no room now: long enough for some to leave, and spread.
const BUSY_WAIT_SECONDS: std::ops::RangeInclusive<u64> = 3..=12;

/// Which way a session's media goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From the host.
    Whip,
    /// To a viewer.
    Whep,
}

/// Whose session it is.
#[derive(Debug, Clone)]
struct Entry {
    way: Way,
    live: LiveId,
    /// Nobody, for who watches a public live without a token: the session's unguessable id is their right to end it.
    sub: Option<BuyerId>,
    etag: String,
    /// Its place among those of its client's address; nobody's where the client is on this machine.
    _seat: Option<Arc<Seat>>,
}

/// The media sessions that have an HTTP resource. Clones are the same.
///
/// A lock, since requests and the edge's shards both come here; held for a look-up.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<Mutex<HashMap<SessionId, Entry>>>);

impl Sessions {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the edge should report to: a session that has ended has no resource any more.
    pub fn observer(&self) -> Observer {
        let sessions = self.clone();
        Arc::new(move |notice: Notice| {
            if let NoticeKind::Ended { .. } = notice.kind {
                sessions.lock().remove(&notice.session);
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Enters a session whose offer is about to be answered, so that the edge can't report its end before it is here.
    /// `None` where somebody else publishes on the live: looked for under the same lock, so that of two hosts who come
    /// at once one is refused.
    fn enter(&self, id: SessionId, entry: Entry) -> Option<Offered> {
        let mut sessions = self.lock();
        let is_other_host =
            |known: &Entry| known.way == Way::Whip && known.live == entry.live && known.sub != entry.sub;
        if entry.way == Way::Whip && sessions.values().any(is_other_host) {
            return None;
        }
        sessions.insert(id.clone(), entry);
        drop(sessions);
        Some(Offered { sessions: self.clone(), id, answered: false })
    }

    /// Who watches this live without a token.
    pub(crate) fn strangers(&self, live: &LiveId) -> Vec<SessionId> {
        let sessions = self.lock();
        let strangers = sessions
            .iter()
            .filter(|(_, entry)| entry.live == *live && entry.way == Way::Whep && entry.sub.is_none());
        strangers.map(|(id, _)| id.clone()).collect()
    }
}

/// A session whose offer waits for its answer. Dropped before that (the offer was refused, or the client went away) it
/// takes its entry along; afterwards the edge's word of the session's end does.
struct Offered {
    sessions: Sessions,
    id: SessionId,
    answered: bool,
}

impl Offered {
    fn answered(mut self, etag: &str) {
        self.answered = true;
        // It may have ended already.
        if let Some(entry) = self.sessions.lock().get_mut(&self.id) {
            etag.clone_into(&mut entry.etag);
        }
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        if !self.answered {
            self.sessions.lock().remove(&self.id);
        }
    }
}

pub(crate) fn routes() -> Router<App> {
    // The token is the permission: any page may publish and watch that has one.
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_MATCH])
        .expose_headers([LOCATION, ETAG, LINK, RETRY_AFTER])
        .max_age(Duration::from_secs(86_400));
    Router::new()
        .route("/whip/{live}", post(publish))
        .route("/whep/{live}", post(watch))
        .route("/whip/{live}/{session}", patch(trickle).delete(end))
        .route("/whep/{live}/{session}", patch(trickle).delete(end))
        .layer(cors)
}

async fn publish(
    State(app): State<App>,
    Path(live): Path<String>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let live: LiveId = path_id("live", &live)?;
    let host = app.authority.require(bearer(&headers), &live, Role::Host, haul_live::now().wall)?;
    let offer = offer(&headers, body).await?;
    let live = app.lives.ensure(&live, &host.merchant).await?;
    answer(&app, Way::Whip, &live, Some(host), app.sender(&peer, &headers), &offer).await
}

async fn watch(
    State(app): State<App>,
    Path(live): Path<String>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let live: LiveId = path_id("live", &live)?;
    // Waiting for a host who never came before is the same as waiting for one who is away.
    let (live, viewer) = match app.as_watcher(bearer(&headers), &live).await {
        Err(problem) if problem.status == StatusCode::NOT_FOUND => return Err(no_host()),
        found => found?,
    };
    let offer = offer(&headers, body).await?;
    answer(&app, Way::Whep, &live, viewer, app.sender(&peer, &headers), &offer).await
}

async fn answer(
    app: &App,
    way: Way,
    live: &Live,
    viewer: Option<Viewer>,
    client: Option<IpAddr>,
    offer: &str,
) -> Result<Response, Problem> {
    let now = haul_live::now();
    let session = SessionId::generate("s_", now.wall, rand::rng().random());
    let entry = Entry {
        way,
        live: live.id().clone(),
        sub: viewer.map(|viewer| viewer.id),
        etag: String::new(),
        _seat: seat(app, client)?,
    };
    let is_stranger = entry.sub.is_none();
    let offered = app.sessions.enter(session.clone(), entry).ok_or_else(other_host)?;
    let (id, relay) = (live.id().clone(), live.relay().clone());
    let answered = match way {
        Way::Whip => app.edge.publish(session.clone(), id, relay, offer).await,
        Way::Whep => app.edge.watch(session.clone(), id, relay, offer).await,
    };
    app.metrics.offer(way == Way::Whip, answered.as_ref().err());
    let Answer { sdp, etag } = answered?;
    offered.answered(&etag);
    // Who closes the live to strangers afterwards finds this one among them.
    if is_stranger && !live.is_public() {
        app.edge.close(&session).await;
        return Err(AuthError::Missing.into());
    }
    let path = match way {
        Way::Whip => "whip",
        Way::Whep => "whep",
    };
    let location = format!("/{path}/{}/{session}", live.id());
    let mut response =
        (StatusCode::CREATED, [(CONTENT_TYPE, SDP.to_owned()), (LOCATION, location), (ETAG, etag)], sdp)
            .into_response();
    for link in &app.settings.ice_links {
        if let Ok(link) = HeaderValue::from_str(link) {
            response.headers_mut().append(LINK, link);
        }
    }
    Ok(response)
}

/// A place for one more session of this client. This machine itself has as many as it likes: who measures, and a proxy
/// that nobody named, would both look like one greedy client.
fn seat(app: &App, client: Option<IpAddr>) -> Result<Option<Arc<Seat>>, Problem> {
    let Some(client) = client.filter(|client| !client.is_loopback()) else { return Ok(None) };
    match app.session_places.take(Some(client)) {
        Ok(seat) => Ok(Some(Arc::new(seat))),
        Err(_) => {
            let detail = "too many media sessions from your address at once";
            Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_sessions", detail)
                .retry_after(come_back_later()))
        }
    }
}

/// When somebody who was turned away should ask again: not all at the same moment.
fn come_back_later() -> Duration {
    Duration::from_secs(rand::rng().random_range(BUSY_WAIT_SECONDS))
}

/// A session's candidates need no telling: its checks come from where its media will come from. What is asked for
/// beyond that, an ICE restart, is not offered.
async fn trickle(
    State(app): State<App>,
    Path((live, session)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let entry = owned(&app, &live, &session, &headers)?.1;
    expect_type(&headers, SDP_FRAGMENT)?;
    match headers.get(IF_MATCH).map(HeaderValue::as_bytes) {
        None => Ok(StatusCode::NO_CONTENT),
        Some(b"*") => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "no_ice_restart",
            "ICE restarts are not offered: start a new session",
        )),
        Some(tag) if tag == entry.etag.as_bytes() => Ok(StatusCode::NO_CONTENT),
        Some(_) => Err(Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "stale_etag",
            "If-Match names another ICE session",
        )),
    }
}

async fn end(
    State(app): State<App>,
    Path((live, session)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let (session, _) = owned(&app, &live, &session, &headers)?;
    app.sessions.lock().remove(&session);
    if app.edge.close(&session).await { Ok(StatusCode::OK) } else { Err(no_session()) }
}

/// The session, if it is the asker's.
fn owned(app: &App, live: &str, session: &str, headers: &HeaderMap) -> Result<(SessionId, Entry), Problem> {
    let live: LiveId = path_id("live", live)?;
    let session: SessionId = path_id("session", session)?;
    let entry = app.sessions.lock().get(&session).cloned();
    let entry = entry.filter(|entry| entry.live == live).ok_or_else(no_session)?;
    if let Some(sub) = &entry.sub {
        let viewer = app.authority.require(bearer(headers), &live, Role::Viewer, haul_live::now().wall)?;
        if viewer.id != *sub {
            return Err(AuthError::Forbidden { needed: Role::Viewer }.into());
        }
    }
    Ok((session, entry))
}

async fn offer(headers: &HeaderMap, body: Body) -> Result<String, Problem> {
    expect_type(headers, SDP)?;
    let body = to_bytes(body, MAX_OFFER_BYTES).await.map_err(|_| Problem::from(OfferError::TooLarge))?;
    String::from_utf8(body.into()).map_err(|_| OfferError::Malformed("it is not UTF-8".to_owned()).into())
}

fn expect_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        format!("Content-Type: expected {expected}"),
    ))
}

fn no_session() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "no such session, or it has ended")
}

fn other_host() -> Problem {
    let detail = "another host is publishing here: they must end first, or use the same sub";
    Problem::new(StatusCode::CONFLICT, "other_host", detail)
}

fn no_host() -> Problem {
    Problem::new(StatusCode::CONFLICT, "no_host", "the host is not there: ask again").retry_after(HOST_WAIT)
}

impl From<OfferError> for Problem {
    fn from(error: OfferError) -> Self {
        let refuse = |status, code| Problem::new(status, code, error.to_string());
        match &error {
            OfferError::Malformed(_) => refuse(StatusCode::BAD_REQUEST, "malformed_offer"),
            OfferError::TooLarge => refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            OfferError::Codec(_) => refuse(StatusCode::NOT_ACCEPTABLE, "no_common_codec"),
            OfferError::NoBroadcast => no_host(),
            OfferError::Full | OfferError::Busy => {
                refuse(StatusCode::SERVICE_UNAVAILABLE, "busy").retry_after(come_back_later())
            }
            OfferError::Closed => unavailable(error.to_string()),
            OfferError::Internal(reason) => {
                tracing::error!(reason, "a session could not be set up");
                refuse(StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(way: Way, sub: Option<&str>) -> Entry {
        let sub = sub.map(|sub| sub.parse().unwrap());
        Entry { way, live: "demo".parse().unwrap(), sub, etag: String::new(), _seat: None }
    }

    fn id(text: &str) -> SessionId {
        text.parse().unwrap()
    }

    #[test]
    fn an_offer_that_is_not_answered_leaves_nothing_behind() {
        let sessions = Sessions::new();
        let given_up = sessions.enter(id("s_1"), entry(Way::Whip, Some("mia"))).unwrap();
        assert!(sessions.enter(id("s_2"), entry(Way::Whip, Some("eve"))).is_none(), "mia is at it");
        drop(given_up);
        assert!(sessions.lock().is_empty());
        assert!(sessions.enter(id("s_3"), entry(Way::Whip, Some("eve"))).is_some());
    }

    #[test]
    fn an_answered_one_stays_until_the_edge_reports_its_end() {
        let sessions = Sessions::new();
        sessions.enter(id("s_1"), entry(Way::Whip, Some("mia"))).unwrap().answered("\"e\"");
        assert_eq!(sessions.lock()[&id("s_1")].etag, "\"e\"");
        assert!(sessions.enter(id("s_2"), entry(Way::Whip, Some("eve"))).is_none());
        assert!(
            sessions.enter(id("s_3"), entry(Way::Whip, Some("mia"))).is_some(),
            "they take over from themselves"
        );
        assert!(sessions.enter(id("s_4"), entry(Way::Whep, Some("eve"))).is_some());
        sessions.observer()(Notice {
            session: id("s_1"),
            live: "demo".parse().unwrap(),
            role: haul_webrtc::Role::Publisher,
            kind: NoticeKind::Ended { reason: haul_webrtc::EndReason::PeerClosed },
        });
        assert!(sessions.lock().is_empty());
    }

    #[test]
    fn strangers_are_those_who_watch_without_a_token() {
        let sessions = Sessions::new();
        for (name, entry) in [
            ("s_1", entry(Way::Whip, Some("mia"))),
            ("s_2", entry(Way::Whep, Some("ann"))),
            ("s_3", entry(Way::Whep, None)),
            ("s_4", Entry { live: "other".parse().unwrap(), ..entry(Way::Whep, None) }),
        ] {
            sessions.enter(id(name), entry).unwrap().answered("");
        }
        assert_eq!(sessions.strangers(&"demo".parse().unwrap()), [id("s_3")]);
    }
}
