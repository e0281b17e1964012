//! What a measure reaches, and what who is hidden can see of it.

use haul_wire::{questions::QuestionAsk, show::ShowAsk};

use super::*;
use crate::{crowd::MAX_THREADS, guard::MAX_MEASURE_MS, sampler::LINES_A_SECOND};

/// So many people write at once that the next line waits for its turn.
fn loud(play: &mut Play) {
    for n in 0..LINES_A_SECOND {
        play.say(&writer(&format!("loud{n}"), Role::Viewer), "la").unwrap();
    }
    play.told();
}

fn said(told: &[(Audience, Value)], who: &Writer) -> bool {
    told.iter().any(|(_, line)| line["type"] == "chat.message" && line["name"] == who.name)
}

#[test]
fn a_line_that_waits_is_not_said_after_a_measure() {
    for measure in [Measure::Ban, Measure::Mute, Measure::ShadowBan] {
        let mut play = Play::new();
        loud(&mut play);
        play.say(&ann(), "buy my coins").unwrap();
        play.say(&bob(), "hello").unwrap();
        play.ask(&moderator(), against(measure, "ann", None)).unwrap();
        (0..3).for_each(|_| play.wait(SECOND));
        let told = play.told();
        assert_eq!((said(&told, &ann()), said(&told, &bob())), (false, true), "{measure:?}");
    }
}

#[test]
fn a_line_that_waits_can_be_taken_back() {
    let mut play = Play::new();
    loud(&mut play);
    let message_id = play.say(&ann(), "oh no").unwrap();
    let delete = ChatAsk::Delete { message_id };
    assert_eq!(play.ask(&bob(), delete.clone()), Err(Refused::Role(Role::Moderator)));
    play.ask(&ann(), delete.clone()).unwrap();
    assert_eq!(play.ask(&ann(), delete), Err(Refused::NoSuch("message_id")));
    (0..3).for_each(|_| play.wait(SECOND));
    assert!(!said(&play.told(), &ann()));
}

#[test]
fn a_ban_reaches_questions_and_entries() {
    for measure in [Measure::Ban, Measure::ShadowBan] {
        let mut play = Play::new();
        let Shown::Giveaway(giveaway_id) = play.show(&host(), giveaway(2)).unwrap() else { panic!() };
        for who in [ann(), bob()] {
            play.show(&who, ShowAsk::GiveawayEnter { giveaway_id: giveaway_id.clone() }).unwrap();
        }
        play.question(&ann(), asking("buy my coins?")).unwrap();
        play.ask(&moderator(), against(measure, "ann", None)).unwrap();
        assert_eq!(play.room.questions(None, true).len(), usize::from(measure != Measure::Ban));
        play.show(&host(), ShowAsk::GiveawayDraw { giveaway_id }).unwrap();
        let winners: Vec<_> = play.room.winners().iter().map(|winner| winner.name.as_str()).collect();
        assert_eq!(winners, ["bob"], "{measure:?}");
    }
}

#[test]
fn who_is_hidden_is_shown_what_others_are_shown_and_counts_for_nothing() {
    let mut play = Play::new();
    let open = ShowAsk::PollOpen {
        question: "Which?".into(),
        options: vec!["red".into(), "blue".into()],
        duration_ms: 30_000,
    };
    let Shown::Poll(poll_id) = play.show(&moderator(), open).unwrap() else { panic!() };
    let question_id = play.question(&bob(), asking("how big?")).unwrap().unwrap();
    let Shown::Giveaway(giveaway_id) = play.show(&host(), giveaway(2)).unwrap() else { panic!() };
    play.ask(&moderator(), against(Measure::ShadowBan, "ann", None)).unwrap();
    play.told();
    play.say(&ann(), "hi").unwrap();
    let own = play.told().remove(0);
    assert_eq!((&own.0, &own.1["offset"]), (&Audience::Person(ann().id), &play.room.position().1.into()));
    play.show(&ann(), ShowAsk::PollVote { poll_id, option: 0 }).unwrap();
    play.question(&ann(), QuestionAsk::Vote { question_id }).unwrap();
    play.show(&ann(), ShowAsk::GiveawayEnter { giveaway_id }).unwrap();
    assert!(play.room.ticket(&ann().id).is_some(), "also when they come back");
    assert_eq!(play.room.poll().unwrap().votes, [0, 0]);
    assert_eq!(play.room.questions(None, true)[0].votes, 1);

    let id = play.question(&ann(), asking("buy my coins?")).unwrap().unwrap();
    let position = play.room.position().1;
    play.question(&moderator(), QuestionAsk::Remove { question_id: id }).unwrap();
    assert_eq!(play.room.position().1, position, "nobody else hears that it is gone");
    let id = play.question(&ann(), asking("and mine?")).unwrap().unwrap();
    play.question(&moderator(), QuestionAsk::Pick { question_id: id }).unwrap();
    assert_eq!(play.room.questions(None, false).len(), 2, "what the team takes up, all see");
}

