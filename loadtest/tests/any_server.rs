//! The media part against servers that are not Haul, by their WHIP and WHEP addresses alone.

#![allow(clippy::unwrap_used)]

#[path = "support/foreign.rs"]
mod foreign;
mod support;

use foreign::{Foreign, Manners, TOKEN};
use support::{Server, run_with};

const SCENARIO: &str = "
about = 'People come and go'
duration_s = 8
levels = [
    'join.failed == 0', 'media.loss_pct == 0', 'media.decrypt_errors == 0', 'media.ended == 0',
    'media.frames >= 300', 'delay.p50_ms > 0', 'delay.p50_ms < 2000',
]
[publisher]
clip = 'CLIP'
[[viewers]]
count = 4
join_over_s = 1
decrypt = 0.5
[[viewers]]
count = 2
stay_s = 1.5
return_after_s = 0.2
";

/// Runs it. Returns how many offers the server took, how many sessions were deleted, and how many requests were strange.
fn against(manners: Manners, clip: &str) -> (u32, u32, u32) {
    let server = Server::start();
    let foreign = Foreign::start(&server, manners);
    let arguments = ["--whip", &foreign.whip, "--whep", &foreign.whep, "--token", TOKEN];
    let run = run_with(&SCENARIO.replace("CLIP", clip), &arguments);
    assert_eq!(run.broken(), [] as [String; 0], "{manners:?}: {}", run.text);
    assert!([0, 3].contains(&run.code), "{}", run.text);
    let counts = foreign.counts();
    let sessions = run.measure("join.attempts") as u32 + 1;
    assert!(sessions >= 8 && counts.0 == sessions, "{manners:?}: {counts:?} for {sessions} sessions");
    counts
}

#[test]
fn sessions_beside_the_endpoint_are_ended_there() {
    let (offers, deleted, strange) = against(Manners::Relative, "h264");
    assert_eq!((deleted, strange), (offers, 0));
}

#[test]
fn endpoints_that_have_moved_and_candidates_of_all_kinds_are_no_hindrance() {
    let (offers, deleted, strange) = against(Manners::Absolute, "vp8");
    assert_eq!((deleted, strange), (offers, 0));
}

#[test]
fn without_a_location_nothing_is_deleted_at_a_guess() {
    let (_, deleted, strange) = against(Manners::Careless, "vp8");
    assert_eq!((deleted, strange), (0, 0));
}
