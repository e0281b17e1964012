//! The websocket of a live: who is there, what they may send, and what waits for them.

mod frames;
mod socket;
mod wire;

use std::{ops::ControlFlow, time::Duration};

use axum::{
    Router,
    extract::{Path, Request as HttpRequest, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use haul_live::{Connection, Inbox, LiveError};
use haul_model::{LiveId, Locale, Role, UnixMillis, Viewer};
use haul_room::{Limiter, Rate};
use haul_wire::{Code, Failure, Position, Request, SUBPROTOCOL, close, encode_failure, parse};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{
    self, Message, Utf8Bytes,
    error::CapacityError,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::{
    app::{App, ChannelPlace, Peer, unavailable},
    auth::{AuthError, bearer},
    channel::socket::Socket,
    guard::Guard,
    problem::Problem,
    quality,
    shop::Visit,
};

/// How long a client may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// A ping after so much silence, and the end after twice that.
const PING_AFTER: Duration = Duration::from_secs(25);
/// Requests of one connection: a burst, then this many a second.
const REQUESTS: Rate = Rate { burst: 60, every: Duration::from_millis(50) };
/// Refusals for sending too fast are merged to one in this time, so that a flood costs no flood of replies.
const REFUSE_EVERY: Duration = Duration::from_secs(1);
/// Messages that were no request, or came too fast, before a connection is closed.
const MAX_OFFENCES: u32 = 5_000;
/// How long, and for how many messages, the other side is still listened to after a close frame.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER_MESSAGES: usize = 20_000;
/// A token's end is looked at again after so much time at most: the clock may have been set meanwhile.
const EXPIRY_CHECK_EVERY: Duration = Duration::from_secs(3600);
/// Writes, of some kilobytes each, before a connection that is to end does so, whatever else waits.
const MAX_LAST_WRITES: usize = 16;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/channel/{live}", get(upgrade))
}

async fn upgrade(
    State(app): State<App>,
    Path(live): Path<String>,
    Peer(peer): Peer,
    headers: HeaderMap,
    mut request: HttpRequest,
) -> Result<Response, Problem> {
    let live: LiveId = crate::app::path_id("live", &live)?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !app.settings.origins.allows(text(&ORIGIN), text(&HOST)) {
        let detail = "this page's origin may not connect: see http.allowed_origins";
        return Err(Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail));
    }
    let offered = text(&SEC_WEBSOCKET_PROTOCOL);
    if offered.is_some_and(|offered| !offered.split(',').any(|name| name.trim() == SUBPROTOCOL)) {
        let detail = format!("Sec-WebSocket-Protocol: expected {SUBPROTOCOL}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail));
    }
    // Native clients say who they are at once; browsers can't, and do so in their first message.
    let viewer = match bearer(&headers) {
        Some(token) => Some(app.authority.verify(token, &live, haul_live::now().wall)?),
        None => None,
    };
    if *app.draining().borrow() {
        return Err(unavailable("the server is going away"));
    }
    let place = app.channel_place().ok_or_else(|| unavailable("no room for another connection"))?;
    let client = peer.map(|peer| app.client(peer, &headers));
    let device = bearer(&headers).and_then(|token| app.authority.device(token));
    tracing::debug!(%live, ?client, "channel opened");
    let (response, upgrade) = match socket::upgrade(&mut request) {
        Ok(upgraded) => upgraded,
        Err(error) => return Ok(no_websocket(&error)),
    };
    tokio::spawn(async move {
        match upgrade.socket(app.metrics.sent()).await {
            Ok(socket) => {
                let guard = Guard { live: live.clone(), viewer: viewer.clone(), device, address: client };
                Channel { app, socket, guard, _place: place }.serve(live, viewer).await;
            }
            Err(error) => tracing::debug!(%live, %error, "channel not opened"),
        }
    });
    Ok(response)
}

/// Whoever asks for a channel with anything but a websocket's handshake is told what to send.
fn no_websocket(error: &tungstenite::Error) -> Response {
    let detail = format!("a websocket's handshake is expected (RFC 6455, 4.1): {error}");
    let mut response = Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail).into_response();
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

struct Channel {
    app: App,
    socket: Socket,
    /// Who is there, for what their requests are looked at for.
    guard: Guard,
    _place: ChannelPlace,
}

/// Why a channel ends: what to close it with, if there is still somebody to tell.
type End = Option<(u16, &'static str)>;

/// What the first message said.
struct Hello {
    id: u64,
    token: Option<String>,
    resume: Option<Position>,
    locale: Option<Locale>,
    referrer: Option<String>,
}

impl Channel {
    async fn serve(mut self, live: LiveId, viewer: Option<Viewer>) {
        let end = match self.hello(live, viewer).await {
            Ok((connection, expires_at, visit)) => self.converse(connection, expires_at, &visit).await,
            Err(end) => end,
        };
        if let Some((code, reason)) = end {
            let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static(reason) };
            if self.socket.send(Message::Close(Some(frame))).await {
                self.linger().await;
            }
        }
    }

    /// Reads on until the other side has closed, too. A socket that is dropped with something unread resets the
    /// connection, and whoever sent too much would not see why they are put out.
    async fn linger(&mut self) {
        let _ = timeout(LINGER, async {
            for _ in 0..MAX_LINGER_MESSAGES {
                if !matches!(self.socket.recv().await, Some(Ok(_))) {
                    break;
                }
            }
        })
        .await;
    }

    /// The first message: who is there, and until when, if their token says so.
    async fn hello(
        &mut self,
        live: LiveId,
        viewer: Option<Viewer>,
    ) -> Result<(Connection, Option<UnixMillis>, Visit), End> {
        let expected = Some((close::HELLO_EXPECTED, "hello expected within 5 s"));
        let Hello { id, token, resume, locale, referrer } =
            timeout(HELLO_WITHIN, self.read_hello()).await.map_err(|_| expected)??;
        let viewer = match token.as_deref().filter(|token| !token.is_empty()) {
            Some(token) => match self.app.authority.verify(token, &live, haul_live::now().wall) {
                Ok(viewer) => {
                    self.guard.device = self.app.authority.device(token);
                    Some(viewer)
                }
                Err(error) => return Err(self.refuse(id, &error).await),
            },
            None => viewer,
        };
        let found = match &viewer {
            // A host may open the studio before the first broadcast.
            Some(viewer) if viewer.role.includes(Role::Host) => {
                self.app.lives.ensure(&live, &viewer.merchant).await
            }
            _ => self.app.lives.get(&live).await,
        };
        let live = match found {
            Ok(live) => live,
            Err(LiveError::Unknown) if viewer.is_none() => {
                return Err(self.refuse(id, &AuthError::Missing).await);
            }
            Err(LiveError::Unknown) => {
                let failure = Failure::new(Code::NotFound, "the live has not begun").retry_after(2_000);
                self.say(encode_failure(Some(id), &failure)).await;
                return Err(Some((close::NOT_FOUND, "no such live")));
            }
            Err(LiveError::Foreign) => return Err(self.refuse(id, &AuthError::WrongLive).await),
            Err(error @ (LiveError::Full | LiveError::Ledger(_))) => {
                let failure = Failure::new(Code::Unavailable, error.to_string()).retry_after(1_000);
                self.say(encode_failure(Some(id), &failure)).await;
                return Err(Some((close::FULL, "try later")));
            }
        };
        let may = match &viewer {
            Some(viewer) => crate::app::same_merchant(&live, viewer),
            None if live.is_public() => Ok(()),
            None => Err(AuthError::Missing),
        };
        match may {
            Ok(()) => {
                let expires_at = viewer.as_ref().map(|viewer| viewer.expires_at);
                self.guard.viewer = viewer.clone();
                let visit = Visit::begin(&self.app, &live, viewer.as_ref(), referrer, resume.is_some());
                Ok((live.connect(id, viewer, locale, resume), expires_at, visit))
            }
            Err(error) => Err(self.refuse(id, &error).await),
        }
    }

    async fn read_hello(&mut self) -> Result<Hello, End> {
        loop {
            let text = match self.socket.recv().await {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Binary(_))) => return Err(Some((close::HELLO_EXPECTED, "hello expected"))),
                Some(Ok(Message::Close(_))) | None => return Err(None),
                Some(Err(error)) => return Err(self.broken(&error)),
            };
            self.app.metrics.message_in();
            match parse(&text) {
                Ok((id, Request::Hello { token, resume, locale, referrer })) => {
                    return Ok(Hello { id, token, resume, locale, referrer });
                }
                Ok((id, _)) => {
                    let failure = Failure::new(Code::BadRequest, "hello: expected as the first message");
                    self.say(encode_failure(Some(id), &failure)).await;
                }
                Err(error) => self.say(encode_failure(error.id(), &unreadable(&error))).await,
            }
            return Err(Some((close::HELLO_EXPECTED, "hello expected")));
        }
    }

    /// From the welcome to the end.
    async fn converse(
        &mut self,
        connection: Connection,
        expires_at: Option<UnixMillis>,
        visit: &Visit,
    ) -> End {
        let inbox = connection.inbox();
        if let Some(pen) = self.socket.pen() {
            inbox.write_with(pen);
        }
        let mut draining = self.app.draining();
        let mut manners = Manners::new(self.guard.clone());
        // It may have begun while this client said hello.
        if *draining.borrow_and_update() {
            return self.go_away(&inbox).await;
        }
        let mut heard_at = Instant::now();
        let mut pinged_at = None;
        // One timer for all that comes by itself. It is moved when it fires, and not with each message.
        let look_at = sleep_until((heard_at + PING_AFTER).min(next_expiry_check(expires_at)));
        let drained = draining.changed();
        tokio::pin!(look_at, drained);
        loop {
            tokio::select! {
                () = inbox.news() => {
                    if let ControlFlow::Break(end) = self.write(&inbox).await {
                        return end;
                    }
                }
                message = self.socket.recv() => {
                    heard_at = Instant::now();
                    pinged_at = None;
                    let text = match message {
                        Some(Ok(Message::Text(text))) => Some(text),
                        Some(Ok(Message::Binary(_))) => None,
                        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                        Some(Ok(Message::Close(_))) | None => return None,
                        Some(Err(error)) => return self.broken(&error),
                    };
                    self.app.metrics.message_in();
                    let taken = manners.take(text.as_ref().map(Utf8Bytes::as_str), &self.app, &connection, visit);
                    // In a box, since most of the time there is none: what may wait for the merchant is large.
                    if let ControlFlow::Break(end) = Box::pin(taken).await {
                        return end;
                    }
                    if manners.offended() {
                        self.app.metrics.message_refused();
                    }
                }
                () = &mut look_at => {
                    let now = Instant::now();
                    if expires_at.is_some_and(|at| at <= haul_live::now().wall) {
                        return Some((close::UNAUTHORIZED, "the token has expired"));
                    }
                    match pinged_at {
                        Some(at) if now >= at + PING_AFTER => return None,
                        None if now >= heard_at + PING_AFTER => {
                            pinged_at = Some(now);
                            if !self.socket.send(Message::Ping(bytes::Bytes::new())).await {
                                return None;
                            }
                        }
                        _ => {}
                    }
                    let next = pinged_at.unwrap_or(heard_at) + PING_AFTER;
                    look_at.as_mut().reset(next.min(next_expiry_check(expires_at)));
                }
                _ = &mut drained => return self.go_away(&inbox).await,
            }
        }
    }

    async fn go_away(&mut self, inbox: &Inbox) -> End {
        // What waits includes the word of when to come back, once the owner has said it.
        let _ = timeout(Duration::from_secs(1), inbox.news()).await;
        let _ = self.write(inbox).await;
        Some((CloseCode::Away.into(), "the server is going away"))
    }

    /// Writes of what waits as much as goes at once; the rest when the other direction has had its turn.
    async fn write(&mut self, inbox: &Inbox) -> ControlFlow<End> {
        let ended = inbox.ended();
        let mut writes = 0;
        loop {
            let Ok(all) = self.socket.write(inbox).await else {
                return ControlFlow::Break(None);
            };
            writes += 1;
            if inbox.overflown() {
                return ControlFlow::Break(Some((close::TOO_SLOW, "too slow: connect again and resume")));
            }
            match ended {
                // They are told why, if that is soon.
                Some(_) if !all && writes < MAX_LAST_WRITES => {}
                None if !all => {
                    inbox.look_again();
                    break;
                }
                _ => break,
            }
        }
        if let Some(code) = ended {
            let reason = match code {
                close::BANNED => "you are banned from this live",
                close::UNAUTHORIZED => "a token is needed now",
                _ => "the live restarts",
            };
            return ControlFlow::Break(Some((code, reason)));
        }
        ControlFlow::Continue(())
    }

    async fn refuse(&mut self, id: u64, error: &AuthError) -> End {
        let (code, close) = match error {
            AuthError::Missing | AuthError::Invalid | AuthError::Expired => {
                (Code::Unauthorized, close::UNAUTHORIZED)
            }
            AuthError::WrongLive | AuthError::Forbidden { .. } => (Code::Forbidden, close::FORBIDDEN),
        };
        self.say(encode_failure(Some(id), &Failure::new(code, error.to_string()))).await;
        Some((close, "see the error before"))
    }

    /// The other side broke the protocol, or the connection.
    fn broken(&self, error: &tungstenite::Error) -> End {
        self.app.metrics.message_refused();
        let too_big = matches!(error, tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }));
        too_big.then_some((CloseCode::Size.into(), "a message may have at most 8 KiB"))
    }

    async fn say(&mut self, text: String) {
        self.socket.send(Message::Text(text.into())).await;
    }
}

