//! Servers with a lossy bus between them, in virtual time.

use std::{collections::BTreeMap, time::Duration};

use haul_commerce::{BusError, Kept, bus::BusBook};
use haul_model::Now;
use haul_room::{Change, Lane as Importance, Made, News};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    left::{estate, purged, written},
    message::{Ask, Item},
    part::{Act, Answer, Call, HEARD_WITHIN, LEASE, Lane, Part},
};
use crate::{
    house::Word,
    stage::{Delivery, To},
    testing::start,
};

/// A server as far as its part goes: a room that numbers what it is asked to say.
struct Server {
    part: Part,
    /// The next offset of the room, while this is its owner.
    offset: Option<u64>,
    /// What members here have read, in order.
    read: Vec<(String, u64)>,
    /// Asked here for the owner: not known to have been told yet.
    open: Vec<u64>,
    resets: usize,
    /// The room that is being loaded: for which term, and where it stands.
    loading: Option<(u64, u64)>,
    /// Calls under way: when the answer comes, which lane, and the answer.
    calls: Vec<(Now, Lane, Result<Answer, BusError>)>,
    alive: bool,
    /// Stands still until then: nothing is called or heard.
    frozen_until: Option<Now>,
}

impl Server {
    fn new(node: u64) -> Self {
        Self {
            part: Part::new(node),
            offset: None,
            read: Vec::new(),
            open: Vec::new(),
            resets: 0,
            loading: None,
            calls: Vec::new(),
            alive: true,
            frozen_until: None,
        }
    }
}

struct World {
    now: Now,
    rng: StdRng,
    book: BusBook,
    /// In a hundred calls, how many are lost on their way, and how many of their answers.
    loss: u32,
    servers: Vec<Server>,
    next_word: u64,
    /// Words that some member has read, and under which number.
    told: BTreeMap<u64, u64>,
}

impl World {
    fn new(seed: u64, servers: u64, loss: u32) -> Self {
        Self {
            now: start(),
            rng: StdRng::seed_from_u64(seed),
            book: BusBook::default(),
            loss,
            servers: (1..=servers).map(Server::new).collect(),
            next_word: 0,
            told: BTreeMap::new(),
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now.after(time);
        while self.now.instant < until.instant {
            self.turn();
            self.now = self.now.after(Duration::from_millis(10));
        }
    }

    fn turn(&mut self) {
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            if !server.alive || server.frozen_until.is_some_and(|until| until.instant > self.now.instant) {
                continue;
            }
            server.frozen_until = None;
            // The room is loaded a turn after it was asked for.
            if let Some((term, offset)) = server.loading.take() {
                server.part.begin(term, "e".into(), offset);
                server.offset = server.part.is_owner().then_some(offset);
            }
            let mut due: Vec<_> =
                server.calls.extract_if(.., |(at, ..)| at.instant <= self.now.instant).collect();
            due.sort_by_key(|(at, ..)| at.instant);
            for (_, lane, answer) in due {
                let acts = self.servers[index].part.answered(lane, answer, self.now);
                self.act(index, acts);
            }
            let (acts, calls) = self.servers[index].part.due(self.now);
            self.act(index, acts);
            for (lane, call) in calls {
                let lost = self.rng.random_range(0..100) < self.loss;
                let answer = match lost {
                    true => Err(BusError::NoAnswer("lost on its way".into())),
                    false => {
                        let answer = self.carry(index as u64 + 1, call);
                        match self.rng.random_range(0..100) < self.loss {
                            true => Err(BusError::NoAnswer("its answer is lost".into())),
                            false => Ok(answer),
                        }
                    }
                };
                let takes = Duration::from_millis(self.rng.random_range(0..40));
                self.servers[index].calls.push((self.now.after(takes), lane, answer));
            }
        }
    }

    fn carry(&mut self, node: u64, call: Call) -> Answer {
        let now = self.now.wall;
        match call {
            Call::Lease { take, seen } => Answer::Lease(self.book.lease(node, take, seen, LEASE, now)),
            Call::Release { term } => {
                self.book.release(term);
                Answer::Released
            }
            Call::Append { term, batch } => Answer::Append(self.book.append(node, term, &batch, LEASE, now)),
            Call::Told { after, .. } => Answer::Told(self.book.told(after)),
            Call::Left => Answer::Left(self.book.left()),
            Call::Ask(asked) => {
                self.book.ask(&asked);
                Answer::Ask
            }
            Call::Purge { term, who, told, asked } => {
                let kept = Kept { changes: purged(self.book.left().changes, &who), told, asked };
                Answer::Purged(self.book.replace(node, term, &kept, LEASE, now))
            }
            Call::Asked { after, .. } => {
                let (asked, end) = self.book.asked(&after);
                Answer::Asked(asked, end)
            }
        }
    }