#[test]
fn who_asked_finds_their_questions_and_their_answers_again() {
    let mut play = Play::new();
    let id = play.question(&ann(), asking("how big?")).unwrap().unwrap();
    play.question(&bob(), asking("which colours?")).unwrap();
    play.question(&moderator(), QuestionAsk::Answer { question_id: id, text: Some("so".into()) }).unwrap();
    let yours = play.room.yours(&ann().id);
    assert_eq!((yours.len(), yours[0].answer.as_deref()), (1, Some("so")));
}

#[test]
fn a_line_in_sight_quotes_nothing_that_is_gone() {
    let mut play = Play::new();
    let evil = play.say(&ann(), "evil words").unwrap();
    let reply = ChatAsk::Send { text: "no".into(), client_id: None, reply_to: Some(evil.clone()) };
    let Answer::Said(message_id) = play.ask(&bob(), reply).unwrap() else { panic!() };
    play.ask(&moderator(), ChatAsk::Pin { message_id }).unwrap();
    play.told();
    play.ask(&moderator(), ChatAsk::Delete { message_id: evil }).unwrap();
    assert_eq!(play.told()[0].1["message"]["reply_to"]["text"], "");
    assert_eq!(play.room.chat_pin().unwrap().reply_to.as_ref().unwrap().text, "");
    let missed = play.room.missed(&Position { epoch: "e1".into(), offset: 0 }, None, false).unwrap();
    assert!(missed.iter().all(|line| !String::from_utf8_lossy(line).contains("evil")));
}

#[test]
fn threads_make_room_for_others_and_the_team_is_never_refused() {
    let mut play = Play::new();
    let write = |play: &mut Play, who: &Writer, to: Option<&str>| {
        play.wait(Duration::from_millis(1));
        play.random += 1;
        let at = play.at();
        let to = to.map(|to| to.parse().unwrap());
        let known = |who: &BuyerId| Some((who.to_string(), Role::Viewer));
        let written = play.room.write_thread(who, to, "hello", None, at, &known);
        play.settle();
        written
    };
    for n in 0..MAX_THREADS {
        write(&mut play, &writer(&format!("p{n}"), Role::Viewer), None).unwrap();
    }
    let late = writer("late", Role::Viewer);
    assert!(matches!(write(&mut play, &late, None), Err(Refused::NotNow(_))), "none is answered");
    write(&mut play, &moderator(), Some("winner")).unwrap();
    assert!(play.room.thread(&"p0".parse().unwrap()).is_empty(), "the one that has rested longest");
    for n in [7, 5] {
        write(&mut play, &moderator(), Some(&format!("p{n}"))).unwrap();
    }
    play.effects();
    for (newcomer, gone) in [("late", "winner"), ("later", "p7"), ("latest", "p5")] {
        write(&mut play, &writer(newcomer, Role::Viewer), None).unwrap();
        assert!(play.room.thread(&gone.parse().unwrap()).is_empty(), "{gone} was answered longest ago");
        let note = Note { name: format!("thread/{gone}"), text: None };
        assert!(play.effects().contains(&Effect::Keep(note)));
    }
    assert!(!play.room.thread(&"p1".parse().unwrap()).is_empty());

    let (mut seen, mut before) = (0, None);
    loop {
        let page = play.room.thread_lines(before.as_ref());
        let Some(last) = page.last() else { break };
        (seen, before) = (seen + page.len(), Some(last.last.id.clone()));
    }
    assert_eq!(seen, MAX_THREADS, "all of them can be read, page by page");
}

