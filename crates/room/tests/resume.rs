//! Whoever is cut off at any point, as often as may be, ends with what they would have had.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use haul_model::{BuyerId, Now, Role, UnixMillis};
use haul_room::{
    Answer, At, Audience, Batch, Effect, Estate, Lane, Line, Note, Outbox, Piece, Rate, Room, Writer,
};
use haul_wire::{ChatAsk, Measure, Position, questions::QuestionAsk, show::ShowAsk};
use serde_json::Value;

/// What a client knows: what the events of the room's order add up to.
#[derive(Debug, Default, Clone, PartialEq)]
struct Client {
    chat: Vec<(String, String)>,
    latest: BTreeMap<String, Value>,
    questions: BTreeMap<String, Value>,
    position: Option<(String, u64)>,
}

impl Client {
    /// As the client module does: numbered events move the position, what a snapshot contains is not taken twice.
    fn read(&mut self, line: &Line) {
        let event: Value = serde_json::from_slice(line).unwrap();
        if let Some(offset) = event["offset"].as_u64() {
            self.position = Some((event["epoch"].as_str().unwrap().to_owned(), offset));
        }
        let kind = event["type"].as_str().unwrap();
        match kind {
            "chat.message" => {
                let id = event["id"].as_str().unwrap().to_owned();
                if !self.chat.iter().any(|(known, _)| *known == id) {
                    self.chat.push((id, event["text"].as_str().unwrap().to_owned()));
                }
            }
            "chat.deleted" => {
                let gone = event["message_ids"].as_array().unwrap();
                self.chat.retain(|(id, _)| !gone.iter().any(|gone| gone == id));
            }
            "question.changed" => {
                let question = event["question"].clone();
                self.questions.insert(question["id"].as_str().unwrap().to_owned(), question);
            }
            "question.removed" => {
                self.questions.remove(event["question_id"].as_str().unwrap());
            }
            kind => {
                let mut what = event.clone();
                let fields = what.as_object_mut().unwrap();
                fields.remove("offset");
                self.latest.insert(kind.to_owned(), what);
            }
        }
    }

    fn position(&self) -> Position {
        let (epoch, offset) = self.position.clone().unwrap();
        Position { epoch, offset }
    }
}

/// xorshift64*: enough to choose by, and the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }
}

fn writer(id: &str, role: Role) -> Writer {
    Writer { id: id.parse().unwrap(), name: id.to_owned(), role, badges: Vec::new(), tier: None }
}

/// An evening in a room: everything that is told to all, in its order, with the lane it goes by.
struct Evening {
    room: Room,
    now: Now,
    dice: Dice,
    messages: Vec<haul_model::MessageId>,
    /// What the room has asked to be kept.
    notes: BTreeMap<String, Option<String>>,
    questions: Vec<haul_model::QuestionId>,
}

impl Evening {
    fn new(seed: u64) -> Self {
        Self {
            room: Room::new("e1".into(), Rate { burst: 1_000, every: Duration::from_millis(1) }),
            now: Now { instant: Instant::now(), wall: UnixMillis(1_000_000) },
            dice: Dice(seed),
            messages: Vec::new(),
            notes: BTreeMap::new(),
            questions: Vec::new(),
        }
    }

