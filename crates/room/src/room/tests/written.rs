//! Nobody is told of what a next start would not know.

use haul_wire::{
    questions::{QuestionAsk, QuestionState},
    show::ShowAsk,
};

use super::*;
use crate::intents::MAX_INTENTS;

/// A room whose ledger does not answer, and what it was given so far.
fn stalled() -> Play {
    Play { ledger: false, ..Play::new() }
}

/// What is written of those effects, as a start finds it.
pub(super) fn notes(effects: &[Effect]) -> Vec<Note> {
    let mut notes = std::collections::BTreeMap::new();
    for effect in effects {
        if let Effect::Keep(note) | Effect::Write { note, .. } = effect {
            match &note.text {
                Some(text) => notes.insert(note.name.clone(), text.clone()),
                None => notes.remove(&note.name),
            };
        }
    }
    notes.into_iter().map(|(name, text)| Note { name, text: Some(text) }).collect()
}

fn number(effects: &[Effect]) -> u64 {
    let numbers = effects.iter().filter_map(|effect| match effect {
        Effect::Write { number, .. } => Some(*number),
        _ => None,
    });
    numbers.last().unwrap()
}

fn tells(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Tell { .. } | Effect::End { .. })).count()
}

pub(super) fn again(notes: Vec<Note>) -> Play {
    let mut later = Play::new();
    later.room.restore(notes, later.now);
    later
}

#[test]
fn a_draw_is_told_when_it_is_written_and_a_start_in_between_draws_the_same() {
    let mut play = Play::new();
    let Shown::Giveaway(giveaway_id) = play.show(&host(), giveaway(2)).unwrap() else { panic!() };
    for n in 0..9 {
        let enter = ShowAsk::GiveawayEnter { giveaway_id: giveaway_id.clone() };
        play.show(&writer(&format!("p{n}"), Role::Viewer), enter).unwrap();
    }
    let mut written = play.effects();
    play.ledger = false;
    let draw = ShowAsk::GiveawayDraw { giveaway_id: giveaway_id.clone() };
    play.show(&host(), draw.clone()).unwrap();
    let wait = play.room.proposed();
    let effects = play.effects();
    assert_eq!((tells(&effects), wait), (0, Some(number(&effects))), "nothing is told, and the answer waits");
    play.show(&host(), draw.clone()).unwrap();
    assert_eq!((play.room.proposed(), play.effects().len()), (wait, 0), "the same again waits for the same");
    let enter = ShowAsk::GiveawayEnter { giveaway_id };
    assert!(matches!(play.show(&ann(), enter), Err(Refused::NotNow(_))), "who has won is decided");
    assert!(play.room.giveaway().unwrap().seed.is_none() && play.room.giveaway().unwrap().open);

    // Killed before it was written: nobody knows the seed, and the giveaway is as it was.
    let before = again(notes(&written));
    assert!(before.room.giveaway().unwrap().open && before.room.giveaway().unwrap().seed.is_none());
    // Killed after: although the last entries were in no note yet, those have won whom everybody would have been told.
    written.extend(effects);
    let after = again(notes(&written));
    play.room.written(wait.unwrap(), play.now);
    assert!(tells(&play.effects()) > 0);
    assert_eq!((after.room.winners().len(), after.room.winners()), (2, play.room.winners()));
    assert_eq!(after.room.giveaway().unwrap().seed, play.room.giveaway().unwrap().seed);
    assert!(play.show(&host(), draw).is_ok(), "and asked once more, it is done");
}

