//! What a viewer is sent of the pictures: their wishes on the way to the media edge, and its word on the way back.

use haul_live::Connection;
use haul_model::SessionId;
use haul_webrtc::{PreferError, Quality, QualityReason};
use haul_wire::{Code, Failure, LayerView, Pictures, QualityView, Reply};

use crate::app::App;

/// The choice that leaves it to the server.
const AUTO: &str = "auto";
/// The longest name of a layer: rids have at most 255 characters (RFC 8851, 10).
const MAX_NAME_BYTES: usize = 255;

/// Answers `quality.set`.
pub(crate) async fn set(app: &App, connection: &Connection, id: u64, session: SessionId, layer: String) {
    match prefer(app, connection, session, layer).await {
        Ok(quality) => connection.answer(id, &Reply::Quality { quality }),
        Err(failure) => connection.refuse(Some(id), &failure),
    }
}

/// As the edge says it, on the wire.
pub(crate) fn view(session: SessionId, quality: Quality) -> QualityView {
    QualityView {
        session,
        pictures: match (quality.sound_only, quality.misses_pictures) {
            (true, _) => Pictures::None,
            (false, true) => Pictures::Some,
            (false, false) => Pictures::All,
        },
        layer: quality.layer,
        choice: quality.choice.unwrap_or_else(|| AUTO.to_owned()),
        reason: match quality.reason {
            QualityReason::Best => haul_wire::QualityReason::Best,
            QualityReason::Asked => haul_wire::QualityReason::Asked,
            QualityReason::Network => haul_wire::QualityReason::Network,
        },
        layers: quality
            .layers
            .into_iter()
            .map(|layer| LayerView { name: layer.name, bitrate_bps: layer.bitrate_bps })
            .collect(),
    }
}

async fn prefer(
    app: &App,
    connection: &Connection,
    session: SessionId,
    layer: String,
) -> Result<QualityView, Failure> {
    if layer.is_empty() || layer.len() > MAX_NAME_BYTES {
        return Err(Failure::new(Code::BadRequest, "layer: expected a layer's name, or auto"));
    }
    let no_session = || Failure::new(Code::NotFound, "session: no such session of yours");
    // Somebody else's session is answered as one that there is not.
    let is_theirs = app.sessions.listen(
        &session,
        connection.live().id(),
        connection.asker(),
        connection.quality_listener(),
    );
    if !is_theirs {
        return Err(no_session());
    }
    match app.edge.prefer(&session, (layer != AUTO).then_some(layer)).await {
        Ok(quality) => Ok(view(session, quality)),
        Err(PreferError::NoSession) => Err(no_session()),
        Err(error @ PreferError::NoLayer(_)) => Err(Failure::new(Code::NotFound, format!("layer: {error}"))),
    }
}
