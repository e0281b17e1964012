//! Nobody is told of what a next start would not know.

use haul_wire::show::ShowAsk;

use super::*;
use crate::intents::MAX_INTENTS;

/// A room whose ledger does not answer, and what it was given so far.
fn stalled() -> Play {
    Play { ledger: false, ..Play::new() }
}

/// What is written of those effects, as a start finds it.
fn notes(effects: &[Effect]) -> Vec<Note> {
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

fn again(notes: Vec<Note>) -> Play {
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