    /// Something happens; what everybody is told of it.
    fn happen(&mut self) -> Vec<(Lane, Line)> {
        self.now = self.now.after(Duration::from_millis(self.dice.roll(400)));
        self.room.timeout(self.now);
        let at = At {
            now: self.now,
            random: u128::from(self.dice.roll(u64::MAX)) << 64 | u128::from(self.dice.roll(u64::MAX)),
            secret: u128::from(self.dice.roll(u64::MAX)),
        };
        let somebody = writer(&format!("p{}", self.dice.roll(5)), Role::Viewer);
        let host = writer("host", Role::Host);
        let nobody = &|_: &BuyerId| None;
        match self.dice.roll(12) {
            0 if !self.messages.is_empty() => {
                let message_id = self.messages[self.dice.roll(self.messages.len() as u64) as usize].clone();
                let _ = self.room.ask(&host, ChatAsk::Delete { message_id }, at, nobody);
            }
            1 if !self.messages.is_empty() => {
                let message_id = self.messages[self.dice.roll(self.messages.len() as u64) as usize].clone();
                let _ = self.room.ask(&host, ChatAsk::Pin { message_id }, at, nobody);
            }
            2 => {
                let action = if self.dice.roll(2) == 0 { Measure::Ban } else { Measure::Restore };
                let user_id = Some(somebody.id.clone());
                let ask = ChatAsk::Moderate {
                    action,
                    message_id: None,
                    user_id,
                    duration_ms: Some(1_500),
                    reason: None,
                };
                let _ = self.room.ask(&host, ask, at, nobody);
            }
            3 => {
                let slow_ms = Some(self.dice.roll(3) * 10);
                let ask = ChatAsk::SetRules { slow_ms, who: None, links: None, repeats: None };
                let _ = self.room.ask(&host, ask, at, nobody);
            }
            4 => {
                let text = format!("question {}", at.random);
                let ask = QuestionAsk::Ask { text, product_id: None, client_id: None };
                self.questions.extend(self.room.ask_question(&somebody, ask, at, None).unwrap_or_default());
            }
            5 if !self.questions.is_empty() => {
                let question_id =
                    self.questions[self.dice.roll(self.questions.len() as u64) as usize].clone();
                let ask = match self.dice.roll(4) {
                    0 => QuestionAsk::Pick { question_id },
                    1 => QuestionAsk::Answer { question_id, text: None },
                    2 => QuestionAsk::Unpick { question_id },
                    _ => QuestionAsk::Remove { question_id },
                };
                let _ = self.room.ask_question(&host, ask, at, Some(1));
            }
            6 if self.dice.roll(3) == 0 => {
                let poll = self.room.poll().map(|poll| poll.id.clone());
                let ask = match poll {
                    None => ShowAsk::PollOpen {
                        question: "which?".to_owned(),
                        options: vec!["a".to_owned(), "b".to_owned()],
                        duration_ms: 5_000,
                    },
                    Some(poll_id) => ShowAsk::PollClose { poll_id },
                };
                let _ = self.room.show(&host, ask, at);
            }
            6 => {
                let text = (self.dice.roll(2) == 0).then(|| "listen".to_owned());
                let _ = self.room.show(&host, ShowAsk::Announce { text }, at);
            }
            _ => {
                let reply_to = self.messages.last().filter(|_| self.dice.roll(3) == 0).cloned();
                let ask = ChatAsk::Send { text: format!("line {}", at.random), client_id: None, reply_to };
                if let Ok(Answer::Said(id)) = self.room.ask(&somebody, ask, at, nobody) {
                    self.messages.push(id);
                }
            }
        }
        let mut told = Vec::new();
        while let Some(effect) = self.room.poll_effect() {
            match effect {
                Effect::Tell { to: Audience::All, lane, line, .. } => told.push((lane, line)),
                Effect::Keep(Note { name, text }) => drop(self.notes.insert(name, text)),
                Effect::Write { number, .. } => self.room.written(number, self.now),
                Effect::Tell { .. } | Effect::End { .. } => {}
            }
        }
        told
    }
}

/// Every way to be cut off once: after each line read, and back after each later event.
#[test]
fn a_client_cut_off_at_any_point_has_what_it_would_have_had() {
    for seed in 1..=4 {
        let mut evening = Evening::new(seed);
        let start = evening.room.position();
        let fresh = Client { position: Some((start.0.to_owned(), start.1)), ..Client::default() };
        let mut whole = fresh.clone();
        // Those who were cut off after each of the lines so far, by what they know; a cut can be anywhere between two
        // lines, also between two that one event caused.
        let mut away: Vec<Client> = vec![fresh.clone()];
        for _ in 0..60 {
            for (_, line) in evening.happen() {
                whole.read(&line);
                away.push(whole.clone());
            }
            for cut in &away {
                let mut back = cut.clone();
                for line in
                    evening.room.missed(&cut.position(), None, false).expect("nothing is forgotten yet")
                {
                    back.read(&line);
                }
                assert_eq!(back, whole, "seed {seed}, cut at {:?}", cut.position);
            }
        }
        assert!(whole.position.unwrap().1 > 30, "the evening was not an empty one");
    }
}

fn lines(piece: Option<Piece>) -> Vec<Line> {
    match piece {
        Some(Piece::Line(line)) => vec![line],
        Some(Piece::Batch(batch)) => batch.lines().cloned().collect(),
        None => Vec::new(),
    }
}

