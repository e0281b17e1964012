//! What is gone is told to nobody any more: not to who comes back, not by a next start, not by an heir.

use super::{
    written::{again, busy, notes},
    *,
};
use crate::{Estate, News, without};

/// What somebody is told who comes back and has missed everything.
fn past(play: &Play) -> String {
    let position = Position { epoch: "e1".into(), offset: 0 };
    let missed = play.room.missed(&position, None, false).unwrap();
    missed.iter().map(|line| String::from_utf8_lossy(line).into_owned() + "\n").collect()
}

#[test]
fn who_comes_back_is_not_told_what_a_question_was_that_is_gone() {
    let mut play = Play::new();
    play.room.watch();
    let gone = play.question(&ann(), asking("call me on 555 0100")).unwrap().unwrap();
    let stays = play.question(&bob(), asking("which sizes?")).unwrap().unwrap();
    for question_id in [&gone, &stays] {
        play.question(&moderator(), QuestionAsk::Pick { question_id: question_id.clone() }).unwrap();
    }
    assert_eq!(past(&play).matches("555 0100").count(), 3, "asked, picked, and put back");
    let lines = past(&play).lines().count();
    let before = play.room.news();
    play.question(&moderator(), QuestionAsk::Remove { question_id: gone.clone() }).unwrap();
    assert!(!past(&play).contains("555 0100"), "{}", past(&play));
    assert_eq!(past(&play).matches(gone.as_str()).count(), 4);
    assert_eq!(past(&play).matches("which sizes?").count(), 2);
    assert_eq!(past(&play).lines().count(), lines + 1, "everything keeps its place");

    // Nor by the next server, which was left the lines as they were told.
    let news = play.room.news();
    let lines = [before.lines, news.lines].concat();
    let made = [before.made, news.made].concat();
    let mut heir = Play::new();
    heir.room.inherit(
        Estate { epoch: "e1".into(), offset: play.room.position().1, lines, made, complete: true },
        heir.now,
    );
    assert_eq!(past(&heir), past(&play));
}

#[test]
fn a_winner_who_is_forgotten_keeps_the_prize_and_has_no_name() {
    let mut play = Play::new();
    let Shown::Giveaway(giveaway_id) = play.show(&host(), giveaway(1)).unwrap() else { panic!() };
    play.show(&ann(), ShowAsk::GiveawayEnter { giveaway_id: giveaway_id.clone() }).unwrap();
    play.show(&host(), ShowAsk::GiveawayDraw { giveaway_id: giveaway_id.clone() }).unwrap();
    let mut effects = play.effects();
    assert_eq!(play.room.giveaway().unwrap().winners[0].name, ann().name);
    assert!(past(&play).contains(&ann().name));
    play.room.forget_person(&ann().id, play.now);
    assert!(!past(&play).contains(&ann().name), "nor is who comes back told: {}", past(&play));
    effects.extend(play.effects());
    for play in [&mut again(notes(&effects)), &mut play] {
        assert_eq!(play.room.giveaway().unwrap().winners[0].name, "");
        play.show(&ann(), ShowAsk::GiveawayClaim { giveaway_id: giveaway_id.clone() }).unwrap();
    }
}

#[test]
fn whoever_is_forgotten_is_in_no_note() {
    let (mut play, mut effects) = busy();
    let at = play.at();
    play.room.write_thread(&ann(), None, "where is it?", None, at, &|_| None).unwrap();
    play.settle();
    // Of each, something waits still to be written.
    play.ledger = false;
    play.question(&ann(), asking("and red?")).unwrap();
    let question_id = play.room.questions(None, true)[0].id.clone();
    play.question(&moderator(), QuestionAsk::Unpick { question_id }).unwrap();
    let message_id = play.say(&ann(), "me too").unwrap();
    play.ask(&moderator(), ChatAsk::Pin { message_id: message_id.clone() }).unwrap();
    let at = play.at();
    play.room.write_thread(&ann(), None, "hello?", None, at, &|_| None).unwrap();
    effects.extend(play.effects());
    assert_eq!(notes(&effects).iter().filter(|note| note.name.ends_with("/ann")).count(), 7);
    let quoted =
        ChatAsk::Send { text: "so it is".into(), client_id: None, reply_to: Some(message_id.clone()) };
    play.ask(&bob(), quoted).unwrap();
    play.room.forget_person(&ann().id, play.now);
    effects.extend(play.effects());
    let shown = play.room.chat(None, true);
    let quotes: Vec<_> = shown
        .iter()
        .filter_map(|line| line.reply_to.as_ref())
        .map(|quote| (&*quote.text, &*quote.name))
        .collect();
    assert!(shown.iter().all(|line| line.name != ann().name), "{shown:?}");
    assert_eq!(quotes, [("", "")]);
    let left = notes(&effects);
    let names_them =
        |note: &Note| note.name.ends_with("/ann") || note.text.as_ref().unwrap().contains("\"ann\"");
    assert_eq!(left.iter().filter(|note| names_them(note)).collect::<Vec<_>>(), Vec::<&Note>::new());
    play.room.written(u64::MAX, play.now);
    assert!(play.room.yours(&ann().id).is_empty() && play.room.chat_pin().is_none());
    assert_eq!(play.room.questions(None, true).len(), 1, "others' stay");
}

