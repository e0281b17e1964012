//! What keeps a crowd from coming, or talking, all at once.

use super::*;

#[test]
fn who_is_sent_away_comes_back_spread_over_time() {
    let members: Vec<_> = (0..10_000).map(MemberId).collect();
    let mut waves: BTreeMap<u64, usize> = BTreeMap::new();
    for (delivery, member) in farewells(&members, "e1", 1_000).zip(&members) {
        assert_eq!((&delivery.to, delivery.lane), (&To::Member(*member), Lane::Reply));
        let word: Value = serde_json::from_slice(&delivery.line).unwrap();
        assert_eq!(word["type"], "draining");
        *waves.entry(word["retry_after_ms"].as_u64().unwrap()).or_default() += 1;
    }
    let (first, last) = (*waves.keys().next().unwrap(), *waves.keys().last().unwrap());
    assert_eq!(first, 1_000);
    assert!((10_000..11_000).contains(&last), "{last} ms: a thousand come a second");
    let most = *waves.values().max().unwrap();
    assert!(most <= 2 * members.len() / waves.len(), "{most} at once, of {} waves", waves.len());
    let few: Vec<_> = farewells(&members[..2], "e1", 1_000).collect();
    assert!(few.iter().all(|delivery| delivery.line.len() < 100));
}

#[test]
fn a_connection_is_told_for_how_long_its_lines_are_too_many() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    let say = |play: &mut Play| {
        let ask = ChatAsk::Send { text: "hi".into(), client_id: None, reply_to: None };
        play.ask(1, Request::Chat(ask))
    };
    for _ in 0..5 {
        assert!(!say(&mut play).iter().any(|output| matches!(output, Output::Quiet(..))));
    }
    let outputs = say(&mut play);
    assert_eq!(error_code(&outputs), "rate_limited");
    assert_eq!(outputs[0], Output::Quiet(MemberId(1), Duration::from_secs(2)));
}
