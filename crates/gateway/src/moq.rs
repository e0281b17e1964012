//! `/v1/moq`: where pages find the MoQ edge, and by which certificate they know it.

use std::fmt;

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{app::App, problem::Problem};

/// The MoQ edge as browsers are told of it.
pub struct MoqDoor {
    /// Its port, of UDP and of TCP.
    pub port: u16,
    /// What browsers call it, without a slash at its end; empty: this server's host name, and the port.
    pub public_url: String,
    /// SHA-256 of the certificate in use, in hexadecimal digits; `None`: an authority has signed it.
    pub certificate: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

impl fmt::Debug for MoqDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MoqDoor").field("port", &self.port).finish_non_exhaustive()
    }
}

impl MoqDoor {
    /// What a page's `connect-src` has to list.
    pub(crate) fn source(&self) -> String {
        if self.public_url.is_empty() {
            return format!("https://*:{}", self.port);
        }
        // Without a path, which would allow that path alone.
        self.public_url.split('/').take(3).collect::<Vec<_>>().join("/")
    }
}

/// How Media over QUIC is reached.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MoqDocument {
    /// An `https:` URL, to which the live's id is added as the path; null: this server's host name, and `port`.
    url: Option<String>,
    port: u16,
    /// For WebTransport's `serverCertificateHashes`: SHA-256 of the certificate in hexadecimal digits, where no authority
    /// has signed it.
    certificate_sha256: Option<String>,
}

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/v1/moq", get(door))
}

async fn door(State(app): State<App>) -> Result<Json<MoqDocument>, Problem> {
    let Some(door) = &app.moq else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "Media over QUIC is off"));
    };
    Ok(Json(MoqDocument {
        url: (!door.public_url.is_empty()).then(|| door.public_url.clone()),
        port: door.port,
        certificate_sha256: (door.certificate)(),
    }))
}
