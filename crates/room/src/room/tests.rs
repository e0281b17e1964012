mod giveaways;
mod measures;
mod written;

use std::time::{Duration, Instant};

use haul_wire::{Badge, Writers};
use serde_json::Value;

use super::*;
use crate::order::MAX_HISTORY;

const SECOND: Duration = Duration::from_secs(1);

#[allow(clippy::disallowed_methods)]
fn start() -> Now {
    Now { instant: Instant::now(), wall: UnixMillis(1_000_000) }
}

/// A room, its clock, and who is told what.
struct Play {
    room: Room,
    now: Now,
    random: u128,
    /// A ledger that writes down at once what it is given.
    ledger: bool,
    done: VecDeque<Effect>,
}

impl Play {
    fn new() -> Self {
        let room = Room::new("e1".into(), Rate { burst: 3, every: 2 * SECOND });
        Self { room, now: start(), random: 0, ledger: true, done: VecDeque::new() }
    }

    fn ask(&mut self, who: &Writer, ask: ChatAsk) -> Result<Answer, Refused> {
        self.random += 1;
        let at = self.at();
        let answer = self.room.ask(who, ask, at, &|_| None);
        self.settle();
        answer
    }

    /// The ledger does its work.
    fn settle(&mut self) {
        while let Some(effect) = self.room.poll_effect() {
            if let Effect::Write { number, .. } = effect
                && self.ledger
            {
                self.room.written(number, self.now);
            } else {
                self.done.push_back(effect);
            }
        }
    }

    fn at(&self) -> At {
        At { now: self.now, random: self.random, secret: !self.random }
    }

    fn say(&mut self, who: &Writer, text: &str) -> Result<MessageId, Refused> {
        match self.ask(who, send(text))? {
            Answer::Said(id) | Answer::Entered { message_id: Some(id), .. } => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    fn told(&mut self) -> Vec<(Audience, Value)> {
        self.effects()
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Tell { to, line, .. } => Some((to, serde_json::from_slice(&line).unwrap())),
                _ => None,
            })
            .collect()
    }

    fn effects(&mut self) -> Vec<Effect> {
        self.settle();
        self.done.drain(..).collect()
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now.after(by);
        self.room.timeout(self.now);
        self.settle();
    }
}

fn writer(id: &str, role: Role) -> Writer {
    Writer { id: id.parse().unwrap(), name: id.to_owned(), role, badges: Vec::new(), tier: None }
}

fn ann() -> Writer {
    writer("ann", Role::Viewer)
}

fn bob() -> Writer {
    writer("bob", Role::Viewer)
}

fn moderator() -> Writer {
    writer("mo", Role::Moderator)
}

fn send(text: &str) -> ChatAsk {
    ChatAsk::Send { text: text.to_owned(), client_id: None, reply_to: None }
}

fn against(action: Measure, user: &str, duration: Option<Duration>) -> ChatAsk {
    ChatAsk::Moderate {
        action,
        message_id: None,
        user_id: Some(user.parse().unwrap()),
        duration_ms: duration.map(|duration| duration.as_millis() as u64),
        reason: Some("spam".into()),
    }
}

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
    let missed = play.room.missed(&position).unwrap();
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
fn who_comes_back_gets_exactly_what_was_missed() {
    let mut play = Play::new();
    for text in ["a", "b", "c"] {
        play.say(&ann(), text).unwrap();
    }
    let lines: Vec<_> = play
        .effects()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Tell { line, .. } => Some(line),
            _ => None,
        })
        .collect();
    let at = |epoch: &str, offset| Position { epoch: epoch.into(), offset };
    for cut in 0..=3 {
        assert_eq!(play.room.missed(&at("e1", cut as u64)), Some(lines[cut..].to_vec()), "{cut}");
    }
    assert_eq!(play.room.missed(&at("e0", 3)), None, "another epoch");
    assert_eq!(play.room.missed(&at("e1", 4)), None, "a future that never was");
    assert_eq!(play.room.missed(&at("e1", u64::MAX)), None);
}