    fn act(&mut self, index: usize, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Play(Word::Tell(Delivery { line, .. })) => {
                    let text = String::from_utf8(line.to_vec()).unwrap();
                    let (word, offset) = text.split_once('@').unwrap();
                    let (word, offset): (u64, u64) = (word.parse().unwrap(), offset.parse().unwrap());
                    self.told.insert(word, offset);
                    let server = &mut self.servers[index];
                    server.read.push((word.to_string(), offset));
                    server.open.retain(|open| *open != word);
                }
                Act::Load { term, left } => self.servers[index].loading = Some((term, left.offset)),
                Act::Demoted => self.servers[index].offset = None,
                Act::Reset => self.servers[index].resets += 1,
                Act::Asked { asks, .. } => {
                    for ask in asks {
                        if let Ask::Request { text, .. } = ask {
                            self.say_at_owner(index, text.parse().unwrap());
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn say_at_owner(&mut self, index: usize, word: u64) {
        let server = &mut self.servers[index];
        let Some(offset) = &mut server.offset else { return };
        *offset += 1;
        let line = haul_room::Line::from(format!("{word}@{offset}"));
        let news = News { lines: vec![line.clone()], ..News::default() };
        server.part.write(news, "e".into(), *offset);
        let delivery = Delivery { to: To::All, lane: Importance::Room, key: None, line };
        server.part.tell(Item::Word(Word::Tell(delivery)), true);
    }

    /// A member of this server says something.
    fn say(&mut self, index: usize) {
        self.next_word += 1;
        let word = self.next_word;
        let server = &mut self.servers[index];
        if server.offset.is_some() {
            self.say_at_owner(index, word);
            return;
        }
        let member = crate::stage::MemberId(1);
        if server.part.ask(Ask::Request { member, text: word.to_string() }) {
            server.open.push(word);
        }
    }

    fn owner(&self) -> Option<usize> {
        self.servers.iter().position(|server| server.alive && server.offset.is_some())
    }

    /// All that everybody has read is of one order without a gap, and all of it is kept for heirs.
    fn check(&self) {
        let left = self.book.left();
        let kept: Vec<String> =
            left.lines.iter().map(|line| String::from_utf8(line.clone()).unwrap()).collect();
        for server in &self.servers {
            for pair in server.read.windows(2) {
                assert_eq!(pair[1].1, pair[0].1 + 1, "no gap, nothing twice, nothing out of order");
            }
            for (word, offset) in &server.read {
                assert_eq!(kept[*offset as usize - 1], format!("{word}@{offset}"), "one order for all");
            }
            assert_eq!(server.resets, 0, "nobody had to come back");
        }
        assert_eq!(kept.len() as u64, left.offset);
    }
}

#[test]
fn two_servers_read_the_same_in_the_same_order_over_a_lossy_bus() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2, 20);
        world.wait(Duration::from_secs(3));
        for _ in 0..200 {
            let index = world.rng.random_range(0..2);
            world.say(index);
            let pause = world.rng.random_range(0..60);
            world.wait(Duration::from_millis(pause));
        }
        world.wait(Duration::from_secs(20));
        world.check();
        assert_eq!(world.servers[0].read, world.servers[1].read);
        assert_eq!(world.servers[0].read.len(), 200, "what was asked once is told once, whatever was lost");
    }
}

#[test]
fn an_owner_that_dies_or_stands_still_leaves_an_order_that_goes_on() {
    for seed in 0..60 {
        let mut world = World::new(seed, 3, 10);
        world.wait(Duration::from_secs(3));
        let mut deaths = 0;
        for turn in 0..600 {
            let alive: Vec<_> = (0..3).filter(|index| world.servers[*index].alive).collect();
            let index = alive[world.rng.random_range(0..alive.len())];
            world.say(index);
            world.wait(Duration::from_millis(30));
            let Some(owner) = world.owner() else { continue };
            if turn == 200 {
                let still = Duration::from_millis(world.rng.random_range(4_000..9_000));
                world.servers[owner].frozen_until = Some(world.now.after(still));
            } else if turn >= 400 && deaths == 0 {
                deaths += 1;
                world.servers[owner].alive = false;
            }
        }
        world.wait(Duration::from_secs(30));
        world.check();
        let reads: Vec<_> = world.servers.iter().filter(|server| server.alive).collect();
        assert_eq!(deaths, 1, "seed {seed}");
        assert_eq!(reads[0].read.last(), reads[1].read.last(), "both have read all");
        assert_eq!(reads[0].read.last().unwrap().1, world.book.left().offset);
        assert!(world.owner().is_some(), "somebody owns the room");
    }
}

#[test]
fn who_goes_away_hands_over_at_once() {
    let mut world = World::new(7, 2, 0);
    world.wait(Duration::from_secs(3));
    let owner = world.owner().unwrap();
    world.say(owner);
    world.servers[owner].part.leave();
    world.wait(Duration::from_millis(300));
    assert_eq!(world.owner(), Some(1 - owner), "without waiting for the lease to run out");
    world.say(owner);
    world.wait(Duration::from_secs(1));
    world.check();
    assert_eq!(world.servers[owner].read, world.servers[1 - owner].read, "who goes still hears");
    assert_eq!(world.servers[owner].read.len(), 2);
}

#[test]
fn what_is_lost_with_the_bus_has_everybody_come_back() {
    let mut world = World::new(9, 2, 0);
    world.wait(Duration::from_secs(3));
    for _ in 0..5 {
        let owner = world.owner().unwrap();
        world.say(owner);
        world.wait(Duration::from_millis(100));
    }
    world.book = BusBook::default();
    world.wait(Duration::from_secs(10));
    assert!(world.servers.iter().all(|server| server.resets > 0), "their past is nobody's");
    let owner = world.owner().unwrap();
    for server in &mut world.servers {
        server.read.clear();
        server.resets = 0;
    }
    world.say(owner);
    world.say(1 - owner);
    world.wait(Duration::from_secs(2));
    world.check();
    assert_eq!(world.servers[0].read.len(), 2, "and it goes on");
    assert_eq!(world.servers[0].read, world.servers[1].read);
}

/// The owner writes down that somebody voted.
fn votes(world: &mut World, owner: usize, who: &str) {
    let change = Change::Wanted { id: "q_1".parse().unwrap(), by: who.parse().unwrap() };
    let server = &mut world.servers[owner];
    let offset = server.offset.unwrap();
    server.part.write(
        News { made: vec![Made { after: offset, number: 0, change }], ..News::default() },
        "e".into(),
        offset,
    );
}

fn is_left(world: &World, who: &str) -> usize {
    let left = world.book.left().changes;
    let texts = left.lists().into_iter().flatten().map(|text| String::from_utf8_lossy(text).into_owned());
    texts.filter(|text| text.contains(&format!("\"{who}\""))).count()
}

#[test]
fn who_is_forgotten_is_in_nothing_that_is_left_whatever_is_lost() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2, 20);
        world.wait(Duration::from_secs(3));
        let owner = world.owner().unwrap();
        for who in ["ann", "bob", "ann"] {
            votes(&mut world, owner, who);
            world.say(owner);
            world.say(1 - owner);
            world.wait(Duration::from_millis(500));
        }
        world.wait(Duration::from_secs(5));
        assert_eq!((is_left(&world, "ann"), is_left(&world, "bob")), (2, 1), "seed {seed}");
        // What waits to be told still is of before.
        votes(&mut world, owner, "ann");
        world.servers[owner].part.tell(Item::Forgot("ann".parse().unwrap()), true);
        world.servers[owner].part.purge("ann".parse().unwrap(), world.now);
        world.wait(HEARD_WITHIN + Duration::from_secs(5));
        assert_eq!((is_left(&world, "ann"), is_left(&world, "bob")), (0, 1), "seed {seed}");
        assert!(world.servers.iter().all(|server| server.resets == 0), "seed {seed}: everybody had heard");
        assert_eq!(world.book.left().changes.votes.len(), 4, "seed {seed}: a vote counts on");
        world.say(owner);
        world.say(1 - owner);
        world.wait(Duration::from_secs(5));
        assert_eq!(world.servers[0].read.last(), world.servers[1].read.last(), "seed {seed}: it goes on");
    }
}

