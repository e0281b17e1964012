//! What is said, by whom, and how often.

use super::*;

#[test]
fn newcomers_see_the_last_lines() {
    let mut play = Play::new();
    for n in 0..crate::MAX_CHAT_SHOWN + 5 {
        play.say(&ann(), &n.to_string()).unwrap();
        play.wait(2 * SECOND);
    }
    let shown = play.room.chat(None, false);
    assert_eq!(shown.len(), crate::MAX_CHAT_SHOWN);
    assert_eq!(shown[0].text, "5");
}

#[test]
fn a_talker_is_slowed_down_and_told_for_how_long() {
    let mut play = Play::new();
    for _ in 0..3 {
        play.say(&ann(), "hi").unwrap();
    }
    assert_eq!(play.say(&ann(), "hi"), Err(Refused::TooFast { retry_after: 2 * SECOND }));
    assert!(play.say(&bob(), "hi").is_ok());
    assert_eq!(play.room.position(), ("e1", 4), "refused lines take no place in the order");
}

#[test]
fn a_retry_is_not_a_second_message() {
    let mut play = Play::new();
    let ask = |client_id: &str, text: &str| ChatAsk::Send {
        text: text.into(),
        client_id: Some(client_id.into()),
        reply_to: None,
    };
    let first = play.ask(&ann(), ask("c1", "hello")).unwrap();
    for _ in 0..10 {
        assert_eq!(play.ask(&ann(), ask("c1", "hello")).unwrap(), first, "and a retry is never too fast");
    }
    assert_eq!(play.told().len(), 1);
    assert_ne!(play.ask(&bob(), ask("c1", "hello")).unwrap(), first, "somebody else's id is another");
    assert_ne!(play.ask(&ann(), ask("c2", "hello")).unwrap(), first);
    assert!(matches!(play.ask(&ann(), ask("", "hello")), Err(Refused::Field(_))));
}

#[test]
fn an_answer_quotes_what_it_answers() {
    let mut play = Play::new();
    let asked = play.say(&ann(), &"long ".repeat(40)).unwrap();
    let reply =
        |id: &MessageId| ChatAsk::Send { text: "yes".into(), client_id: None, reply_to: Some(id.clone()) };
    play.ask(&bob(), reply(&asked)).unwrap();
    let told = play.told();
    assert_eq!(told[1].1["reply_to"]["name"], "ann");
    assert_eq!(told[1].1["reply_to"]["text"].as_str().unwrap().len(), 80);
    assert_eq!(play.ask(&bob(), reply(&"msg_none".parse().unwrap())), Err(Refused::NoSuch("reply_to")));
}

#[test]
fn who_deletes_what_is_logged_and_gone_for_those_who_come_back() {
    let mut play = Play::new();
    let position = Position { epoch: "e1".into(), offset: 0 };
    let (first, second) = (play.say(&ann(), "buy at evil").unwrap(), play.say(&ann(), "hello").unwrap());
    let delete = |id: &MessageId| ChatAsk::Delete { message_id: id.clone() };
    assert_eq!(play.ask(&bob(), delete(&first)), Err(Refused::Role(Role::Moderator)));
    play.ask(&moderator(), ChatAsk::Pin { message_id: first.clone() }).unwrap();
    let quoting = ChatAsk::Send { text: "no".into(), client_id: None, reply_to: Some(first.clone()) };
    play.ask(&bob(), quoting).unwrap();
    play.told();
    play.ask(&moderator(), delete(&first)).unwrap();
    let told = play.told();
    assert_eq!(told[0].1["type"], "chat.pinned");
    assert_eq!((&told[1].0, &told[1].1["message_ids"][0]), (&Audience::All, &Value::from(first.as_str())));
    assert_eq!((&told[2].0, &told[2].1["entry"]["text"]), (&Audience::Staff, &Value::from("buy at evil")));
    play.ask(&ann(), delete(&second)).unwrap();
    assert_eq!(play.told().len(), 1, "who takes back their own words is not in the log");
    assert_eq!(play.ask(&ann(), delete(&second)), Err(Refused::NoSuch("message_id")));
    let missed = play.room.missed(&position, None, false).unwrap();
    assert!(missed.iter().all(|line| !String::from_utf8_lossy(line).contains("evil")));
    assert_eq!(missed.len() as u64, play.room.position().1);
    let left = play.room.chat(None, true);
    assert_eq!((left.len(), left[0].reply_to.as_ref().unwrap().text.as_str()), (1, ""));
}