/// Has the room say what is new, and leaves it as a bus would.
fn leave(play: &mut Play, estate: &mut Estate) {
    let News { lines, made, rewritten } = play.room.news();
    let (epoch, offset) = play.room.position();
    (estate.epoch, estate.offset, estate.complete) = (epoch.to_owned(), offset, true);
    estate.lines.extend(lines);
    estate.made.extend(made);
    for (place, line) in rewritten {
        let at = estate.lines.len() - 1 - (offset - place) as usize;
        estate.lines[at] = line;
    }
}

fn inherit(estate: Estate, notes: Vec<Note>) -> Play {
    let mut heir = Play::new();
    heir.room.watch();
    heir.room.inherit(estate, heir.now);
    heir.room.restore(notes, heir.now);
    heir
}

/// A room in which Ann has said, asked and won things, and others have answered her.
fn with_ann() -> (Play, GiveawayId) {
    let mut play = Play::new();
    play.room.watch();
    let reply = |to: &MessageId, text: &str| ChatAsk::Send {
        text: text.into(),
        client_id: None,
        reply_to: Some(to.clone()),
    };
    let ann = Writer { name: "Ann Secret".into(), ..ann() };
    let gone = play.say(&ann, "SECRET one").unwrap();
    play.ask(&bob(), reply(&gone, "of what is gone")).unwrap();
    play.ask(&ann, ChatAsk::Delete { message_id: gone }).unwrap();
    let pinned = play.say(&ann, "SECRET two").unwrap();
    play.ask(&moderator(), ChatAsk::Pin { message_id: pinned.clone() }).unwrap();
    play.wait(10 * SECOND);
    let answered = play.ask(&bob(), reply(&pinned, "of what is pinned")).unwrap();
    let Answer::Said(answered) = answered else { panic!("{answered:?}") };
    play.ask(&moderator(), ChatAsk::Pin { message_id: answered }).unwrap();
    for text in ["SECRET three?", "SECRET four?"] {
        let question_id = play.question(&ann, asking(text)).unwrap().unwrap();
        play.question(&bob(), QuestionAsk::Vote { question_id: question_id.clone() }).unwrap();
        play.question(&moderator(), QuestionAsk::Pick { question_id }).unwrap();
    }
    let question_id = play.question(&bob(), asking("which sizes?")).unwrap().unwrap();
    play.question(&ann, QuestionAsk::Vote { question_id }).unwrap();
    let poll = ShowAsk::PollOpen {
        question: "Which?".into(),
        options: vec!["a".into(), "b".into()],
        duration_ms: 600_000,
    };
    let Shown::Poll(poll_id) = play.show(&moderator(), poll).unwrap() else { panic!() };
    for who in [&ann, &bob()] {
        play.show(who, ShowAsk::PollVote { poll_id: poll_id.clone(), option: 1 }).unwrap();
    }
    play.show(&moderator(), ShowAsk::Announce { text: Some("tea at nine".into()) }).unwrap();
    let Shown::Giveaway(giveaway_id) = play.show(&host(), giveaway(1)).unwrap() else { panic!() };
    play.show(&ann, ShowAsk::GiveawayEnter { giveaway_id: giveaway_id.clone() }).unwrap();
    play.show(&host(), ShowAsk::GiveawayDraw { giveaway_id: giveaway_id.clone() }).unwrap();
    let at = play.at();
    play.room.write_thread(&ann, None, "SECRET five", None, at, &|_| None).unwrap();
    play.wait(10 * SECOND);
    (play, giveaway_id)
}

fn in_sight(play: &Play) -> impl PartialEq + std::fmt::Debug + use<> {
    let room = &play.room;
    (
        room.questions(None, true),
        room.poll().cloned(),
        room.announcement().cloned(),
        room.chat_pin().cloned(),
        room.chat(None, true),
    )
}

/// All that anybody is told who comes, or comes back.
fn told_to_newcomers(play: &Play) -> String {
    format!("{}{:?}{:?}", past(play), in_sight(play), play.room.giveaway())
}