#[test]
fn an_heir_that_missed_what_is_gone_has_its_readers_come_back_and_goes_on() {
    let mut world = World::new(3, 2, 0);
    world.wait(Duration::from_secs(3));
    let owner = world.owner().unwrap();
    world.say(owner);
    world.wait(Duration::from_millis(200));
    world.servers[1 - owner].frozen_until = Some(world.now.after(HEARD_WITHIN + Duration::from_secs(4)));
    world.say(owner);
    world.servers[owner].part.tell(Item::Forgot("ann".parse().unwrap()), true);
    world.servers[owner].part.purge("ann".parse().unwrap(), world.now);
    world.wait(HEARD_WITHIN + Duration::from_secs(1));
    world.servers[owner].alive = false;
    world.wait(Duration::from_secs(15));
    assert_eq!(world.owner(), Some(1 - owner));
    assert_eq!(world.servers[1 - owner].resets, 1);
    world.say(1 - owner);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.servers[1 - owner].read.last().unwrap().1, 3);
}

#[test]
fn changes_come_back_in_the_order_in_which_they_were_made_whatever_lists_they_are_in() {
    let voted =
        |by: &str| Change::Voted { id: "poll_1".parse().unwrap(), by: by.parse().unwrap(), option: 1 };
    let changes = [voted("ann"), Change::Poll { poll: None }, voted("bob"), Change::Liked { total: 3 }];
    let made: Vec<_> =
        changes.into_iter().zip(1..).map(|(change, number)| Made { after: 9, number, change }).collect();
    let mut left = haul_commerce::Left::default();
    written(&mut left.changes, &made);
    assert_eq!(left.changes.lists().map(Vec::len), [0, 1, 2, 1]);
    assert_eq!(estate(left).made, made);
}