/// When to look at a token's end: then, or before.
fn next_expiry_check(expires_at: Option<UnixMillis>) -> Instant {
    let left = expires_at.map_or(EXPIRY_CHECK_EVERY, |at| at.saturating_since(haul_live::now().wall));
    Instant::now() + left.min(EXPIRY_CHECK_EVERY)
}

/// How well a client behaves.
struct Manners {
    guard: Guard,
    requests: Limiter<()>,
    refused_at: Option<Instant>,
    offences: u32,
    offended: bool,
}

impl Manners {
    fn new(guard: Guard) -> Self {
        Self { guard, requests: Limiter::new(REQUESTS), refused_at: None, offences: 0, offended: false }
    }

    /// Whether the last message was refused here.
    fn offended(&self) -> bool {
        self.offended
    }

    /// Hands a message on, or refuses it; `None` is one that is not text.
    async fn take(
        &mut self,
        text: Option<&str>,
        app: &App,
        connection: &Connection,
        visit: &Visit,
    ) -> ControlFlow<End> {
        self.offended = true;
        if let Err(wait) = self.requests.take((), std::time::Instant::now()) {
            let failure = Failure::new(Code::RateLimited, "too many messages: slow down")
                .retry_after(wait.as_millis() as u64 + 1);
            return self.refuse(connection, None, &failure);
        }
        let Some(text) = text else {
            let failure = Failure::new(Code::BadRequest, "expected text, not bytes");
            return self.refuse(connection, None, &failure);
        };
        match parse(text) {
            Ok((id, request)) => {
                self.offended = false;
                match request {
                    Request::QualitySet { session, layer } => {
                        quality::set(app, connection, id, session, layer).await;
                    }
                    request => match self.look(app, visit, &request).await {
                        Ok(()) => {
                            self.guard.note(app, text);
                            connection.request(id, request).await;
                        }
                        Err(failure) => connection.refuse(Some(id), &failure),
                    },
                }
                ControlFlow::Continue(())
            }
            Err(error) => self.refuse(connection, error.id(), &unreadable(&error)),
        }
    }

    /// Whether a request may be handed on, by all who look at it before.
    async fn look(&self, app: &App, visit: &Visit, request: &Request) -> Result<(), Failure> {
        self.guard.admit(app, request).await?;
        visit.see(app, request).await
    }

    fn refuse(&mut self, connection: &Connection, id: Option<u64>, failure: &Failure) -> ControlFlow<End> {
        self.offences += 1;
        if self.offences > MAX_OFFENCES {
            return ControlFlow::Break(Some((close::FLOOD, "too many messages refused")));
        }
        let now = Instant::now();
        let merged = failure.code == Code::RateLimited
            && self.refused_at.is_some_and(|at| now.duration_since(at) < REFUSE_EVERY);
        if !merged {
            if failure.code == Code::RateLimited {
                self.refused_at = Some(now);
            }
            connection.refuse(id, failure);
        }
        ControlFlow::Continue(())
    }
}

fn unreadable(error: &haul_wire::ParseError) -> Failure {
    let code = match error {
        haul_wire::ParseError::UnknownType { .. } => Code::UnknownType,
        _ => Code::BadRequest,
    };
    Failure::new(code, error.to_string())
}