#[test]
fn what_is_answered_outlives_a_kill_at_any_point() {
    let mut play = stalled();
    play.ask(&moderator(), against(Measure::Ban, "bob", None)).unwrap();
    play.ask(&moderator(), against(Measure::Ban, "bob", None)).unwrap();
    let rules = ChatAsk::SetRules { slow_ms: Some(5), who: None, links: None, repeats: None };
    play.ask(&moderator(), rules.clone()).unwrap();
    play.ask(&moderator(), rules).unwrap();
    let words = ChatAsk::Words { add: vec!["spam".into()], remove: vec![] };
    assert_eq!(play.ask(&moderator(), words).unwrap(), Answer::Words(vec!["spam".into()]));
    for _ in 0..2 {
        let at = play.at();
        play.room.write_thread(&ann(), None, "where is it?", Some("c1".into()), at, &|_| None).unwrap();
    }
    assert!(play.room.proposed().is_some());
    let effects = play.effects();
    assert_eq!((tells(&effects), effects.len()), (0, 4), "each is written once, and nothing is told");
    assert!(!play.room.is_banned(&bob().id, Role::Viewer, play.now.wall));
    play.room.written(number(&effects), play.now);
    let made = play.effects();
    assert!(tells(&made) > 4);
    // Of what followed, any number of notes may have been written too.
    let all: Vec<_> = effects.iter().chain(&made).cloned().collect();
    for upto in effects.len()..=all.len() {
        let mut later = again(notes(&all[..upto]));
        assert!(later.room.is_banned(&bob().id, Role::Viewer, later.now.wall), "{upto}");
        assert_eq!(later.room.rules().slow_ms, 5, "{upto}");
        assert_eq!(later.say(&ann(), "spam"), Err(Refused::Word), "{upto}");
        assert_eq!(later.room.thread(&ann().id).len(), 1, "{upto}");
        let Answer::Moderation(moderation) = later.ask(&moderator(), ChatAsk::Log).unwrap() else { panic!() };
        assert_eq!(moderation.log.len(), 3, "{upto}");
        // Nothing is left over for another start.
        let left = notes(&all[..upto].iter().cloned().chain(later.effects()).collect::<Vec<_>>());
        assert!(left.iter().all(|note| !is_intent(&note.name)), "{upto}");
        let at = later.at();
        let retry = later.room.write_thread(&ann(), None, "where is it?", Some("c1".into()), at, &|_| None);
        assert!(retry.is_ok() && later.room.thread(&ann().id).len() == 1, "a retry is not a second message");
    }
}

#[test]
fn a_ledger_that_stands_still_holds_up_what_it_keeps_and_nothing_else() {
    let mut play = stalled();
    let measure = |n: usize| against(Measure::Mute, &format!("p{n}"), None);
    for n in 0..MAX_INTENTS {
        play.ask(&moderator(), measure(n)).unwrap();
    }
    assert_eq!(play.ask(&moderator(), measure(MAX_INTENTS)), Err(Refused::Unwritten));
    play.effects();
    play.say(&ann(), "hello").unwrap();
    assert_eq!((play.room.proposed(), tells(&play.effects())), (None, 1), "chat is as fast as ever");
}

fn poll(question: &str) -> ShowAsk {
    ShowAsk::PollOpen {
        question: question.into(),
        options: vec!["blue".into(), "red".into()],
        duration_ms: 60_000,
    }
}

/// All that is in sight and open in a room.
fn sight(play: &Play) -> impl PartialEq + std::fmt::Debug + use<> {
    let room = &play.room;
    (
        room.questions(None, true),
        room.yours(&ann().id),
        room.announcement().cloned(),
        room.poll().cloned(),
        room.chat_pin().cloned(),
    )
}

/// A room in which something of each is in sight; everything that it wanted to be kept, and who may have voted for what.
pub(super) fn busy() -> (Play, Vec<Effect>) {
    let mut play = Play::new();
    let asked =
        |play: &mut Play, who: &Writer, text: &str| play.question(who, asking(text)).unwrap().unwrap();
    let (first, second) = (asked(&mut play, &ann(), "which sizes?"), asked(&mut play, &bob(), "why blue?"));
    let removed = asked(&mut play, &bob(), "oops?");
    for (who, question_id) in [(bob(), &first), (writer("cid", Role::Viewer), &first), (ann(), &second)] {
        play.question(&who, QuestionAsk::Vote { question_id: question_id.clone() }).unwrap();
    }
    play.question(&moderator(), QuestionAsk::Pick { question_id: first }).unwrap();
    let answer = QuestionAsk::Answer { question_id: second.clone(), text: Some("it is".into()) };
    play.question(&moderator(), answer).unwrap();
    play.question(&bob(), QuestionAsk::Remove { question_id: removed }).unwrap();
    play.show(&moderator(), ShowAsk::Announce { text: Some("tea at nine".into()) }).unwrap();
    let Shown::Poll(poll_id) = play.show(&moderator(), poll("which one?")).unwrap() else { panic!() };
    for (who, option) in [(ann(), 0), (bob(), 1), (ann(), 1)] {
        play.show(&who, ShowAsk::PollVote { poll_id: poll_id.clone(), option }).unwrap();
    }
    let message_id = play.say(&ann(), "look here").unwrap();
    play.ask(&moderator(), ChatAsk::Pin { message_id }).unwrap();
    play.wait(SECOND);
    let effects = play.effects();
    (play, effects)
}

