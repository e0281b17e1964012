//! Pages and their files, out of the binary.

use axum::{
    Router,
    extract::{Path, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
        header::{
            ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
            IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use haul_model::{LiveId, PaymentId};
use haul_web::Asset;

use crate::{
    app::{App, path_id},
    problem::Problem,
};

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(home))
        .route("/watch/{live}", get(watch))
        .route("/studio/{live}", get(studio))
        .route("/sandbox/pay/{payment}", get(pay))
        .route("/docs", get(docs))
        .route("/assets/{*path}", get(asset))
        .route("/favicon.ico", get(|| async { Redirect::permanent("/assets/favicon.svg") }))
}

async fn home(State(app): State<App>) -> Redirect {
    match &app.settings.demo {
        Some(demo) => Redirect::temporary(&format!("/watch/{demo}")),
        None => Redirect::temporary("/docs"),
    }
}

async fn watch(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    path_id::<LiveId>("live", &live)?;
    Ok(page(&app, haul_web::watch(), &headers))
}

async fn studio(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    path_id::<LiveId>("live", &live)?;
    Ok(page(&app, haul_web::studio(), &headers))
}

async fn pay(
    State(app): State<App>,
    Path(payment): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    path_id::<PaymentId>("payment", &payment)?;
    Ok(page(&app, haul_web::pay(), &headers))
}

async fn docs(State(app): State<App>, headers: HeaderMap) -> Response {
    page(&app, haul_web::docs(), &headers)
}

async fn asset(uri: Uri, headers: HeaderMap) -> Response {
    match haul_web::asset(uri.path()) {
        Some(asset) => file(asset, &headers),
        None => Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such file").into_response(),
    }
}

/// The client module, for pages of any origin: what it may ask of this server is decided where it asks. A page that the
/// server does not know can then say so.
pub(crate) fn sdk() -> Router<App> {
    Router::new().route("/sdk/{*path}", get(module))
}

async fn module(uri: Uri, headers: HeaderMap) -> Response {
    let mut response = asset(uri, headers).await;
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

fn page(app: &App, asset: Asset, headers: &HeaderMap) -> Response {
    let mut response = file(asset, headers);
    let moq = app.moq.as_ref().map(|door| door.source()).unwrap_or_default();
    let policy = format!(
        "default-src 'self'; img-src 'self' https: data:; media-src 'self' blob:; connect-src 'self' ws: wss: {moq}; \
         base-uri 'none'; form-action 'self'; object-src 'none'; {}",
        app.settings.origins.frame_ancestors()
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    // Links to pages carry tokens in their fragment, which is never sent; this keeps the rest at home as well.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        PERMISSIONS_POLICY,
        HeaderValue::from_static("camera=(self), microphone=(self), display-capture=(self), geolocation=()"),
    );
    response
}

fn file(asset: Asset, headers: &HeaderMap) -> Response {
    let fresh = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == asset.etag));
    let mut response =
        if fresh { StatusCode::NOT_MODIFIED.into_response() } else { asset.bytes.into_response() };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(ETAG, HeaderValue::from_static(asset.etag));
    // Revalidated each time: a new binary is seen at once, and an unchanged file costs an empty answer.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