#[test]
fn whoever_is_forgotten_is_in_nothing_that_is_told_or_left() {
    let (mut play, giveaway_id) = with_ann();
    let mut effects = play.effects();
    let mut estate = Estate::default();
    leave(&mut play, &mut estate);
    for word in ["SECRET one", "SECRET two", "SECRET three", "SECRET four", "Ann Secret"] {
        assert_eq!(told_to_newcomers(&play).contains(word), word != "SECRET one", "{word}");
    }
    let before = play.room.position().1;
    play.room.forget_person(&ann().id, play.now);
    effects.extend(play.effects());
    leave(&mut play, &mut estate);
    let told = told_to_newcomers(&play).to_lowercase();
    assert!(!told.contains("secret"), "{told}");
    assert_eq!(past(&play).lines().count() as u64, play.room.position().1, "everything keeps its place");
    assert!(past(&play).contains("of what is gone") && past(&play).contains("of what is pinned"));
    assert!(play.room.position().1 > before, "and who is here is told");
    assert_eq!(play.room.chat_pin().unwrap().text, "of what is pinned");
    assert_eq!(play.room.poll().unwrap().votes, [0, 2], "a vote counts on");

    // Whoever takes over, before or after what is left is written anew, knows no more of her, and no less of the others.
    let purged = Estate { made: without(estate.made.clone(), &ann().id), ..estate.clone() };
    let left = format!("{:?}{:?}", purged.made, purged.lines).to_lowercase();
    assert!(!left.contains("secret"), "{left}");
    let hers: Vec<_> = purged.made.iter().filter(|made| format!("{made:?}").contains("\"ann\"")).collect();
    assert!(hers.iter().all(|made| matches!(made.change, Change::Entered { .. })), "{hers:?}");
    for estate in [estate, purged] {
        let heir = inherit(estate, notes(&effects));
        assert_eq!(in_sight(&heir), in_sight(&play));
        assert!(!told_to_newcomers(&heir).to_lowercase().contains("secret"));
        assert_eq!(heir.room.giveaway(), play.room.giveaway());
    }
    // And so does the next start, of which only notes are left.
    let mut later = again(notes(&effects));
    let noted = format!("{:?}", notes(&effects)).to_lowercase();
    assert!(!noted.contains("secret"), "{noted}");
    assert_eq!(later.room.chat_pin(), play.room.chat_pin());
    later.show(&ann(), ShowAsk::GiveawayClaim { giveaway_id }).unwrap();
}

#[test]
fn who_is_forgotten_after_a_restart_is_found_in_what_it_left() {
    let (mut play, giveaway_id) = with_ann();
    let mut later = again(notes(&play.effects()));
    assert_eq!(later.room.chat_pin().unwrap().reply_to.as_ref().unwrap().name, "Ann Secret");
    later.room.forget_person(&ann().id, later.now);
    let told = told_to_newcomers(&later).to_lowercase();
    assert!(!told.contains("secret"), "{told}");
    assert_eq!(later.room.chat_pin().unwrap().text, "of what is pinned");
    assert_eq!(later.room.giveaway().unwrap().id, giveaway_id);
}

#[test]
fn what_a_dead_owner_forgot_its_notes_had_not_yet() {
    let (mut play, _) = with_ann();
    // The notes are of before, what is left to heirs is of after.
    let notes = notes(&play.effects());
    let mut estate = Estate::default();
    leave(&mut play, &mut estate);
    play.room.forget_person(&ann().id, play.now);
    leave(&mut play, &mut estate);
    let mut heir = inherit(estate, notes);
    let told = told_to_newcomers(&heir).to_lowercase();
    assert!(!told.contains("secret"), "{told}");
    let kept = format!("{:?}", self::notes(&heir.effects())).to_lowercase();
    assert!(!kept.contains("secret"), "{kept}");
}

#[test]
fn a_line_that_waits_in_a_loud_room_is_not_said_when_its_sender_is_forgotten() {
    let mut play = Play::new();
    for n in 0..2_000 {
        let _ = play.say(&writer(&format!("p{n}"), Role::Viewer), "hi");
    }
    play.say(&ann(), "SECRET").unwrap();
    assert!(!past(&play).contains("SECRET"), "it waits");
    play.room.forget_person(&ann().id, play.now);
    for _ in 0..200 {
        play.wait(SECOND);
    }
    assert!(!past(&play).contains("SECRET"));
}