#[test]
fn what_is_open_and_in_sight_outlives_the_process() {
    let (play, effects) = busy();
    let kept = notes(&effects);
    assert!(kept.iter().all(|note| !is_intent(&note.name)), "{kept:?}");
    let mut later = again(kept);
    assert_eq!(sight(&later), sight(&play));
    assert_eq!(later.effects(), [], "it is as it was: there is nothing to tell, and nothing to write");
    // Who has voted has voted, and may change their mind as before.
    let question_id = later.room.questions(None, false)[0].id.clone();
    later.question(&bob(), QuestionAsk::Vote { question_id }).unwrap();
    assert_eq!(later.room.questions(None, false)[0].votes, 3);
    let poll_id = later.room.poll().unwrap().id.clone();
    assert_eq!(later.room.poll().unwrap().votes, [0, 2]);
    later.show(&bob(), ShowAsk::PollVote { poll_id, option: 0 }).unwrap();
    assert_eq!(later.room.poll().unwrap().votes, [1, 1]);
    // What was to close while nobody was there closes.
    let mut late = again(notes(&effects));
    late.wait(60 * SECOND);
    assert!(!late.room.poll().unwrap().open);
    // What is over leaves nothing behind.
    let mut over = again(notes(&effects));
    for _ in 0..2 {
        let poll_id = over.room.poll().unwrap().id.clone();
        over.show(&moderator(), ShowAsk::PollClose { poll_id }).unwrap();
    }
    over.show(&moderator(), ShowAsk::Announce { text: None }).unwrap();
    over.ask(&moderator(), ChatAsk::Unpin).unwrap();
    for question in over.room.questions(None, true) {
        over.question(&moderator(), QuestionAsk::Remove { question_id: question.id }).unwrap();
    }
    let all: Vec<_> = effects.into_iter().chain(over.effects()).collect();
    assert_eq!(notes(&all), []);
}

#[test]
fn what_is_asked_and_shown_is_told_when_it_is_written_and_once() {
    let mut play = stalled();
    for _ in 0..2 {
        let ask = QuestionAsk::Ask { text: "why?".into(), product_id: None, client_id: Some("c1".into()) };
        assert!(play.question(&ann(), ask).unwrap().is_some());
        play.show(&moderator(), ShowAsk::Announce { text: Some("tea".into()) }).unwrap();
        play.show(&moderator(), poll("which?")).unwrap();
    }
    assert_eq!(play.show(&moderator(), poll("another?")), Err(Refused::NotNow("a poll is open already")));
    assert!(play.room.proposed().is_some() || play.room.announcement().is_none());
    let effects = play.effects();
    assert_eq!((tells(&effects), effects.len()), (0, 3), "each is written once, and nothing is told");
    assert!(play.room.questions(None, true).is_empty() && play.room.poll().is_none());
    play.room.written(number(&effects), play.now);
    let made = play.effects();
    assert_eq!(tells(&made), 3);
    // Killed at any point after it was written, it is there once.
    let all: Vec<_> = effects.iter().chain(&made).cloned().collect();
    for upto in effects.len()..=all.len() {
        let mut later = again(notes(&all[..upto]));
        assert_eq!(sight(&later), sight(&play), "{upto}");
        let left = notes(&all[..upto].iter().cloned().chain(later.effects()).collect::<Vec<_>>());
        assert!(left.iter().all(|note| !is_intent(&note.name)), "{upto}");
    }
}

#[test]
fn one_question_is_answered_at_a_time_however_slow_the_ledger_is() {
    let mut play = Play::new();
    let ids: Vec<_> =
        ["a?", "b?"].iter().map(|text| play.question(&ann(), asking(text)).unwrap().unwrap()).collect();
    play.effects();
    play.ledger = false;
    for question_id in ids.iter().cloned() {
        play.question(&moderator(), QuestionAsk::Pick { question_id }).unwrap();
    }
    let answer = QuestionAsk::Answer { question_id: ids[1].clone(), text: Some("yes".into()) };
    play.question(&moderator(), answer).unwrap();
    // Decided of what waits, and not of what is seen: there is nothing left to take back.
    play.question(&moderator(), QuestionAsk::Unpick { question_id: ids[1].clone() }).unwrap();
    let effects = play.effects();
    play.room.written(number(&effects), play.now);
    let states: Vec<_> =
        play.room.questions(None, true).into_iter().map(|it| (it.text, it.state, it.answer)).collect();
    assert_eq!(
        states,
        [
            ("a?".to_owned(), QuestionState::Open, None),
            ("b?".to_owned(), QuestionState::Answered, Some("yes".to_owned()))
        ]
    );
}