#[test]
fn a_line_that_may_overtake_others_does_not_say_where_its_reader_stands() {
    let mut room = Play::new().room;
    let numbered = room.set_pin(None);
    let unnumbered = room.line(&Event::ViewersChanged { viewers: 3, peak: 3 });
    let has_offset = |line: &Line| std::str::from_utf8(line).unwrap().contains(r#""offset":"#);
    assert!(has_offset(&numbered) && !has_offset(&unnumbered));
    assert_eq!(room.position(), ("e1", 1), "it takes no place either");
}

#[test]
fn who_missed_too_much_is_told_so() {
    let mut room = Play::new().room;
    for _ in 0..MAX_HISTORY + 1 {
        room.set_pin(None);
    }
    let at = |offset| Position { epoch: "e1".into(), offset };
    assert_eq!(room.missed(&at(0)), None);
    assert_eq!(room.missed(&at(1)).map(|lines| lines.len()), Some(MAX_HISTORY));
}

use haul_wire::{
    crowd::Reaction,
    questions::{QuestionAsk, QuestionState},
    show::ShowAsk,
};
use sha2::{Digest, Sha256};

use crate::{giveaway::WINNERS, room::Shown};

impl Play {
    fn question(
        &mut self,
        who: &Writer,
        ask: QuestionAsk,
    ) -> Result<Option<haul_model::QuestionId>, Refused> {
        self.random += 1;
        let at = self.at();
        let asked = self.room.ask_question(who, ask, at, Some(9_000));
        self.settle();
        asked
    }

    fn show(&mut self, who: &Writer, ask: ShowAsk) -> Result<Shown, Refused> {
        self.random += 1;
        let at = self.at();
        let shown = self.room.show(who, ask, at);
        self.settle();
        shown
    }
}

fn host() -> Writer {
    writer("host", Role::Host)
}

fn asking(text: &str) -> QuestionAsk {
    QuestionAsk::Ask { text: text.into(), product_id: None, client_id: Some(text.into()) }
}

#[test]
fn a_question_is_asked_wanted_picked_and_answered() {
    let mut play = Play::new();
    let first = play.question(&ann(), asking("how big?")).unwrap().unwrap();
    assert_eq!(
        play.question(&ann(), asking("how big?")).unwrap(),
        Some(first.clone()),
        "a retry is the same"
    );
    let second = play.question(&bob(), asking("which colours?")).unwrap().unwrap();
    play.told();
    for voter in ["cy", "di", "di"] {
        play.question(&writer(voter, Role::Viewer), QuestionAsk::Vote { question_id: second.clone() })
            .unwrap();
    }
    assert!(play.told().is_empty(), "votes are told together");
    play.wait(SECOND);
    let told = play.told();
    assert_eq!((told.len(), &told[0].1["votes"]), (1, &3.into()), "each person once");
    assert_eq!(play.room.questions(None, false)[0].id, second, "the most wanted first");

    let pick = |question_id: &haul_model::QuestionId| QuestionAsk::Pick { question_id: question_id.clone() };
    assert_eq!(play.question(&ann(), pick(&first)), Err(Refused::Role(Role::Moderator)));
    play.question(&moderator(), pick(&first)).unwrap();
    let told = play.told();
    assert_eq!(
        (&told[0].1["question"]["state"], &told[0].1["question"]["media_ms"]),
        (&"picked".into(), &9_000.into())
    );
    assert_eq!(told[1].0, Audience::Person("ann".parse().unwrap()), "who asked is told");
    play.question(&moderator(), pick(&second)).unwrap();
    let states: Vec<_> =
        play.room.questions(None, false).into_iter().map(|question| question.state).collect();
    assert_eq!(states, [QuestionState::Picked, QuestionState::Open], "one at a time");
    let answer = QuestionAsk::Answer { question_id: second.clone(), text: Some("red".into()) };
    play.question(&moderator(), answer).unwrap();
    assert_eq!(play.room.questions(None, false)[1].answer.as_deref(), Some("red"));
    assert_eq!(
        play.question(&ann(), QuestionAsk::Remove { question_id: second.clone() }),
        Err(Refused::Role(Role::Moderator))
    );
    play.question(&ann(), QuestionAsk::Remove { question_id: first }).unwrap();
    assert_eq!(play.room.questions(None, false).len(), 1);
}

#[test]
fn a_wrong_pick_goes_back_to_those_that_wait() {
    let mut play = Play::new();
    let id = play.question(&ann(), asking("how big?")).unwrap().unwrap();
    let unpick = || QuestionAsk::Unpick { question_id: id.clone() };
    play.question(&moderator(), QuestionAsk::Pick { question_id: id.clone() }).unwrap();
    play.told();
    assert_eq!(play.question(&ann(), unpick()), Err(Refused::Role(Role::Moderator)));
    play.question(&moderator(), unpick()).unwrap();
    let told = play.told();
    assert_eq!(told.len(), 1, "who asked need not hear of it");
    assert_eq!(
        (&told[0].1["question"]["state"], &told[0].1["question"]["media_ms"]),
        (&"open".into(), &Value::Null)
    );

    play.question(&moderator(), QuestionAsk::Answer { question_id: id.clone(), text: None }).unwrap();
    play.told();
    play.question(&moderator(), unpick()).unwrap();
    assert!(play.told().is_empty(), "what is answered stays so");
}

#[test]
fn nobody_fills_the_queue_of_questions() {
    let mut play = Play::new();
    for text in ["a", "b", "c"] {
        play.question(&ann(), asking(text)).unwrap();
    }
    assert!(matches!(play.question(&ann(), asking("d")), Err(Refused::NotNow(_))));
    play.ask(&moderator(), against(Measure::ShadowBan, "bob", None)).unwrap();
    play.told();
    play.question(&bob(), asking("me too")).unwrap();
    let audiences: Vec<_> = play.told().into_iter().map(|(to, _)| to).collect();
    assert_eq!(audiences, [Audience::Person(bob().id), Audience::Staff], "the asker, and the host's team");
    assert_eq!(play.room.questions(Some(&bob().id), false).len(), 4, "also when they come back");
    assert_eq!(play.room.questions(None, true).len(), 4);
    assert_eq!(play.room.questions(None, false).len(), 3);
    for n in 0..crate::questions::MAX_OPEN {
        let _ = play.question(&writer(&format!("p{n}"), Role::Viewer), asking("hm"));
    }
    assert_eq!(play.room.questions(None, false).len(), crate::questions::MAX_SHOWN);
    let more = play.question(&writer("late", Role::Viewer), asking("hm"));
    assert!(matches!(more, Err(Refused::NotNow(_))));
}

#[test]
fn a_poll_counts_each_person_once_and_closes_by_itself() {
    let mut play = Play::new();
    let open = ShowAsk::PollOpen {
        question: "Which?".into(),
        options: vec!["red".into(), "blue".into()],
        duration_ms: 30_000,
    };
    assert_eq!(play.show(&ann(), open.clone()), Err(Refused::Role(Role::Moderator)));
    let Shown::Poll(poll_id) = play.show(&moderator(), open.clone()).unwrap() else { panic!() };
    assert!(matches!(play.show(&moderator(), open), Err(Refused::NotNow(_))));
    play.told();
    let vote = |option| ShowAsk::PollVote { poll_id: poll_id.clone(), option };
    for (who, option) in [(ann(), 0), (bob(), 1), (ann(), 1), (ann(), 1)] {
        play.show(&who, vote(option)).unwrap();
    }
    assert!(matches!(play.show(&ann(), vote(2)), Err(Refused::Field(_))));
    play.wait(SECOND);
    assert_eq!(play.told()[0].1["votes"], serde_json::json!([0, 2]));
    play.wait(29 * SECOND);
    assert_eq!(play.told()[0].1["poll"]["open"], false);
    assert!(matches!(play.show(&ann(), vote(0)), Err(Refused::NotNow(_))));
    play.show(&moderator(), ShowAsk::PollClose { poll_id: poll_id.clone() }).unwrap();
    assert_eq!(play.told()[0].1["poll"], Value::Null);
}

fn giveaway(winners: u32) -> ShowAsk {
    ShowAsk::GiveawayStart {
        title: "A lamp".into(),
        word: Some("Lamp!".into()),
        winners,
        duration_ms: 60_000,
        claim_ms: 30_000,
    }
}

#[test]
fn a_giveaway_can_be_checked_by_everybody() {
    let mut play = Play::new();
    assert_eq!(play.show(&moderator(), giveaway(2)), Err(Refused::Role(Role::Host)));
    assert!(matches!(play.show(&host(), giveaway(*WINNERS.end() + 1)), Err(Refused::Field(_))));
    let Shown::Giveaway(giveaway_id) = play.show(&host(), giveaway(2)).unwrap() else { panic!() };
    let started = play.told()[0].1["giveaway"].clone();
    assert_eq!(started["seed"], Value::Null);
    let enter = ShowAsk::GiveawayEnter { giveaway_id: giveaway_id.clone() };
    let mut tickets = Vec::new();
    for n in 0..20 {
        let who = writer(&format!("p{n}"), Role::Viewer);
        for _ in 0..2 {
            let Shown::Ticket(ticket) = play.show(&who, enter.clone()).unwrap() else { panic!() };
            tickets.push(ticket);
        }
    }
    tickets.dedup();
    play.say(&ann(), "lamp").unwrap();
    play.say(&ann(), "a lamp is nice").unwrap();
    tickets.push(play.room.ticket(&ann().id).unwrap());
    assert!(matches!(play.show(&host(), enter.clone()), Err(Refused::NotNow(_))));
    play.told();
    play.wait(SECOND);
    assert_eq!(play.told()[0].1["entries"], 21, "each person once, the chat's word too");
    play.wait(60 * SECOND);
    let told = play.told();
    let drawn = &told[0].1["giveaway"];
    assert_eq!((&drawn["open"], &drawn["entries"]), (&false.into(), &21.into()));

    // What anybody can do with what they were told.
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let seed = drawn["seed"].as_str().unwrap();
    assert_eq!(
        hex(&Sha256::digest(seed)),
        started["commitment"],
        "the seed was fixed before anybody entered"
    );
    tickets.sort_by_key(|ticket| hex(&Sha256::digest(format!("{seed}:{ticket}"))));
    let won: Vec<_> =
        drawn["winners"].as_array().unwrap().iter().map(|winner| winner["ticket"].clone()).collect();
    assert_eq!(won, tickets[..2].iter().map(|ticket| Value::from(ticket.clone())).collect::<Vec<_>>());

    let winners = play.room.winners().to_vec();
    assert!(
        told.iter().any(|(to, line)| *to == Audience::Person(winners[0].user_id.clone())
            && line["type"] == "giveaway.won")
    );
    let claim = ShowAsk::GiveawayClaim { giveaway_id: giveaway_id.clone() };
    let winner = |n: usize| Writer { id: winners[n].user_id.clone(), ..ann() };
    play.show(&winner(0), claim.clone()).unwrap();
    assert!(play.room.winners()[0].claimed);
    assert!(matches!(play.show(&host(), claim.clone()), Err(Refused::NotNow(_))));
    play.wait(30 * SECOND);
    assert!(matches!(play.show(&winner(1), claim.clone()), Err(Refused::NotNow(_))), "too late");
    play.show(&winner(0), claim).unwrap();
    assert!(matches!(play.show(&ann(), enter), Err(Refused::NotNow(_)) | Ok(Shown::Ticket(_))));
}

#[test]
fn a_word_of_nothing_but_an_emoji_is_entered_by_that_emoji_alone() {
    let mut play = Play::new();
    let ShowAsk::GiveawayStart { title, winners, duration_ms, claim_ms, .. } = giveaway(1) else { panic!() };
    let start = ShowAsk::GiveawayStart { title, word: Some("🎁".into()), winners, duration_ms, claim_ms };
    play.show(&host(), start).unwrap();
    play.say(&ann(), "👏").unwrap();
    play.say(&ann(), "!!!").unwrap();
    assert_eq!(play.room.ticket(&ann().id), None);
    play.say(&ann(), " 🎁").unwrap();
    assert!(play.room.ticket(&ann().id).is_some());
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

#[test]
fn a_giveaway_outlives_a_restart() {
    let mut play = Play::new();
    let Shown::Giveaway(giveaway_id) = play.show(&host(), giveaway(1)).unwrap() else { panic!() };
    play.show(&ann(), ShowAsk::GiveawayEnter { giveaway_id }).unwrap();
    play.wait(3 * SECOND);
    let kept = play.effects().into_iter().filter_map(|effect| match effect {
        Effect::Keep(note) => Some(note),
        _ => None,
    });
    let last = kept.last().unwrap();
    let mut later = Play::new();
    later.wait(3 * SECOND);
    later.room.restore(vec![last], later.now);
    assert!(later.room.ticket(&ann().id).is_some());
    later.wait(57 * SECOND);
    assert_eq!(later.room.winners()[0].name, "ann");
}

#[test]
fn likes_and_joins_are_told_as_sums() {
    let mut play = Play::new();
    for n in 0..100_000 {
        play.room.like(if n % 10 == 0 { Reaction::Fire } else { Reaction::Heart }, 1, play.now);
    }
    for n in 0..5_000 {
        play.room.joined(&format!("p{n}"), play.now);
    }
    assert!(play.told().is_empty());
    play.wait(SECOND);
    let told = play.told();
    assert_eq!(
        (told.len(), &told[0].1["total"], &told[0].1["new"]["fire"]),
        (1, &100_000.into(), &10_000.into())
    );
    play.wait(SECOND);
    let told = play.told();
    assert_eq!((told.len(), &told[0].1["names"][0], &told[0].1["others"]), (1, &"p0".into(), &4_997.into()));
    play.wait(SECOND);
    assert!(play.told().is_empty(), "nothing new, nothing told");
}

#[test]
fn a_private_thread_is_for_two() {
    let mut play = Play::new();
    let at = play.at();
    let people = |who: &BuyerId| (who.as_str() == "bob").then(|| ("Bob".to_owned(), Role::Viewer));
    let before = play.room.position().1;
    let id =
        play.room.write_thread(&ann(), None, "where is my parcel?", Some("c".into()), at, &people).unwrap();
    play.settle();
    assert_eq!(
        play.room.write_thread(&ann(), None, "where is my parcel?", Some("c".into()), at, &people),
        Ok(id)
    );
    let audiences: Vec<_> = play.told().into_iter().map(|(to, _)| to).collect();
    assert_eq!(audiences, [Audience::Person("ann".parse().unwrap()), Audience::Staff]);
    assert_eq!(play.room.position().1, before, "never in the room's order");
    assert!(matches!(
        play.room.write_thread(&bob(), Some(ann().id), "hi", None, at, &people),
        Err(Refused::Role(Role::Moderator))
    ));
    assert_eq!(play.room.may_read_thread(&bob(), Some(ann().id)), Err(Refused::Role(Role::Moderator)));
    play.random += 1;
    let at = play.at();
    play.room.write_thread(&moderator(), Some(ann().id), "on its way", None, at, &people).unwrap();
    play.room.write_thread(&moderator(), Some(bob().id), "hello Bob", None, at, &people).unwrap();
    play.settle();
    let nobody =
        play.room.write_thread(&moderator(), Some("zed".parse().unwrap()), "hello?", None, at, &people);
    assert_eq!(nobody, Err(Refused::NoSuch("user_id")));
    let texts: Vec<_> = play.room.thread(&ann().id).into_iter().map(|message| message.text).collect();
    assert_eq!(texts, ["where is my parcel?", "on its way"]);
    assert_eq!(play.room.thread_lines(None).len(), 2);
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
