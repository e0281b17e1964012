mod chat;
mod forgotten;
mod giveaways;
mod measures;
mod show;
mod written;

use std::time::{Duration, Instant};

use haul_wire::{
    Badge, ChatAsk, LogAction, Writers,
    crowd::Reaction,
    questions::{QuestionAsk, QuestionState},
    show::ShowAsk,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;
use crate::{giveaway::WINNERS, order::MAX_HISTORY};

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
        assert_eq!(
            play.room.missed(&at("e1", cut as u64), None, false),
            Some(lines[cut..].to_vec()),
            "{cut}"
        );
    }
    assert_eq!(play.room.missed(&at("e0", 3), None, false), None, "another epoch");
    assert_eq!(play.room.missed(&at("e1", 4), None, false), None, "a future that never was");
    assert_eq!(play.room.missed(&at("e1", u64::MAX), None, false), None);
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
    assert_eq!(room.missed(&at(0), None, false), None);
    assert_eq!(room.missed(&at(1), None, false).map(|lines| lines.len()), Some(MAX_HISTORY));
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
