//! Guests: under which names they come, and how long they stay away who were put out.

use haul_wire::Measure;

use super::*;

fn guest(number: u128, name: &str, network: Option<u64>) -> Viewer {
    let id = BuyerId::guest(UnixMillis(1), number, network);
    Viewer { id, name: name.to_owned(), ..viewer("x", Role::Viewer).unwrap() }
}

/// What a guest is told who asks whether they may come in: nothing, or why not.
fn knock(play: &mut Play, guest: &Viewer) -> Option<(String, String)> {
    let answer = refusal(play, guest)?;
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    Some((text("code"), text("message")))
}

fn refusal(play: &mut Play, guest: &Viewer) -> Option<Value> {
    let member = MemberId(9_999);
    play.input(Input::Visit { member, viewer: guest.clone() });
    let hello = Request::Hello { token: None, resume: None, locale: None, referrer: None };
    let answer = lines(&play.ask(member.0, hello)).remove(0).1;
    play.input(Input::Leave { member });
    (answer["type"] == "error").then_some(answer)
}

/// As what they are welcomed.
fn called(outputs: &[Output]) -> String {
    let hello = lines(outputs).into_iter().find(|(_, line)| line["result"]["you"].is_object()).unwrap().1;
    hello["result"]["you"]["name"].as_str().unwrap().to_owned()
}

fn put_out(play: &mut Play, who: &BuyerId) -> Vec<Output> {
    let ask = ChatAsk::Moderate {
        action: Measure::Ban,
        message_id: None,
        user_id: Some(who.clone()),
        duration_ms: Some(60_000),
        reason: None,
    };
    play.ask(1, Request::Chat(ask))
}

#[test]
fn a_guest_passes_for_nobody_else() {
    let mut play = Play::new();
    let named = |id: &str, name: &str, role| Some(Viewer { name: name.into(), ..viewer(id, role).unwrap() });
    play.join(1, named("h", "Mia", Role::Host));
    play.join(2, named("m", "Leo", Role::Moderator));
    play.join(3, named("a", "Ännchen", Role::Viewer));
    let taken = |play: &mut Play, name: &str| knock(play, &guest(1, name, None)).map(|(code, _)| code);
    for name in [
        "Mia",
        "MIA",
        "ｍｉａ",
        "M.i.a",
        "Міа",
        "M\u{200B}ia",
        "Mi\u{301}a",
        "Leo",
        "annchen",
        "Host",
        "主播",
        "Tea Time",
        "Lampenladen",
    ] {
        assert_eq!(taken(&mut play, name).as_deref(), Some("rejected"), "{name}");
        assert_eq!(refusal(&mut play, &guest(1, name, None)).unwrap()["why"], "name_taken", "{name}");
    }
    let towers = format!("x{}", "\u{301}".repeat(39));
    assert_eq!(taken(&mut play, &towers).as_deref(), Some("bad_request"));
    assert_eq!(refusal(&mut play, &guest(1, &towers, None)).unwrap()["why"], "marks");
    for name in ["M1a", "the host", "Mia (Host)"] {
        assert_eq!(taken(&mut play, name).as_deref(), Some("rejected"), "{name}");
    }
    for name in ["Miau", "Mia2", "Mia Chen", "Ghost", "Zoë"] {
        assert_eq!(taken(&mut play, name), None, "{name}");
    }
    // Who is of the team keeps their name while they are away; others' become free.
    (2..=3).for_each(|member| drop(play.input(Input::Leave { member: MemberId(member) })));
    assert_eq!(taken(&mut play, "Leo").as_deref(), Some("rejected"));
    assert_eq!(taken(&mut play, "annchen"), None);
    // One's own name is no other's, on however many devices.
    let zoe = guest(2, "Zoë", None);
    assert_eq!(called(&play.join(4, Some(zoe.clone()))), "Zoë");
    assert_eq!(called(&play.join(5, Some(zoe.clone()))), "Zoë");
    assert_eq!(knock(&mut play, &zoe), None);
    assert_eq!(taken(&mut play, "zoe").as_deref(), Some("rejected"));
}

#[test]
fn the_teams_names_are_theirs_after_a_restart() {
    let mut play = Play::new();
    let mia = Some(Viewer { name: "Mia Berg".into(), ..viewer("h", Role::Host).unwrap() });
    let kept = play.join(1, mia).into_iter().filter_map(|output| match output {
        Output::Keep(note) => note.text.map(|text| (note.name, text)),
        _ => None,
    });
    let mut again = Play::after(kept.collect());
    let refused = knock(&mut again, &guest(1, "mia berg", None));
    assert_eq!(refused.map(|(code, _)| code).as_deref(), Some("rejected"));
}

