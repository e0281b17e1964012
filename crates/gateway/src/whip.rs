//! WHIP (RFC 9725) and WHEP: offers in, answers out, one resource a session, which takes fragments about ICE and its end.

use std::{net::IpAddr, ops::RangeInclusive, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{
            ACCESS_CONTROL_REQUEST_METHOD, ALLOW, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, LINK,
            LOCATION, RETRY_AFTER,
        },
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{patch, post},
};
use haul_live::Live;
use haul_model::{LiveId, Now, Role, SessionId, Viewer};
use haul_webrtc::{
    Answer, Condition, IceError, IceUpdate, MAX_OFFER_BYTES, OfferError, Seat,
    sdpfrag::{Fragment, FragmentError, MAX_FRAGMENT_BYTES},
};
use rand::RngExt;
use tower_http::cors::{Any, CorsLayer};

use crate::{
    app::{App, Peer, path_id, unavailable},
    auth::{AuthError, bearer},
    problem::Problem,
    session::{CONNECTING, Entry, Taken, Way},
};

/// An SDP offer or answer (RFC 8866).
const SDP: &str = "application/sdp";
/// A piece of SDP about ICE (RFC 8840).
const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// When to ask again for a live whose host is not there.
const HOST_WAIT: Duration = Duration::from_secs(2);
/// When to ask again where there is no room now: long enough for some to leave, and spread.
const BUSY_WAIT_SECONDS: RangeInclusive<u64> = 3..=12;

pub(crate) fn routes(app: App) -> Router<App> {
    // The token is the permission: any page may publish and watch that has one.
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_MATCH])
        .expose_headers([LOCATION, ETAG, LINK, RETRY_AFTER, ACCEPT_POST, ACCEPT_PATCH, ALLOW])
        .max_age(Duration::from_secs(86_400));
    Router::new()
        .route("/whip/{live}", post(publish))
        .route("/whep/{live}", post(watch))
        .route("/whip/{live}/{session}", patch(update_ice).delete(end))
        .route("/whep/{live}/{session}", patch(update_ice).delete(end))
        .layer(cors)
        .layer(from_fn_with_state(app, tell_options))
}

async fn publish(
    State(app): State<App>,
    Path(live): Path<String>,
    peer: Peer,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let live: LiveId = path_id("live", &live)?;
    let token = token(&headers, &uri);
    let host = app.authority.require(token, &live, Role::Host, haul_live::now().wall)?;
    let offer = offer(&headers, body).await?;
    let live = app.lives.ensure(&live, &host.merchant).await?;
    answer(&app, Way::Whip, &live, Some(host), app.sender(&peer, &headers), &offer, &uri).await
}

async fn watch(
    State(app): State<App>,
    Path(live): Path<String>,
    peer: Peer,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let live: LiveId = path_id("live", &live)?;
    // Waiting for a host who never came before is the same as waiting for one who is away.
    let (live, viewer) = match app.as_watcher(token(&headers, &uri), &live).await {
        Err(problem) if problem.status == StatusCode::NOT_FOUND => return Err(no_host()),
        found => found?,
    };
    let offer = offer(&headers, body).await?;
    answer(&app, Way::Whep, &live, viewer, app.sender(&peer, &headers), &offer, &uri).await
}

async fn answer(
    app: &App,
    way: Way,
    live: &Live,
    viewer: Option<Viewer>,
    client: Option<IpAddr>,
    offer: &str,
    uri: &Uri,
) -> Result<Response, Problem> {
    let now = haul_live::now();
    let session = SessionId::generate("s_", now.wall, rand::rng().random());
    // A viewer's picture ends with their token. A host's does not: a show must not be cut because it runs longer than
    // somebody thought. Their token has to be valid when they begin.
    let ends = viewer.as_ref().and_then(|viewer| deadline(now, viewer));
    let sub = viewer.map(|viewer| viewer.id);
    let entry = Entry { way, live: live.id().clone(), sub, listener: None, _seat: seat(app, client)? };
    let is_stranger = entry.sub.is_none();
    let entered = app.sessions.enter(session.clone(), entry, app.settings.takeover, now.instant);
    let offered = entered.map_err(taken)?;
    let (id, relay) = (live.id().clone(), live.relay().clone());
    let answered = match way {
        Way::Whip => app.edge.publish(session.clone(), id, relay, offer).await,
        Way::Whep => app.edge.watch_until(session.clone(), id, relay, offer, ends).await,
    };
    app.metrics.offer(way == Way::Whip, answered.as_ref().err());
    let Answer { sdp, etag } = answered?;
    match offered.answered() {
        Ok(former) => {
            for session in former {
                app.edge.close(&session).await;
            }
        }
        Err(why) => {
            app.edge.close(&session).await;
            return Err(taken(why));
        }
    }
    // Who closes the live to strangers afterwards finds this one among them.
    if is_stranger && !live.is_public() {
        app.edge.close(&session).await;
        return Err(AuthError::Missing.into());
    }
    let location = location(&app.settings.public_url, way, live.id(), &session, uri);
    let mut response =
        (StatusCode::CREATED, [(CONTENT_TYPE, SDP.to_owned()), (LOCATION, location), (ETAG, etag)], sdp)
            .into_response();
    tell_ice_servers(&mut response, app.settings.ice_links.iter());
    Ok(response)
}

