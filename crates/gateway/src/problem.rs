//! Refusals over HTTP: problem documents (RFC 9457).

use std::time::Duration;

use axum::{
    body::{Bytes, to_bytes},
    extract::Request,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;

use crate::auth::AuthError;

/// A refusal. `title` is the status's own phrase, as the type `about:blank` asks for (RFC 9457, 4.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The response's status.
    pub status: StatusCode,
    /// What programs go by; stable. The channel's codes where it has the same failure.
    pub code: &'static str,
    /// What people read: what was wrong, and what to do.
    pub detail: String,
    /// When asking again makes sense, rounded up to whole seconds.
    pub retry_after: Option<Duration>,
    /// How to authenticate, for a 401.
    pub challenge: Option<&'static str>,
    /// What exactly was wrong, where one code stands for several things; stable, as the channel's `why`.
    pub why: Option<String>,
    /// What is in force against the person, as the channel tells it, where that is why.
    pub standing: Option<Box<Value>>,
}

/// The code of the problem that a response tells, for the layers round it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProblemCode(pub(crate) &'static str);

/// The code of what may have happened or will: the same request tells, asked again.
pub(crate) const PENDING: &str = "pending";

impl Problem {
    /// A refusal that asking again does not mend.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after: None,
            challenge: None,
            why: None,
            standing: None,
        }
    }

    /// The same, worth asking again after `wait`.
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let (status, code, challenge) = match error {
            AuthError::Missing => (StatusCode::UNAUTHORIZED, "token_missing", Some("Bearer")),
            AuthError::Invalid => (StatusCode::UNAUTHORIZED, "token_invalid", Some(INVALID_TOKEN)),
            AuthError::Expired => (StatusCode::UNAUTHORIZED, "token_expired", Some(INVALID_TOKEN)),
            AuthError::WrongLive => (StatusCode::FORBIDDEN, "wrong_live", None),
            AuthError::Forbidden { .. } => (StatusCode::FORBIDDEN, "forbidden", None),
        };
        Self { challenge, ..Self::new(status, code, error.to_string()) }
    }
}

/// The longest plain text that becomes a document's detail.
const MAX_DETAIL_BYTES: usize = 1024;

/// Every refusal under `/v1` is a problem document, also one of those that a framework makes by itself: of a path that is
/// no text, of a body that is too large, of a method that a path does not have. What else it says, `Allow` for instance,
/// stays.
pub(crate) async fn everywhere(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let ours = path == "/v1" || path.starts_with("/v1/");
    let response = next.run(request).await;
    let status = response.status();
    let is_refusal = status.is_client_error() || status.is_server_error();
    if !ours || !is_refusal || response.headers().get(CONTENT_TYPE).is_some_and(|kind| *kind == DOCUMENT) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let is_text =
        parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let said = match is_text {
        true => to_bytes(body, MAX_DETAIL_BYTES).await.unwrap_or_default(),
        false => Bytes::new(),
    };
    let detail = match std::str::from_utf8(&said) {
        Ok(text) if !text.trim().is_empty() => text.trim(),
        _ if status == StatusCode::METHOD_NOT_ALLOWED => METHOD_NOT_ALLOWED,
        _ => status.canonical_reason().unwrap_or("it was refused"),
    };
    let (document, body) = Problem::new(status, code(status), detail).into_response().into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(TRANSFER_ENCODING);
    parts.headers.extend(document.headers);
    Response::from_parts(parts, body)
}

/// What [`Problem`] says of a method that a path does not have.
pub(crate) const METHOD_NOT_ALLOWED: &str = "this can't be asked with that method: see Allow";

/// The code of a refusal that has none of its own.
fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "token_invalid",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::CONFLICT => "conflict",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
        StatusCode::TOO_MANY_REQUESTS => "rate_limited",
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            "unavailable"
        }
        status if status.is_server_error() => "internal",
        _ => "bad_request",
    }
}

/// RFC 9457, 3.
const DOCUMENT: HeaderValue = HeaderValue::from_static("application/problem+json");

/// RFC 6750, 3.
const INVALID_TOKEN: &str = r#"Bearer error="invalid_token""#;

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: &'static str,
            title: &'a str,
            status: u16,
            detail: &'a str,
            code: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            why: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            standing: Option<&'a Value>,
        }
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            why: self.why.as_deref(),
            standing: self.standing.as_deref(),
        };
        // Texts and a number: serde_json can't fail on them.
        let body = serde_json::to_string(&document).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        response.extensions_mut().insert(ProblemCode(self.code));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, DOCUMENT);
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use haul_model::Role;

    use super::*;

    async fn document(response: Response) -> Value {
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn a_problem_is_a_document_with_its_headers() {
        let problem = Problem::new(StatusCode::CONFLICT, "no_host", "the host is not here yet")
            .retry_after(Duration::from_millis(1500));
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
        assert_eq!(
            document(response).await,
            serde_json::json!({
                "type": "about:blank",
                "title": "Conflict",
                "status": 409,
                "detail": "the host is not here yet",
                "code": "no_host",
            })
        );
    }

    #[test]
    fn a_refused_token_says_how_to_do_better() {
        let response = |error: AuthError| Problem::from(error).into_response();
        let missing = response(AuthError::Missing);
        assert_eq!(missing.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(missing.headers()[WWW_AUTHENTICATE], "Bearer");
        let expired = response(AuthError::Expired);
        assert_eq!(expired.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(expired.headers()[WWW_AUTHENTICATE], INVALID_TOKEN);
        for error in [AuthError::WrongLive, AuthError::Forbidden { needed: Role::Host }] {
            assert_eq!(response(error).status(), StatusCode::FORBIDDEN);
        }
    }
}