#[test]
fn a_deletion_is_told_when_the_log_has_it() {
    let mut play = Play::new();
    let message_id = play.say(&ann(), "buy my coins").unwrap();
    play.effects();
    play.ledger = false;
    let delete = ChatAsk::Delete { message_id: message_id.clone() };
    play.ask(&moderator(), delete.clone()).unwrap();
    let wait = play.room.proposed();
    play.ask(&moderator(), delete).unwrap();
    assert_eq!(play.room.proposed(), wait, "the same again waits for the same");
    // It is pinned meanwhile, which is void when it is gone.
    play.ask(&moderator(), ChatAsk::Pin { message_id }).unwrap();
    let effects = play.effects();
    assert_eq!((tells(&effects), play.room.chat(None, false).len()), (0, 1));
    let later = again(notes(&effects[..1]));
    assert_eq!(later.room.guard.log.len(), 1, "killed now, the next start knows who took what away");
    play.room.written(number(&effects), play.now);
    assert!(play.room.chat(None, false).is_empty() && play.room.chat_pin().is_none());
    assert_eq!(play.room.guard.log.len(), 1);
    // What somebody takes back of their own is in no log, and waits for nothing.
    let message_id = play.say(&ann(), "sorry").unwrap();
    let _ = play.room.proposed();
    play.ask(&ann(), ChatAsk::Delete { message_id }).unwrap();
    assert_eq!((play.room.proposed(), play.room.chat(None, false).len()), (None, 0));
}

#[test]
fn an_orderly_end_keeps_what_was_counted_in_its_last_moment() {
    let mut play = Play::new();
    let Shown::Giveaway(giveaway_id) = play.show(&host(), giveaway(1)).unwrap() else { panic!() };
    let question_id = play.question(&ann(), asking("which sizes?")).unwrap().unwrap();
    let Shown::Poll(poll_id) = play.show(&moderator(), poll("which one?")).unwrap() else { panic!() };
    play.wait(10 * SECOND);
    let mut effects = play.effects();
    play.show(&bob(), ShowAsk::GiveawayEnter { giveaway_id }).unwrap();
    play.question(&bob(), QuestionAsk::Vote { question_id }).unwrap();
    play.show(&bob(), ShowAsk::PollVote { poll_id, option: 1 }).unwrap();
    effects.extend(play.effects());
    let counted = |play: &Play| {
        let room = &play.room;
        let votes = room.poll().unwrap().votes[1];
        (room.giveaway().unwrap().entries, room.questions(None, true)[0].votes, votes)
    };
    assert_eq!(counted(&again(notes(&effects))), (0, 1, 0), "of a kill, that is lost");
    play.room.keep_counted();
    effects.extend(play.effects());
    assert_eq!(counted(&again(notes(&effects))), (1, 2, 1));
}

#[test]
fn who_entered_a_moment_ago_is_drawn_by_the_next_server_too() {
    let mut play = Play::new();
    play.room.watch();
    let Shown::Giveaway(giveaway_id) = play.show(&host(), giveaway(2)).unwrap() else { panic!() };
    for n in 0..4 {
        let enter = ShowAsk::GiveawayEnter { giveaway_id: giveaway_id.clone() };
        play.show(&writer(&format!("p{n}"), Role::Viewer), enter).unwrap();
    }
    // It dies before the entries were in any note.
    let notes = notes(&play.effects());
    let news = play.room.news();
    let last = news.made.last().unwrap().number;
    let offset = play.room.position().1;
    let estate =
        crate::Estate { epoch: "e1".into(), offset, lines: news.lines, made: news.made, complete: true };
    let mut heir = Play::new();
    heir.room.watch();
    heir.room.inherit(estate, heir.now);
    heir.room.restore(notes, heir.now);
    assert_eq!(heir.room.giveaway().unwrap().entries, 4);
    assert_eq!(heir.room.news(), crate::News::default(), "nothing of it is new");
    for play in [&mut play, &mut heir] {
        play.show(&host(), ShowAsk::GiveawayDraw { giveaway_id: giveaway_id.clone() }).unwrap();
    }
    assert_eq!(heir.room.giveaway(), play.room.giveaway(), "the same have won");
    let numbers = heir.room.news().made.into_iter().map(|made| made.number);
    assert!(numbers.min().is_none_or(|first| first > last), "and its changes come after those");
    assert_eq!(heir.room.giveaway().unwrap().winners.len(), 2);
}

#[test]
fn what_is_asked_while_a_ban_is_written_is_never_told() {
    let mut play = stalled();
    play.ask(&moderator(), against(Measure::Ban, "ann", None)).unwrap();
    play.question(&ann(), asking("buy my coins?")).unwrap();
    play.question(&bob(), asking("why?")).unwrap();
    let effects = play.effects();
    play.room.written(number(&effects), play.now);
    let made = play.effects();
    let asked: Vec<_> = play.room.questions(None, true).into_iter().map(|question| question.name).collect();
    assert_eq!(asked, ["bob"]);
    let left = notes(&effects.iter().chain(&made).cloned().collect::<Vec<_>>());
    assert!(left.iter().all(|note| !note.name.ends_with("/ann") || note.name == "standing/ann"), "{left:?}");
}