/// A place for one more session of this client. This machine itself has as many as it likes: who measures, and a proxy
/// that nobody named, would both look like one greedy client.
pub(crate) fn seat(app: &App, client: Option<IpAddr>) -> Result<Option<Arc<Seat>>, Problem> {
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

/// Candidates (trickle ICE) and ICE restarts: RFC 9725, 4.3.
async fn update_ice(
    State(app): State<App>,
    Path((live, session)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (session, entry) = owned(&app, &live, &session, &headers, &uri)?;
    expect_type(&headers, SDP_FRAGMENT)?;
    let condition = condition(&headers);
    // Players in use tell of their candidates without it.
    if condition == Condition::None && entry.way == Way::Whip {
        return Err(IceError::ConditionNeeded.into());
    }
    let body = to_bytes(body, MAX_FRAGMENT_BYTES).await.map_err(|_| FragmentError::TooLarge)?;
    let text = std::str::from_utf8(&body).map_err(|_| FragmentError::Malformed("it is not UTF-8"))?;
    match app.edge.update_ice(&session, condition, Fragment::parse(text)?).await? {
        IceUpdate::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
        IceUpdate::Restarted { fragment, etag } => {
            Ok(([(CONTENT_TYPE, SDP_FRAGMENT.to_owned()), (ETAG, etag)], fragment).into_response())
        }
    }
}

async fn end(
    State(app): State<App>,
    Path((live, session)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let (session, _) = owned(&app, &live, &session, &headers, &uri)?;
    app.sessions.forget(&session);
    if app.edge.close(&session).await { Ok(StatusCode::OK) } else { Err(no_session()) }
}

/// What may be done here, in the answers to OPTIONS (RFC 9725, 4.2). The rest of those is CORS.
async fn tell_options(State(app): State<App>, request: Request, next: Next) -> Response {
    let asks = request.method() == Method::OPTIONS;
    let is_preflight = request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let is_endpoint = request.uri().path().split('/').filter(|part| !part.is_empty()).count() == 2;
    let mut response = next.run(request).await;
    if !asks || !response.status().is_success() {
        return response;
    }
    let headers = response.headers_mut();
    let (accepts, what, methods) = match is_endpoint {
        true => (ACCEPT_POST, SDP, "POST, OPTIONS"),
        false => (ACCEPT_PATCH, SDP_FRAGMENT, "PATCH, DELETE, OPTIONS"),
    };
    headers.insert(accepts, HeaderValue::from_static(what));
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    if is_endpoint && !is_preflight {
        // Not to preflights (4.6), and to who has shown no token only what is no secret.
        tell_ice_servers(
            &mut response,
            app.settings.ice_links.iter().filter(|link| !link.contains("credential")),
        );
    }
    response
}

/// STUN and TURN servers (RFC 9725, 4.6).
fn tell_ice_servers<'a>(response: &mut Response, links: impl Iterator<Item = &'a String>) {
    for link in links {
        if let Ok(link) = HeaderValue::from_str(link) {
            response.headers_mut().append(LINK, link);
        }
    }
}

/// The session, if it is the asker's. That their token was valid when they began is enough: a host whose token has run
/// out since may still move to another network, and end.
fn owned(
    app: &App,
    live: &str,
    session: &str,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<(SessionId, Entry), Problem> {
    let live: LiveId = path_id("live", live)?;
    let session: SessionId = path_id("session", session)?;
    let way = if uri.path().starts_with("/whip/") { Way::Whip } else { Way::Whep };
    let entry = app.sessions.find(&session, &live, way).ok_or_else(no_session)?;
    if let Some(sub) = &entry.sub {
        let viewer = app.authority.identify(token(headers, uri).ok_or(AuthError::Missing)?, &live)?;
        if viewer.id != *sub {
            return Err(AuthError::Forbidden { needed: Role::Viewer }.into());
        }
    }
    Ok((session, entry))
}

/// The token: in the `Authorization` header, or, from players that can set none, in the query as `jwt`.
fn token<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    bearer(headers).or_else(|| query_token(uri))
}

fn query_token(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("jwt="))
}

/// Where the session's resource is: under the name that clients know, where a proxy hides it; else as they came.
fn location(public_url: &str, way: Way, live: &LiveId, session: &SessionId, uri: &Uri) -> String {
    let path = match way {
        Way::Whip => "whip",
        Way::Whep => "whep",
    };
    // Who could set no header to come in can set none to leave.
    match query_token(uri) {
        Some(token) => format!("{public_url}/{path}/{live}/{session}?jwt={token}"),
        None => format!("{public_url}/{path}/{live}/{session}"),
    }
}

/// When a viewer's time is over; `None` if that is later than clocks count.
pub(crate) fn deadline(now: Now, viewer: &Viewer) -> Option<std::time::Instant> {
    now.instant.checked_add(Duration::from_millis(viewer.expires_at.0.saturating_sub(now.wall.0)))
}

/// The `If-Match` headers, which are one list (RFC 9110, 13.1.1). Weak tags stay as they are and match nothing.
fn condition(headers: &HeaderMap) -> Condition {
    let values = headers.get_all(IF_MATCH).iter().map(|value| value.to_str().unwrap_or_default());
    let tags: Vec<String> =
        values.flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect();
    match &tags[..] {
        [] => Condition::None,
        tags if tags.iter().any(|tag| tag == "*") => Condition::Any,
        _ => Condition::Tags(tags),
    }
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

pub(crate) fn taken(taken: Taken) -> Problem {
    let detail = match taken {
        Taken::ByOther => "another host is publishing here: they must end first, or use the same sub",
        Taken::OnAir => "a session is publishing here: it must end first",
        Taken::Connecting => "another host is just connecting here: ask again",
    };
    let problem = Problem::new(StatusCode::CONFLICT, "other_host", detail);
    if taken == Taken::Connecting { problem.retry_after(CONNECTING) } else { problem }
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
            OfferError::Shape(_) => refuse(StatusCode::NOT_ACCEPTABLE, "unsupported_offer"),
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

impl From<FragmentError> for Problem {
    fn from(error: FragmentError) -> Self {
        let (status, code) = match error {
            FragmentError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            FragmentError::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed_fragment"),
        };
        Problem::new(status, code, error.to_string())
    }
}

impl From<IceError> for Problem {
    fn from(error: IceError) -> Self {
        let (status, code) = match error {
            IceError::NoSession => return no_session(),
            IceError::Busy => return unavailable(error.to_string()),
            IceError::Stale => (StatusCode::PRECONDITION_FAILED, "stale_etag"),
            IceError::ConditionNeeded => (StatusCode::PRECONDITION_REQUIRED, "if_match_needed"),
            IceError::HalfRestart => (StatusCode::BAD_REQUEST, "malformed_fragment"),
            IceError::NotConnected => (StatusCode::CONFLICT, "not_connected"),
        };
        Problem::new(status, code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_is_a_list_of_tags_or_a_star() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_MATCH, HeaderValue::from_static(value));
            }
            condition(&headers)
        };
        let tags = |tags: &[&str]| Condition::Tags(tags.iter().map(|tag| (*tag).to_owned()).collect());
        assert_eq!(read(&[]), Condition::None);
        assert_eq!(read(&["*"]), Condition::Any);
        assert_eq!(read(&["\"a\", \"b\"", "\"c\""]), tags(&["\"a\"", "\"b\"", "\"c\""]));
        assert_eq!(read(&["W/\"a\""]), tags(&["W/\"a\""]), "which is no strong tag of ours");
        assert_eq!(read(&[""]), tags(&[""]), "there, and it matches nothing");
    }

    #[test]
    fn a_token_may_come_in_the_query_and_then_goes_with_the_sessions_url() {
        let (live, session) = ("demo".parse().unwrap(), "s_1".parse().unwrap());
        let at = |public: &str, uri: &'static str| {
            location(public, Way::Whep, &live, &session, &Uri::from_static(uri))
        };
        assert_eq!(at("", "/whep/demo"), "/whep/demo/s_1");
        assert_eq!(at("", "/whep/demo?x=1&jwt=a.b.c"), "/whep/demo/s_1?jwt=a.b.c");
        assert_eq!(
            at("https://live.example/media", "/whep/demo"),
            "https://live.example/media/whep/demo/s_1"
        );
        let uri = Uri::from_static("/whep/demo?jwt=query");
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers, &uri), Some("query"));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer header"));
        assert_eq!(token(&headers, &uri), Some("header"));
        assert_eq!(token(&HeaderMap::new(), &Uri::from_static("/whep/demo")), None);
    }
}