#[test]
fn what_may_not_be_said_is_nobodys_name() {
    let mut play = Play::new();
    play.join(1, viewer("mo", Role::Moderator));
    play.ask(1, Request::Chat(ChatAsk::Words { add: vec!["scam".into()], remove: Vec::new() }));
    let rules = ChatAsk::SetRules { slow_ms: None, who: None, links: Some(false), repeats: None };
    play.ask(1, Request::Chat(rules));
    for (name, why) in [("sсаm", "word"), ("coins.shop", "link")] {
        let (code, message) = knock(&mut play, &guest(1, name, None)).unwrap();
        assert_eq!(code, "rejected");
        assert!(message.starts_with("name: ") && message.contains(why), "{message}");
        assert_eq!(refusal(&mut play, &guest(1, name, None)).unwrap()["why"], why);
    }
    let rules = ChatAsk::SetRules { slow_ms: None, who: None, links: Some(true), repeats: None };
    play.ask(1, Request::Chat(rules));
    assert_eq!(knock(&mut play, &guest(1, "coins.shop", None)), None);
    // A shop answers for its own customers' names.
    let shops = Some(Viewer { name: "scam".into(), ..viewer("ann", Role::Viewer).unwrap() });
    assert_eq!(called(&play.join(2, shops)), "scam");
}

#[test]
fn a_name_that_became_anothers_is_one_of_ours() {
    let mut play = Play::new();
    // Both asked before either had come.
    assert_eq!(called(&play.join(1, Some(guest(7, "Zoë", None)))), "Zoë");
    assert_eq!(called(&play.join(2, Some(guest(8, "zoe", None)))), "Guest 0008");
    // The host comes last.
    let host = Some(Viewer { name: "ZOE".into(), ..viewer("h", Role::Host).unwrap() });
    assert_eq!(called(&play.join(3, host)), "ZOE");
    play.outputs();
    let ask = ChatAsk::Send { text: "buy here".into(), client_id: None, reply_to: None };
    let said = lines(&play.ask(1, Request::Chat(ask)));
    let line = &said.iter().find(|(_, line)| line["type"] == "chat.message").unwrap().1;
    assert_eq!(line["name"], "Guest 0007");
}

#[test]
fn who_is_put_out_does_not_come_back_as_another_guest() {
    let mut play = Play::new();
    play.join(1, viewer("mo", Role::Moderator));
    let (home, elsewhere) = (Some(7), Some(8));
    let troll = guest(1, "troll", home);
    play.join(2, Some(troll.clone()));
    play.join(3, Some(guest(2, "other", home)));
    play.join(4, Some(guest(3, "far", elsewhere)));
    play.join(5, viewer("ann", Role::Viewer));
    let ended = put_out(&mut play, &troll.id);
    let ends: Vec<_> = ended.iter().filter(|output| matches!(output, Output::End(..))).collect();
    assert_eq!(ends.len(), 2, "those of the network, and nobody who is signed in: {ends:?}");
    for end in &ends {
        let Output::End(member, haul_wire::close::BANNED) = end else { panic!("{end:?}") };
        play.input(Input::Leave { member: *member });
    }
    let again = guest(4, "troll", home);
    assert_eq!(knock(&mut play, &again).unwrap().0, "banned");
    let outputs = play.join(6, Some(again.clone()));
    assert!(outputs.contains(&Output::End(MemberId(6), haul_wire::close::BANNED)));
    assert_eq!(knock(&mut play, &guest(5, "neighbour", elsewhere)), None);
    assert_eq!(knock(&mut play, &guest(6, "nowhere", None)), None);
    // Lifted from the one against whom it is, or over, it is so for all.
    let restore = ChatAsk::Moderate {
        action: Measure::Restore,
        message_id: None,
        user_id: Some(troll.id.clone()),
        duration_ms: None,
        reason: None,
    };
    play.ask(1, Request::Chat(restore));
    assert_eq!(knock(&mut play, &again), None);
    put_out(&mut play, &troll.id);
    play.wait(Duration::from_secs(59));
    assert_eq!(knock(&mut play, &again).unwrap().0, "banned");
    play.wait(Duration::from_secs(1));
    assert_eq!(knock(&mut play, &again), None);
}