/// Any sequence of cuts, with lines in the outbox that never arrived.
#[test]
fn many_cuts_in_a_row_lose_and_double_nothing() {
    for seed in 1..=200 {
        let mut evening = Evening::new(seed);
        let mut dice = Dice(seed * 7_919);
        let start = evening.room.position();
        let fresh = Client { position: Some((start.0.to_owned(), start.1)), ..Client::default() };
        let (mut whole, mut cut_off) = (fresh.clone(), fresh);
        let mut outbox = Some(Outbox::default());
        for _ in 0..150 {
            let happened = evening.happen();
            happened.iter().for_each(|(_, line)| whole.read(line));
            if let Some(outbox) = &mut outbox {
                // Line by line, or together as a house tells it.
                let together = dice.roll(2) == 0;
                let in_order = |lane: &Lane| together && matches!(lane, Lane::Room | Lane::Chat);
                let (batch, lines): (Vec<_>, Vec<_>) =
                    happened.into_iter().partition(|(lane, _)| in_order(lane));
                let batch = batch.into_iter().map(|(lane, line)| (lane == Lane::Chat, line)).collect();
                outbox.push_batch(&Arc::new(Batch::new(batch)));
                for (lane, line) in lines {
                    outbox.push(lane, None, line);
                }
            }
            match (&mut outbox, dice.roll(4)) {
                // The network takes some of what waits…
                (Some(outbox), 0..=1) => {
                    for _ in 0..dice.roll(4) {
                        lines(outbox.pop()).iter().for_each(|line| cut_off.read(line));
                    }
                }
                // …or breaks, and what waits is gone…
                (Some(_), 2) => outbox = None,
                // …until the client is back.
                (None, 0..=1) => {
                    let mut back = Outbox::default();
                    for line in evening.room.missed(&cut_off.position(), None, false).unwrap() {
                        back.push(Lane::Room, None, line);
                    }
                    outbox = Some(back);
                }
                _ => {}
            }
        }
        let missed = match &mut outbox {
            Some(outbox) => {
                std::iter::from_fn(|| outbox.pop()).flat_map(|piece| lines(Some(piece))).collect()
            }
            None => evening.room.missed(&cut_off.position(), None, false).unwrap(),
        };
        for line in missed {
            cut_off.read(&line);
        }
        assert_eq!(cut_off, whole, "seed {seed}");
    }
}

/// Whoever takes a room over at any point goes on with it as if nothing had been.
#[test]
fn an_heir_shows_and_tells_what_the_room_would_have() {
    for seed in 1..=60 {
        let mut evening = Evening::new(seed);
        evening.room.watch();
        let mut estate = Estate { epoch: "e1".into(), ..Estate::default() };
        for _ in 0..80 {
            evening.happen();
            // People come and go.
            evening.room.peaked(evening.room.position().1 % 17);
            let news = evening.room.news();
            estate.lines.extend(news.lines);
            estate.made.extend(news.made);
        }
        estate.offset = evening.room.position().1;
        let rate = Rate { burst: 1_000, every: Duration::from_millis(1) };
        let mut heir = Room::new("e2".into(), rate);
        heir.watch();
        heir.inherit(estate.clone(), evening.now);
        let notes = evening.notes.clone().into_iter().map(|(name, text)| Note { name, text }).collect();
        heir.restore(notes, evening.now);
        assert_eq!(heir.news(), haul_room::News::default(), "nothing of it is new");
        let room = &evening.room;
        assert_eq!(heir.position(), room.position());
        let host = "host".parse().unwrap();
        assert_eq!(heir.chat(Some(&host), true), room.chat(Some(&host), true), "seed {seed}");
        assert_eq!(heir.chat_pin(), room.chat_pin(), "seed {seed}");
        assert_eq!(heir.rules(), room.rules());
        assert_eq!(heir.peak(), room.peak());
        for offset in 0..=estate.offset {
            let position = Position { epoch: "e1".into(), offset };
            assert_eq!(
                heir.missed(&position, None, false),
                room.missed(&position, None, false),
                "seed {seed}, from {offset}"
            );
        }
        // Where nothing is left but notes, what is open and in sight is as it was.
        while let Some(effect) = heir.poll_effect() {
            if let Effect::Keep(Note { name, text }) = effect {
                evening.notes.insert(name, text);
            }
        }
        let mut alone = Room::new("e3".into(), rate);
        let notes = evening.notes.clone().into_iter().map(|(name, text)| Note { name, text }).collect();
        alone.restore(notes, evening.now);
        for start in [&heir, &alone] {
            assert_eq!(start.questions(Some(&host), true), room.questions(Some(&host), true), "seed {seed}");
            assert_eq!(start.announcement(), room.announcement(), "seed {seed}");
            assert_eq!(start.poll(), room.poll(), "seed {seed}");
            assert_eq!(start.chat_pin(), room.chat_pin(), "seed {seed}");
        }
        // And it goes on the same way.
        evening.room = heir;
        let before = evening.room.position().1;
        let told: usize = (0..20).map(|_| evening.happen().len()).sum();
        assert!(evening.room.position().1 > before && told > 0);
    }
}
