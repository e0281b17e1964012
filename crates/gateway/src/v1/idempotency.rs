//! Requests that may be asked again: a POST with an `Idempotency-Key` is carried out once, and asked again within a day it
//! is answered as before (draft-ietf-httpapi-idempotency-key-header).

use std::time::Duration;

use axum::{
    Extension,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{CONTENT_TYPE, HeaderName as Name},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use haul_commerce::keys::{Answered, Asked, Known, MAX_IDEMPOTENCY_KEY_BYTES, hash};
use haul_model::{MerchantId, UnixMillis};
use rand::RngExt;

use crate::{app::App, auth::bearer, problem::Problem, rest::bad_request};

/// The header.
pub(crate) const IDEMPOTENCY_KEY: Name = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
const REPLAYED: Name = HeaderName::from_static("idempotent-replayed");
/// The largest body of a request with a key, and the largest answer that is kept.
const MAX_REQUEST_BYTES: usize = 2 * 1024 * 1024;
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// In the extensions of a response with a secret in it, which is not kept for everybody to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secret;

/// What an answer begins with that is kept hidden: no JSON does.
const HIDDEN: &str = "hidden:";

/// Middleware for all of `/v1`.
pub(crate) async fn once(State(app): State<App>, request: Request, next: Next) -> Response {
    match begin(app, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn begin(app: App, request: Request, next: Next) -> Result<Response, Problem> {
    let applies = request.method() == Method::POST && request.uri().path().starts_with("/v1/");
    let Some(key) = request.headers().get(IDEMPOTENCY_KEY).filter(|_| applies) else {
        return Ok(next.run(request).await);
    };
    let key = key.to_str().map(str::to_owned).unwrap_or_default();
    if key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY_BYTES {
        return Err(bad_request(format!(
            "Idempotency-Key: expected 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible characters"
        )));
    }
    // Who may not ask is told so by whoever answers.
    let Some((merchant, actor)) = asker(&app, request.headers()).await? else {
        return Ok(next.run(request).await);
    };
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_REQUEST_BYTES)
        .await
        .map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large"))?;
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let asked =
        Asked { merchant, actor, key, request: hash(&[target.as_bytes(), &body]), at: haul_live::now().wall };
    match app.backoffice.begin_request(&asked).await? {
        Known::New => {}
        Known::Answered(answer) => return Ok(again(revealed(&app, answer)?)),
        Known::Running => {
            let detail = "a request with this Idempotency-Key is being carried out";
            return Err(Problem::new(StatusCode::CONFLICT, "idempotency_in_progress", detail)
                .retry_after(Duration::from_secs(1)));
        }
        Known::Other => {
            let detail = "this Idempotency-Key was used for another request: take a new one";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail));
        }
        Known::Full => {
            let detail = "too many requests with an Idempotency-Key within a day";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
                .retry_after(Duration::from_secs(3600)));
        }
    }
    // By itself, so that who hangs up does not leave it half done.
    let carried_out = tokio::spawn(async move {
        let mut request = Request::from_parts(parts, Body::from(body));
        request.extensions_mut().insert(asked.clone());
        let response = next.run(request).await;
        keep(&app, &asked, response).await
    });
    carried_out.await.map_err(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server could not do it")
    })
}

/// How long a key stands for its request.
const KEY_LASTS: Duration = Duration::from_secs(24 * 3600);
/// The most days on which one key stood for a request of one kind; beyond that, ids are random.
const MAX_DAYS: u32 = 64;

/// Ids for what a request makes, of a time and random bits: the first that is free, or that [`stands`]. Where the answer was lost
/// with a server and it is asked again, it makes the same once more: `asked` says which request it is, if it has a key.
pub(super) fn new_ids<I>(
    asked: Option<Extension<Asked>>,
    make: impl Fn(UnixMillis, u128) -> I,
) -> impl Iterator<Item = I> {
    let mut day = 0u32;
    std::iter::from_fn(move || {
        let keyed = asked.as_ref().filter(|_| day < MAX_DAYS);
        let Some(Extension(Asked { merchant, actor, key, request, at: _ })) = keyed else {
            return Some(make(haul_live::now().wall, rand::rng().random()));
        };
        let parts = [merchant.as_str(), actor, key, request, &day.to_string()];
        let bits = hash(&parts.map(str::as_bytes));
        day += 1;
        Some(make(UnixMillis(0), u128::from_str_radix(&bits[..32], 16).expect("a hash is hexadecimal")))
    })
}

/// Whether what was made then is still what its request makes: a day later, the key stands for another request.
pub(super) fn stands(made_at: UnixMillis) -> bool {
    haul_live::now().wall < made_at + KEY_LASTS
}

/// Whose request it is, if they have a valid key or token.
async fn asker(app: &App, headers: &HeaderMap) -> Result<Option<(MerchantId, String)>, Problem> {
    if let Some(key) = app.api_key(headers).await? {
        return Ok(Some((key.merchant.clone(), key.id.to_string())));
    }
    let subject = bearer(headers).map(|token| app.authority.bearer(token, haul_live::now().wall));
    Ok(subject.and_then(Result::ok).map(|(merchant, sub, _)| (merchant, sub.to_string())))
}

/// Keeps an answer, unless the request may as well be asked anew: it was not carried out, or asking again may do.
async fn keep(app: &App, asked: &Asked, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, MAX_REQUEST_BYTES).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let status = parts.status;
    let for_good = !status.is_server_error()
        && status != StatusCode::TOO_MANY_REQUESTS
        && status != StatusCode::UNAUTHORIZED
        && status != StatusCode::FORBIDDEN;
    let text = std::str::from_utf8(&body).ok().filter(|text| for_good && text.len() <= MAX_ANSWER_BYTES);
    let secret = parts.extensions.get::<Secret>().is_some();
    let kept = text.and_then(|text| match secret {
        true => app.touches.seal().hide(text).map(|hidden| format!("{HIDDEN}{hidden}")),
        false => Some(text.to_owned()),
    });
    let answer = kept.map(|body| Answered {
        status: status.as_u16(),
        content_type: content_type(&parts.headers).to_owned(),
        body,
    });
    if let Err(error) = app.backoffice.end_request(asked, answer.as_ref()).await {
        tracing::warn!(%error, "an answer was not kept: asked again, it is carried out again");
    }
    Response::from_parts(parts, Body::from(body))
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// An answer as it was given.
fn revealed(app: &App, answer: Answered) -> Result<Answered, Problem> {
    let Some(hidden) = answer.body.strip_prefix(HIDDEN) else { return Ok(answer) };
    let body = app.touches.seal().reveal(hidden).ok_or_else(|| {
        let detail =
            "this was carried out, and its answer can't be read any more: the server's secret has changed";
        Problem::new(StatusCode::CONFLICT, "answer_lost", detail)
    })?;
    Ok(Answered { body, ..answer })
}

fn again(Answered { status, content_type, body }: Answered) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = (status, Bytes::from(body)).into_response();
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    if let Ok(value) = HeaderValue::from_str(&content_type)
        && !content_type.is_empty()
    {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
