//! What a measure reaches, and what who is hidden can see of it.

use haul_wire::{questions::QuestionAsk, show::ShowAsk};

use super::*;
use crate::{crowd::MAX_THREADS, sampler::LINES_A_SECOND};

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
    let missed = play.room.missed(&Position { epoch: "e1".into(), offset: 0 }).unwrap();
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
