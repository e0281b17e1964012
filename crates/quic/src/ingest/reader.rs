//! Reads one track of a publisher, group by group.

use std::time::Duration;

use bytes::Bytes;
use haul_model::Kind;
use moq_net::{broadcast, track as moq};
use tokio::sync::mpsc;

use crate::{bitstream::MAX_FRAME_BYTES, catalog};

/// How far a group may be behind the newest before it is given up. A group that never ends is left when the next has
/// begun and is this far ahead.
const PATIENCE: Duration = Duration::from_millis(500);

/// One MoQ frame of a track.
pub(super) struct Piece {
    /// Which of the chosen tracks.
    pub(super) track: usize,
    /// The first of its group: of pictures, a keyframe.
    pub(super) begins_group: bool,
    pub(super) bytes: Bytes,
}

/// Reads until the track or whoever takes its frames ends.
pub(super) async fn read(
    broadcast: broadcast::Consumer,
    name: String,
    kind: Kind,
    track: usize,
    pieces: mpsc::Sender<Piece>,
) {
    let priority = match kind {
        Kind::Audio => catalog::AUDIO_PRIORITY,
        Kind::Video => catalog::VIDEO_PRIORITY,
    };
    let wish = moq::Subscription::default().with_priority(priority).with_max_age(PATIENCE);
    let Ok(found) = broadcast.track(&name) else { return };
    let Ok(subscriber) = found.subscribe(wish).await else { return };
    let mut groups = subscriber.ordered();
    while let Ok(Some(mut group)) = groups.next_group().await {
        let mut begins_group = true;
        // A group that is given up ends with an error: on with the next.
        while let Ok(Some(frame)) = group.read_frame().await {
            if frame.payload.len() > MAX_FRAME_BYTES {
                break;
            }
            let piece = Piece { track, begins_group, bytes: frame.payload };
            if pieces.send(piece).await.is_err() {
                return;
            }
            begins_group = false;
        }
    }
}