#[test]
fn no_pin_tells_of_a_line_that_is_gone() {
    for ban in [false, true] {
        let mut play = Play::new();
        let first = play.say(&ann(), "SECRET one").unwrap();
        play.ask(&moderator(), ChatAsk::Pin { message_id: first.clone() }).unwrap();
        let second = play.say(&bob(), "two").unwrap();
        play.ask(&moderator(), ChatAsk::Pin { message_id: second }).unwrap();
        play.ask(&moderator(), ChatAsk::Pin { message_id: first.clone() }).unwrap();
        play.ask(&moderator(), ChatAsk::Unpin).unwrap();
        assert_eq!(past(&play).matches("SECRET").count(), 3);
        if ban {
            play.ask(&moderator(), against(Measure::Ban, "ann", None)).unwrap();
        } else {
            play.ask(&moderator(), ChatAsk::Delete { message_id: first }).unwrap();
        }
        assert!(!past(&play).contains("SECRET"), "{}", past(&play));
        assert!(past(&play).contains("\"two\""));
    }
}

#[test]
fn every_line_that_who_comes_back_is_told_can_be_taken_away() {
    let mut play = Play::new();
    let old = play.say(&ann(), "SECRET").unwrap();
    for n in 0..MAX_HISTORY - 1 {
        play.say(&moderator(), &n.to_string()).unwrap();
    }
    let position = Position { epoch: "e1".into(), offset: 0 };
    let oldest = |play: &Play| {
        let missed = play.room.missed(&Position { offset: 1, ..position.clone() }, None, false);
        missed.map(|lines| lines.len())
    };
    assert_eq!(oldest(&play), Some(MAX_HISTORY - 1));
    play.ask(&moderator(), ChatAsk::Delete { message_id: old }).unwrap();
    assert!(!play.room.missed(&Position { offset: 1, ..position }, None, false).unwrap().is_empty());
}

#[test]
fn a_pinned_line_of_before_a_restart_can_be_deleted_and_held_against_its_sender() {
    let mut play = Play::new();
    let message_id = play.say(&ann(), "look here").unwrap();
    play.ask(&moderator(), ChatAsk::Pin { message_id: message_id.clone() }).unwrap();
    let notes = notes(&play.effects());
    let delete = ChatAsk::Delete { message_id: message_id.clone() };
    for who in [ann(), moderator()] {
        let mut later = again(notes.clone());
        assert_eq!(later.ask(&bob(), delete.clone()), Err(Refused::Role(Role::Moderator)));
        later.ask(&who, delete.clone()).unwrap();
        assert_eq!(later.room.chat_pin(), None);
        let told = later.told();
        assert!(told.iter().any(|(_, told)| told["type"] == "chat.deleted"), "{told:?}");
        assert!(again(self::notes(&later.effects())).room.chat_pin().is_none());
    }
    let mut later = again(notes);
    let mute = ChatAsk::Moderate {
        action: Measure::Mute,
        message_id: Some(message_id),
        user_id: None,
        duration_ms: None,
        reason: None,
    };
    later.ask(&moderator(), mute).unwrap();
    assert!(matches!(later.say(&ann(), "but why"), Err(Refused::Muted { .. })));
}

#[test]
fn where_changes_are_lost_the_notes_are_believed() {
    let (mut play, effects) = busy();
    let estate = Estate { epoch: "e1".into(), offset: play.room.position().1, ..Estate::default() };
    let heir = inherit(estate.clone(), notes(&effects));
    let shown = |play: &Play| {
        let room = &play.room;
        (
            room.questions(None, true),
            room.poll().cloned(),
            room.announcement().cloned(),
            room.chat_pin().cloned(),
        )
    };
    assert_eq!(shown(&heir), shown(&play));
    // All that there was: what is not among it is in sight no more.
    let heir = inherit(Estate { complete: true, ..estate }, notes(&effects));
    assert_eq!(shown(&heir), (vec![], None, None, None));
    play.settle();
}

#[test]
fn of_what_an_earlier_version_left_the_messages_say_whom_they_quote() {
    let (mut play, _) = with_ann();
    let mut estate = Estate::default();
    leave(&mut play, &mut estate);
    for made in &mut estate.made {
        if let Change::Said { quoted, .. } | Change::ChatPinned { quoted, .. } = &mut made.change {
            *quoted = None;
        }
    }
    let mut heir = inherit(estate, Vec::new());
    assert_eq!(heir.room.chat_pin().unwrap().reply_to.as_ref().unwrap().name, "Ann Secret");
    heir.room.forget_person(&ann().id, heir.now);
    assert_eq!(heir.room.chat_pin().unwrap().reply_to.as_ref().unwrap().name, "");
    let pins = past(&heir).lines().filter(|line| line.contains("chat.pinned")).collect::<String>();
    assert!(!pins.contains("Ann Secret") && !pins.contains("SECRET"), "{pins}");
}