#[test]
fn slow_mode_says_when() {
    let mut play = Play::new();
    let slow = |slow_ms| ChatAsk::SetRules { slow_ms: Some(slow_ms), who: None, links: None, repeats: None };
    assert_eq!(play.ask(&ann(), slow(1)), Err(Refused::Role(Role::Moderator)));
    assert!(matches!(play.ask(&moderator(), slow(600_001)), Err(Refused::Field(_))));
    play.ask(&moderator(), slow(30_000)).unwrap();
    assert_eq!(play.told()[0].1["rules"]["slow_ms"], 30_000);
    play.say(&ann(), "one").unwrap();
    play.wait(10 * SECOND);
    assert_eq!(play.say(&ann(), "two"), Err(Refused::TooFast { retry_after: 20 * SECOND }));
    for _ in 0..5 {
        play.say(&moderator(), "I may").unwrap();
    }
    play.wait(20 * SECOND);
    play.say(&ann(), "two").unwrap();
}

#[test]
fn only_some_may_write() {
    let mut play = Play::new();
    let only = |who| ChatAsk::SetRules { slow_ms: None, who: Some(who), links: None, repeats: None };
    let with = |badge| Writer { badges: vec![badge], ..bob() };
    for (writers, badge) in [(Writers::Buyers, Badge::VerifiedBuyer), (Writers::Followers, Badge::Follower)] {
        play.ask(&moderator(), only(writers)).unwrap();
        assert_eq!(play.say(&ann(), "hi"), Err(Refused::NotAmong(writers)));
        play.say(&with(badge), "hi").unwrap();
    }
    play.ask(&moderator(), only(Writers::Staff)).unwrap();
    assert_eq!(play.say(&with(Badge::RepeatBuyer), "hi"), Err(Refused::NotAmong(Writers::Staff)));
    play.say(&moderator(), "hi").unwrap();
}

#[test]
fn words_links_and_repetitions() {
    let mut play = Play::new();
    let words = ChatAsk::Words { add: vec!["spam".into(), "代購".into()], remove: vec![] };
    assert_eq!(play.ask(&moderator(), words).unwrap(), Answer::Words(vec!["spam".into(), "代購".into()]));
    assert_eq!(play.say(&ann(), "SPAM!"), Err(Refused::Word));
    assert_eq!(play.say(&ann(), "找代 購"), Err(Refused::Word));
    play.say(&moderator(), "no spam please").unwrap();
    play.ask(
        &moderator(),
        ChatAsk::SetRules { slow_ms: None, who: None, links: Some(false), repeats: Some(false) },
    )
    .unwrap();
    assert_eq!(play.say(&ann(), "see evil.com"), Err(Refused::Link));
    play.say(&ann(), "first!").unwrap();
    assert_eq!(play.say(&ann(), "FIRST !"), Err(Refused::Repeated));
    play.say(&bob(), "first!").unwrap();
    play.say(&ann(), "second").unwrap();
    assert_eq!(play.say(&ann(), "first"), Err(Refused::Repeated), "nor by turns, nor with other marks");
    play.say(&ann(), "👍").unwrap();
    play.wait(60 * SECOND);
    play.say(&ann(), "first!").unwrap();
    play.say(&ann(), "👏").unwrap();
}

#[test]
fn in_a_loud_room_who_is_not_heard_is_told() {
    let mut play = Play::new();
    for round in 0..5 {
        for n in 0..1_000 {
            let _ = play.say(&writer(&format!("p{n}"), Role::Viewer), &format!("line {round}"));
        }
        play.say(&host(), "quiet please").unwrap();
        play.wait(SECOND);
    }
    play.wait(2 * SECOND);
    play.wait(SECOND);
    let told = play.told();
    let heard =
        told.iter().filter(|(_, line)| line["type"] == "chat.message" && line["role"] == "viewer").count();
    let lost: u64 = told.iter().filter_map(|(_, line)| line["messages"].as_u64()).sum();
    assert!(heard >= 600, "{heard}");
    assert!(lost >= 2_000, "{lost}");
    let host = told.iter().filter(|(_, line)| line["role"] == "host").count();
    assert_eq!(host, 5, "the host's team is always heard");
}
