//! What somebody sends who wants to do harm.

use haul_wire::{
    ChatAsk, coupon::CouponAsk, crowd::CrowdAsk, parse, questions::QuestionAsk, request, show::ShowAsk,
};
use rand::RngExt;

use super::*;

/// Messages of each kind.
const MESSAGES: usize = 10_000;

/// What fields may be called.
const FIELDS: [&str; 38] = [
    "text",
    "client_id",
    "reply_to",
    "message_id",
    "user_id",
    "action",
    "duration_ms",
    "reason",
    "add",
    "remove",
    "slow_ms",
    "who",
    "links",
    "product_id",
    "question_id",
    "poll_id",
    "option",
    "options",
    "question",
    "giveaway_id",
    "title",
    "word",
    "winners",
    "claim_ms",
    "count",
    "kind",
    "sale_id",
    "hold_id",
    "quantity",
    "key",
    "price_minor",
    "stock",
    "per_buyer",
    "opens_at",
    "session",
    "layer",
    "token",
    "resume",
];

/// What may stand in them.
fn values() -> Vec<String> {
    let long = format!("\"{}\"", "語".repeat(350));
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let others = [
        "null",
        "-1",
        "18446744073709551615",
        "1e308",
        "true",
        "[]",
        r#""\u0000\u202e<script>""#,
        r#"{"epoch":"e1","offset":0}"#,
        r#""mute""#,
        "7",
        r#"["a","b"]"#,
        r#""tea""#,
        r#""tea""#,
    ];
    others.into_iter().map(str::to_owned).chain([long, deep]).collect()
}

/// A request of this kind with some fields, each what it should be or something else, and now and then cut off.
fn message(kind: &str, values: &[String], rng: &mut StdRng) -> String {
    let mut text = format!(r#"{{"id":7,"type":"{kind}""#);
    let mut field = rng.random_range(0..4);
    while field < FIELDS.len() {
        text.push_str(",\"");
        text.push_str(FIELDS[field]);
        text.push_str("\":");
        text.push_str(&values[rng.random_range(0..values.len())]);
        field += rng.random_range(1..5);
    }
    text.push('}');
    if rng.random_range(0..20) == 0 {
        let cut = rng.random_range(0..text.len());
        text = text.chars().take(cut).collect();
    }
    text
}

#[test]
fn whatever_a_stranger_sends_of_any_kind_changes_nothing_for_others() {
    let mut rng = StdRng::seed_from_u64(1);
    let values = values();
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    play.join(2, viewer("host", Role::Host));
    play.join(3, None);
    play.wait(Duration::from_secs(2));
    play.outputs();
    let position = play.stage.room.position().1;
    let (mut read, mut refused) = (0, 0);
    let kinds = [
        request::TYPES,
        ChatAsk::TYPES,
        QuestionAsk::TYPES,
        ShowAsk::TYPES,
        CrowdAsk::TYPES,
        CouponAsk::TYPES,
    ]
    .concat();
    for kind in kinds {
        for _ in 0..MESSAGES {
            let Ok((id, request)) = parse(&message(kind, &values, &mut rng)) else {
                refused += 1;
                continue;
            };
            read += 1;
            for output in play.input(Input::Request { member: MemberId(3), id, request }) {
                let Output::Deliver(Delivery { to, .. }) = output else { panic!("{kind}: {output:?}") };
                assert_eq!(to, To::Member(MemberId(3)), "{kind}");
            }
        }
    }
    assert!(read > 10_000 && refused > 100_000, "{read} {refused}");
    assert_eq!(play.stage.room.position().1, position);
    play.wait(Duration::from_secs(2));
    assert!(play.heard().is_empty());
}

#[test]
fn whatever_a_viewer_sends_leaves_the_room_within_its_limits() {
    let mut rng = StdRng::seed_from_u64(2);
    let values = values();
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    play.join(2, viewer("mallory", Role::Viewer));
    let kinds =
        [ChatAsk::TYPES, QuestionAsk::TYPES, ShowAsk::TYPES, CrowdAsk::TYPES, CouponAsk::TYPES].concat();
    for kind in kinds {
        for n in 0..MESSAGES {
            if let Ok((id, request)) = parse(&message(kind, &values, &mut rng)) {
                let outputs = play.input(Input::Request { member: MemberId(2), id, request });
                assert!(!outputs.iter().any(|output| matches!(output, Output::End(..))), "{kind}");
            }
            if n % 100 == 0 {
                play.wait(Duration::from_millis(10));
            }
        }
    }
    let hello = play.join(3, None);
    let Output::Deliver(Delivery { line, .. }) = &hello[0] else { panic!() };
    assert!(line.len() < haul_room::outbox::MAX_BYTES / 2, "{}", line.len());
    assert!(!play.stage.room.is_banned(&"ann".parse().unwrap(), Role::Viewer, play.now.wall));
}
