//! What a room leaves to its heirs, as it is written and read.

use haul_commerce::{Changes, Left, bus::KEEP_STATE};
use haul_model::BuyerId;
use haul_room::{Change, Estate, Line, Made, without};

/// Adds changes to what is kept of them.
pub(super) fn written(to: &mut Changes, made: &[Made]) {
    for made in made {
        let list = match &made.change {
            Change::Said { .. } => &mut to.chat,
            Change::Wanted { .. } | Change::Voted { .. } | Change::Entered { .. } => &mut to.votes,
            Change::Liked { .. } | Change::Peaked { .. } => &mut to.counts,
            _ => &mut to.state,
        };
        // Changes have text keys and no floats: serde_json can't fail on them.
        list.push(serde_json::to_vec(made).unwrap_or_default());
    }
}

/// The same changes without these people.
pub(super) fn purged(changes: Changes, who: &[BuyerId]) -> Changes {
    let mut purged = Changes::default();
    written(&mut purged, &who.iter().fold(read(changes), without));
    purged
}

/// Changes, read, in their order. What can't be read is left out.
fn read(changes: Changes) -> Vec<Made> {
    let texts = changes.lists().into_iter().flatten();
    let mut made: Vec<Made> = texts.filter_map(|text| serde_json::from_slice(text).ok()).collect();
    // Of those without a number, which an earlier version has left, what was said comes first: what is done to it comes after.
    made.sort_by_key(|made| (made.after, made.number));
    made
}

/// What is left of a room, read.
pub(super) fn estate(left: Left) -> Estate {
    let Left { epoch, offset, lines, changes } = left;
    let complete = changes.state.len() < KEEP_STATE;
    let lines = lines.into_iter().map(Line::from).collect();
    Estate { epoch, offset, lines, made: read(changes), complete }
}