#[test]
fn a_mute_holds_until_it_ends() {
    let mut play = Play::new();
    play.ask(&moderator(), against(Measure::Mute, "ann", Some(60 * SECOND))).unwrap();
    let told = play.told();
    assert_eq!(told[0].0, Audience::Person("ann".parse().unwrap()));
    assert_eq!(
        (&told[0].1["standing"]["measure"], &told[0].1["standing"]["reason"]),
        (&"mute".into(), &"spam".into())
    );
    play.wait(20 * SECOND);
    let refused = play.say(&ann(), "hi");
    assert!(matches!(refused, Err(Refused::Muted { retry_after: Some(left), .. }) if left == 40 * SECOND));
    play.wait(40 * SECOND);
    play.say(&ann(), "hi").unwrap();
    play.ask(&moderator(), against(Measure::Mute, "ann", None)).unwrap();
    assert!(matches!(play.say(&ann(), "hi"), Err(Refused::Muted { retry_after: None, .. })));
    play.ask(&moderator(), against(Measure::Restore, "ann", None)).unwrap();
    play.say(&ann(), "hi").unwrap();
}

#[test]
fn a_ban_ends_connections_and_takes_words_away() {
    let mut play = Play::new();
    let id = play.say(&ann(), "evil").unwrap();
    play.effects();
    let ban = ChatAsk::Moderate {
        action: Measure::Ban,
        message_id: Some(id),
        user_id: None,
        duration_ms: None,
        reason: None,
    };
    play.ask(&moderator(), ban).unwrap();
    assert!(play.effects().contains(&Effect::End { who: ann().id, below: Role::Moderator }));
    assert!(play.room.is_banned(&ann().id, Role::Viewer, play.now.wall));
    assert!(matches!(play.say(&ann(), "hi"), Err(Refused::Banned(_))));
    assert_eq!(play.room.chat(None, true), []);
    let Answer::Moderation(moderation) = play.ask(&moderator(), ChatAsk::Log).unwrap() else { panic!() };
    assert_eq!(moderation.log[0].action, LogAction::Ban);
    assert_eq!((moderation.log[0].by.as_str(), moderation.log[0].text.as_deref()), ("mo", Some("evil")));
    assert_eq!(moderation.standing[0].user_id.as_str(), "ann");
}

#[test]
fn who_is_shadow_banned_sees_no_difference() {
    let mut play = Play::new();
    play.ask(&moderator(), against(Measure::ShadowBan, "ann", None)).unwrap();
    assert!(play.told().iter().all(|(to, _)| *to == Audience::Staff));
    let before = play.room.position().1;
    play.say(&ann(), "buy my coins").unwrap();
    let audiences: Vec<_> = play.told().into_iter().map(|(to, _)| to).collect();
    assert_eq!(audiences, [Audience::Person("ann".parse().unwrap()), Audience::Staff]);
    assert_eq!(play.room.position().1, before, "nothing in the room's order");
    assert_eq!(play.room.standing(&ann().id, Role::Viewer, play.now.wall), None);
    assert_eq!(play.room.chat(Some(&ann().id), false).len(), 1);
    assert_eq!(play.room.chat(Some(&bob().id), false).len(), 0);
    assert_eq!(play.room.chat(None, true).len(), 1);
    // Who comes back to it is shown the room anew, since the line has no place among those that were missed.
    let position = Position { epoch: "e1".into(), offset: before };
    let missed = |reader: Option<&str>, staff| {
        let reader = reader.map(|reader| reader.parse().unwrap());
        play.room.missed(&position, reader.as_ref(), staff).map(|lines| lines.len())
    };
    assert_eq!((missed(Some("ann"), false), missed(Some("mo"), true)), (None, None));
    assert_eq!((missed(Some("bob"), false), missed(None, false)), (Some(0), Some(0)));
}

#[test]
fn nobody_moderates_those_who_moderate() {
    let mut play = Play::new();
    let host = writer("host", Role::Host);
    let by_host = play.say(&host, "welcome").unwrap();
    let by_moderator = play.say(&moderator(), "welcome").unwrap();
    let mute = |id: &MessageId| ChatAsk::Moderate {
        action: Measure::Mute,
        message_id: Some(id.clone()),
        user_id: None,
        duration_ms: None,
        reason: None,
    };
    assert_eq!(play.ask(&ann(), mute(&by_moderator)), Err(Refused::Role(Role::Moderator)));
    assert_eq!(
        play.ask(&writer("mia", Role::Moderator), mute(&by_moderator)),
        Err(Refused::Role(Role::Host))
    );
    assert_eq!(play.ask(&moderator(), mute(&by_host)), Err(Refused::Role(Role::Host)));
    play.ask(&host, mute(&by_moderator)).unwrap();
}

#[test]
fn a_measure_against_an_id_that_turns_out_to_be_the_hosts_does_not_hold() {
    let mut play = Play::new();
    let others = [host(), writer("mia", Role::Moderator)];
    for (who, measure) in others
        .iter()
        .flat_map(|who| [Measure::Ban, Measure::Mute, Measure::ShadowBan].map(|measure| (who, measure)))
    {
        // Neither is here, nor has said anything: nobody knows who that is.
        play.ask(&moderator(), against(measure, who.id.as_str(), None)).unwrap();
        assert!(!play.room.is_banned(&who.id, who.role, play.now.wall), "{measure:?} of {}", who.id);
        assert_eq!(play.room.standing(&who.id, who.role, play.now.wall), None);
        play.told();
        play.say(who, "welcome").unwrap();
        assert_eq!(play.told()[0].0, Audience::All, "{measure:?} of {}", who.id);
        // The words that made them known are forgotten again.
        play.room.said = Said::default();
    }
    play.ask(&host(), against(Measure::Ban, "mia", None)).unwrap();
    assert!(play.room.is_banned(&"mia".parse().unwrap(), Role::Moderator, play.now.wall), "the host may");
    assert!(!play.room.is_banned(&"mia".parse().unwrap(), Role::Host, play.now.wall));
}

#[test]
fn a_room_that_begins_anew_remembers_whom_it_put_out() {
    let mut play = Play::new();
    play.ask(&moderator(), against(Measure::Ban, "ann", None)).unwrap();
    play.ask(&moderator(), against(Measure::Mute, "bob", Some(5 * SECOND))).unwrap();
    play.ask(&moderator(), against(Measure::Mute, "cy", None)).unwrap();
    play.ask(&moderator(), against(Measure::Restore, "cy", None)).unwrap();
    play.ask(&moderator(), ChatAsk::Words { add: vec!["spam".into()], remove: vec![] }).unwrap();
    play.ask(&moderator(), ChatAsk::SetRules { slow_ms: Some(5), who: None, links: None, repeats: None })
        .unwrap();
    let mut kept = std::collections::BTreeMap::new();
    for effect in play.effects() {
        if let Effect::Keep(Note { name, text }) = effect {
            match text {
                Some(text) => kept.insert(name, text),
                None => kept.remove(&name),
            };
        }
    }
    let notes = kept.into_iter().map(|(name, text)| Note { name, text: Some(text) }).collect();
    let mut later = Play::new();
    later.wait(10 * SECOND);
    later.room.restore(notes, later.now);
    assert_eq!(
        later.effects(),
        [Effect::Keep(Note { name: "standing/bob".into(), text: None })],
        "what is over goes"
    );
    assert!(later.room.is_banned(&ann().id, Role::Viewer, later.now.wall));
    assert_eq!(later.room.rules().slow_ms, 5);
    assert_eq!(later.say(&bob(), "spam"), Err(Refused::Word));
    let Answer::Moderation(moderation) = later.ask(&moderator(), ChatAsk::Log).unwrap() else { panic!() };
    let actions: Vec<_> = moderation.log.iter().map(|entry| entry.action).collect();
    use LogAction as L;
    assert_eq!(actions, [L::Rules, L::Words, L::Restore, L::Mute, L::Mute, L::Ban]);
}

#[test]
fn a_measure_lasts_a_year_at_most_or_until_it_is_lifted() {
    let mut play = Play::new();
    let year = Duration::from_millis(MAX_MEASURE_MS);
    for wrong in [Duration::ZERO, year + Duration::from_millis(1), Duration::from_millis(u64::MAX)] {
        let refused = play.ask(&moderator(), against(Measure::Mute, "ann", Some(wrong)));
        assert!(matches!(refused, Err(Refused::Field(_))), "{wrong:?}");
    }
    play.ask(&moderator(), against(Measure::Mute, "ann", Some(year))).unwrap();
}
