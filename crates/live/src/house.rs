//! Who is connected to a live here, and how they are reached.
//!
//! Replies and money go at once. What the room says waits a moment for company: it is told to everybody together, so
//! that a busy room costs each reader a write now and then, and not one for every line.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use haul_model::{BuyerId, Languages, Locale, Viewer};
use haul_room::{Batch, Key, Lane, Line};
use serde::{Deserialize, Serialize};

use crate::{
    connection::{Inbox, Outlet},
    metrics::Metrics,
    scribes::{READERS_AT_HAND, Scribes},
    stage::{Delivery, MemberId, To, as_text, as_texts, is_staff},
};

/// What the room says is told at once after so long a silence; what it says in between waits for that long to have passed.
const GATHER: Duration = Duration::from_millis(30);
/// The same where more than [`LARGE_ROOM`] read: there, a write costs far more than another line in it.
const GATHER_IN_LARGE_ROOM: Duration = Duration::from_millis(50);
/// Readers in this process.
const LARGE_ROOM: usize = 1_000;
/// Lines gathered at most; more are told at once.
const MAX_GATHERED: usize = 256;

/// A member as they are reached.
struct Place {
    outlet: Arc<Outlet>,
    buyer: Option<BuyerId>,
    /// In which language they read of products, where they have said so.
    locale: Option<Locale>,
    /// Gets what goes to everybody, from this one of the lines that wait on; `None` before the welcome.
    welcomed: Option<u64>,
    /// What is for this member in particular and came before the welcome.
    kept: Vec<(Lane, Option<Key>, Line)>,
}

/// What members are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// A line.
    Tell(Delivery),
    /// The same event to everybody, to each in the language of these that suits them best; `line` where none does.
    Translated {
        #[serde(with = "as_text")]
        line: Line,
        #[serde(with = "as_texts")]
        versions: Vec<(Locale, Line)>,
    },
    /// The member gets what goes to everybody, from here on.
    Welcome(MemberId),
    /// The member's connection ends with this code.
    End(MemberId, u16),
    /// Whoever writes this enters the giveaway.
    Entering(Option<String>),
    /// The member's connection may refuse their chat lines by itself for so many milliseconds.
    Quiet(MemberId, u64),
}

/// The members of a live whose connections are in this process.
#[derive(Default)]
pub(crate) struct House {
    places: HashMap<MemberId, Place>,
    by_buyer: HashMap<BuyerId, Vec<MemberId>>,
    /// Host and moderators: few, and told of every order, so that the whole house is not searched for them.
    staff: Vec<MemberId>,
    /// What the room has said and nobody has been told yet, in its order: everything of [`Lane::Room`] and
    /// [`Lane::Chat`], to whomever it goes.
    waiting: Vec<Delivery>,
    /// What merely colours it, to everybody.
    ambient: Vec<(Option<Key>, Line)>,
    /// Which one the first of `waiting` is, of all that ever waited.
    first: u64,
    /// When the room was last told something.
    told_at: Option<Instant>,
    /// Who is to be written to at the end of the turn, because something to everybody waits for them.
    readers: Vec<Inbox>,
    scribes: Scribes,
}

impl House {
    /// Somebody who is welcomed later.
    pub(crate) fn enter(
        &mut self,
        member: MemberId,
        viewer: Option<&Viewer>,
        locale: Option<Locale>,
        outlet: Arc<Outlet>,
    ) {
        let buyer = viewer.map(|viewer| viewer.id.clone());
        if let Some(buyer) = &buyer {
            self.by_buyer.entry(buyer.clone()).or_default().push(member);
        }
        if viewer.is_some_and(is_staff) {
            self.staff.push(member);
        }
        self.places.insert(member, Place { outlet, buyer, locale, welcomed: None, kept: Vec::new() });
    }

    /// Somebody who asks one thing, and hears the answer and nothing else.
    pub(crate) fn visit(&mut self, member: MemberId, outlet: Arc<Outlet>) {
        let place = Place { outlet, buyer: None, locale: None, welcomed: None, kept: Vec::new() };
        self.places.insert(member, place);
    }

    pub(crate) fn leave(&mut self, member: MemberId) {
        let Some(place) = self.places.remove(&member) else { return };
        self.staff.retain(|other| *other != member);
        if let Some(buyer) = place.buyer
            && let Some(members) = self.by_buyer.get_mut(&buyer)
        {
            members.retain(|other| *other != member);
            if members.is_empty() {
                self.by_buyer.remove(&buyer);
            }
        }
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = MemberId> {
        self.places.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_welcomed(&self, member: MemberId) -> bool {
        self.places.get(&member).is_some_and(|place| place.welcomed.is_some())
    }

    pub(crate) fn play(&mut self, word: Word, metrics: &Metrics) {
        match word {
            Word::Tell(delivery) => self.tell(delivery, metrics),
            Word::Translated { line, versions } => self.tell_translated(&line, &versions, metrics),
            Word::Welcome(member) => self.welcome(member, metrics),
            // For the connections: whoever plays it has told them.
            Word::Entering(_) => {}
            Word::Quiet(member, lasts_ms) => {
                if let Some(place) = self.places.get(&member) {
                    place.outlet.quiet(Duration::from_millis(lasts_ms));
                }
            }
            Word::End(member, code) => {
                // They may have been told why.
                self.tell_gathered(metrics);
                self.end(member, code);
            }
        }
    }

    /// When what is gathered is to be told.
    pub(crate) fn due(&self) -> Option<Instant> {
        let gathered = !self.waiting.is_empty() || !self.ambient.is_empty();
        self.told_at.filter(|_| gathered).map(|at| at + self.gathers_for())
    }

    fn gathers_for(&self) -> Duration {
        if self.places.len() > LARGE_ROOM { GATHER_IN_LARGE_ROOM } else { GATHER }
    }

    /// Tells what is gathered, if it is time, and has it written; for the end of each turn.
    pub(crate) fn settle(&mut self, now: Instant, metrics: &Metrics) {
        if self.told_at.is_none_or(|at| at + self.gathers_for() <= now)
            && !(self.waiting.is_empty() && self.ambient.is_empty())
        {
            self.told_at = Some(now);
            self.tell_gathered(metrics);
        }
        self.scribes.write(&mut self.readers);
    }

    fn welcome(&mut self, member: MemberId, metrics: &Metrics) {
        let next = self.first + self.waiting.len() as u64;
        let Some(place) = self.places.get_mut(&member) else { return };
        place.welcomed = Some(next);
        for (lane, key, line) in std::mem::take(&mut place.kept) {
            place.outlet.push(lane, key, line, metrics);
        }
    }

    fn end(&self, member: MemberId, code: u16) {
        if let Some(place) = self.places.get(&member) {
            place.outlet.end(code);
        }
    }

    pub(crate) fn end_all(&self, code: u16) {
        for place in self.places.values() {
            place.outlet.end(code);
        }
    }

    fn tell(&mut self, delivery: Delivery, metrics: &Metrics) {
        let in_order = matches!(delivery.lane, Lane::Room | Lane::Chat);
        // What somebody has missed comes before their welcome, and before all that is told after it.
        let on_arrival = matches!(&delivery.to, To::Member(member) if !self.is_welcomed(*member));
        if in_order && !on_arrival {
            self.waiting.push(delivery);
            if self.waiting.len() >= MAX_GATHERED {
                self.tell_gathered(metrics);
            }
            return;
        }
        if delivery.lane == Lane::Ambient && delivery.to == To::All {
            self.ambient.retain(|(key, _)| key.is_none() || *key != delivery.key);
            self.ambient.push((delivery.key, delivery.line));
            return;
        }
        self.deliver(delivery, self.first + self.waiting.len() as u64, metrics);
    }

    /// Tells what is gathered: runs of lines to everybody as one, what lies between them by itself.
    fn tell_gathered(&mut self, metrics: &Metrics) {
        for (key, line) in std::mem::take(&mut self.ambient) {
            let next = self.first + self.waiting.len() as u64;
            self.deliver(Delivery { to: To::All, lane: Lane::Ambient, key, line }, next, metrics);
        }
        let mut run = Vec::new();
        for delivery in std::mem::take(&mut self.waiting) {
            if delivery.to == To::All {
                run.push((delivery.lane == Lane::Chat, delivery.line));
                continue;
            }
            self.tell_run(&mut run, metrics);
            self.deliver(delivery, self.first, metrics);
            self.first += 1;
        }
        self.tell_run(&mut run, metrics);
    }

    /// Tells everybody the same at once, each in their language.
    fn tell_translated(&mut self, line: &Line, versions: &[(Locale, Line)], metrics: &Metrics) {
        self.tell_gathered(metrics);
        let mut chosen: HashMap<Option<&Locale>, &Line> = HashMap::new();
        for place in self.places.values().filter(|place| place.welcomed.is_some()) {
            let told = *chosen.entry(place.locale.as_ref()).or_insert_with(|| {
                let there = versions.iter().map(|(locale, _)| locale);
                let best = place.locale.clone().and_then(|locale| Languages::one(locale).find(there));
                versions.iter().find(|(locale, _)| Some(locale) == best).map_or(line, |(_, version)| version)
            });
            place.outlet.tell(Lane::Room, None, told.clone(), &mut self.readers, metrics);
        }
    }

    fn tell_run(&mut self, run: &mut Vec<(bool, Line)>, metrics: &Metrics) {
        if run.is_empty() {
            return;
        }
        let (first, next) = (self.first, self.first + run.len() as u64);
        let batch = Arc::new(Batch::new(std::mem::take(run)));
        let places: Vec<&Place> = self.places.values().collect();
        for places in places.chunks(READERS_AT_HAND) {
            places.iter().for_each(|place| place.outlet.reach());
            for place in places {
                match place.welcomed {
                    Some(from) if from <= first => {
                        place.outlet.tell_batch(&batch, &mut self.readers, metrics);
                    }
                    // Welcomed in between: the snapshot has what was said before.
                    Some(from) if from < next => {
                        let rest = Arc::new(batch.from((from - first) as usize));
                        place.outlet.tell_batch(&rest, &mut self.readers, metrics);
                    }
                    _ => {}
                }
            }
        }
        self.first = next;
    }

    /// Hands over what is the `number`th of all that ever waited, or what would be.
    fn deliver(&mut self, delivery: Delivery, number: u64, metrics: &Metrics) {
        let Delivery { to, lane, key, line } = delivery;
        let hears = |place: &Place| place.welcomed.is_some_and(|from| from <= number);
        match to {
            To::All => {
                for place in self.places.values().filter(|place| hears(place)) {
                    place.outlet.tell(lane, key.clone(), line.clone(), &mut self.readers, metrics);
                }
            }
            To::Staff => {
                for place in self.staff.iter().filter_map(|member| self.places.get(member)) {
                    if hears(place) {
                        place.outlet.push(lane, key.clone(), line.clone(), metrics);
                    }
                }
            }
            To::Buyer(buyer) => {
                for member in self.by_buyer.get(&buyer).into_iter().flatten() {
                    if let Some(place) = self.places.get_mut(member) {
                        match place.welcomed {
                            Some(_) => place.outlet.push(lane, key.clone(), line.clone(), metrics),
                            None => place.kept.push((lane, key.clone(), line.clone())),
                        }
                    }
                }
            }
            To::Member(member) => {
                if let Some(place) = self.places.get(&member) {
                    place.outlet.push(lane, key, line, metrics);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Mutex,
            atomic::{AtomicBool, Ordering},
        },
        task::{Context, Waker},
    };

    use haul_room::Piece;

    use super::*;
    use crate::{scribes::Pen, stage::To};

    struct Street {
        house: House,
        metrics: Metrics,
        now: Instant,
        outlets: Vec<Arc<Outlet>>,
    }

    impl Street {
        fn of(members: u64) -> Self {
            let mut street = Self {
                house: House::default(),
                metrics: Metrics::default(),
                now: Instant::now(),
                outlets: vec![],
            };
            for member in 0..members {
                street.enter(member);
                street.house.play(Word::Welcome(MemberId(member)), &street.metrics);
            }
            street
        }

        fn enter(&mut self, member: u64) {
            let outlet = Arc::new(Outlet::default());
            self.house.enter(MemberId(member), None, None, outlet.clone());
            self.outlets.push(outlet);
        }

        fn tell(&mut self, to: To, lane: Lane, text: &str) {
            let line = Line::copy_from_slice(text.as_bytes());
            self.house.play(Word::Tell(Delivery { to, lane, key: None, line }), &self.metrics);
        }

        fn pass(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
            self.house.settle(self.now, &self.metrics);
        }

        /// What a member is sent, a write each.
        fn sent(&self, member: usize) -> Vec<String> {
            let text = |line: &Line| String::from_utf8(line.to_vec()).unwrap();
            std::iter::from_fn(|| self.outlets[member].inbox().pop())
                .map(|piece| match piece {
                    Piece::Line(line) => text(&line),
                    Piece::Batch(batch) => batch.lines().map(text).collect::<Vec<_>>().join("+"),
                })
                .collect()
        }
    }

    #[test]
    fn the_room_is_told_at_once_after_a_silence_and_then_together() {
        let mut street = Street::of(2);
        street.tell(To::All, Lane::Chat, "a");
        street.pass(0);
        assert_eq!(street.sent(0), ["a"]);
        for text in ["b", "c"] {
            street.tell(To::All, Lane::Chat, text);
            street.pass(10);
            assert_eq!(street.sent(0), [""; 0]);
        }
        assert_eq!(street.house.due(), Some(street.now + Duration::from_millis(10)));
        street.tell(To::All, Lane::Commerce, "2 left");
        assert_eq!(street.sent(0), ["2 left"], "money does not wait");
        street.pass(10);
        assert_eq!(street.house.due(), None);
        assert_eq!(street.sent(0), ["b+c"]);
        assert_eq!(street.sent(1), ["2 left", "a", "b+c"]);
    }

    #[test]
    fn a_large_room_is_told_more_at_once() {
        let mut street = Street::of(LARGE_ROOM as u64 + 1);
        for text in ["a", "b", "c", "d"] {
            street.tell(To::All, Lane::Chat, text);
            street.pass(20);
        }
        assert_eq!(street.sent(LARGE_ROOM), ["a", "b+c+d"]);
    }

    #[test]
    fn what_goes_to_one_keeps_its_place_among_what_goes_to_all() {
        let mut street = Street::of(2);
        street.pass(0);
        street.tell(To::All, Lane::Chat, "a");
        street.pass(0);
        street.tell(To::All, Lane::Chat, "b");
        street.tell(To::Member(MemberId(0)), Lane::Chat, "for you");
        street.tell(To::All, Lane::Room, "c");
        street.tell(To::Member(MemberId(0)), Lane::Reply, "done");
        street.pass(30);
        assert_eq!(street.sent(0), ["done", "a", "b", "for you", "c"]);
        assert_eq!(street.sent(1), ["a", "b", "c"]);
    }

    #[test]
    fn who_comes_while_lines_wait_is_told_those_after_the_welcome() {
        let mut street = Street::of(1);
        street.tell(To::All, Lane::Chat, "a");
        street.pass(0);
        street.tell(To::All, Lane::Chat, "in the snapshot");
        street.enter(1);
        street.tell(To::Member(MemberId(1)), Lane::Reply, "snapshot");
        street.tell(To::Member(MemberId(1)), Lane::Room, "missed");
        street.house.play(Word::Welcome(MemberId(1)), &street.metrics);
        street.tell(To::All, Lane::Chat, "b");
        street.pass(30);
        assert_eq!(street.sent(0), ["a", "in the snapshot+b"]);
        assert_eq!(street.sent(1), ["snapshot", "missed", "b"]);
    }

    #[test]
    fn who_is_put_out_is_told_what_came_before() {
        let mut street = Street::of(1);
        street.pass(0);
        street.tell(To::All, Lane::Chat, "a");
        street.pass(0);
        street.tell(To::Member(MemberId(0)), Lane::Room, "you are banned");
        street.house.play(Word::End(MemberId(0), 4003), &street.metrics);
        assert_eq!(street.sent(0), ["a", "you are banned"]);
        assert_eq!(street.outlets[0].inbox().ended(), Some(4003));
    }

    #[test]
    fn each_is_told_in_their_language() {
        let mut street = Street::of(0);
        let locale = |tag: &str| tag.parse::<Locale>().unwrap();
        for (member, wish) in [None, Some("zh-TW"), Some("de-AT"), Some("fr")].into_iter().enumerate() {
            let (member, outlet) = (MemberId(member as u64), Arc::new(Outlet::default()));
            street.house.enter(member, None, wish.map(locale), outlet.clone());
            street.house.play(Word::Welcome(member), &street.metrics);
            street.outlets.push(outlet);
        }
        street.enter(4);
        street.tell(To::All, Lane::Room, "before");
        let line = |text: &'static str| Line::from_static(text.as_bytes());
        let versions = [("en", "lamp"), ("zh-Hans", "灯"), ("zh-Hant", "燈"), ("de", "Lampe")];
        let versions = versions.map(|(tag, text)| (locale(tag), line(text))).to_vec();
        let word = Word::Translated { line: line("lampe"), versions };
        let carried = serde_json::from_slice(&serde_json::to_vec(&word).unwrap()).unwrap();
        assert_eq!(word, carried, "as other servers get it");
        street.house.play(word, &street.metrics);
        street.tell(To::All, Lane::Room, "after");
        street.pass(0);
        for (member, told) in ["lampe", "燈", "Lampe", "lampe"].into_iter().enumerate() {
            assert_eq!(street.sent(member), ["before", told, "after"]);
        }
        assert_eq!(street.sent(4), [""; 0], "who is not welcomed yet gets the snapshot");
    }

    #[test]
    fn of_what_colours_the_room_the_latest_is_told() {
        let mut street = Street::of(1);
        street.tell(To::All, Lane::Chat, "a");
        street.pass(0);
        for viewers in ["1 watches", "2 watch"] {
            let line = Line::from_static(viewers.as_bytes());
            let key = Some(Key::Viewers);
            let told = Delivery { to: To::All, lane: Lane::Ambient, key, line };
            street.house.play(Word::Tell(told), &street.metrics);
        }
        street.pass(30);
        assert_eq!(street.sent(0), ["a", "2 watch"]);
    }

    /// Where a reader is written to from outside of their task: keeps what was written, if it is willing.
    #[derive(Debug, Default)]
    struct Slate {
        willing: AtomicBool,
        writes: Mutex<Vec<Vec<String>>>,
    }

    impl Pen for Slate {
        fn write(&self, inbox: &Inbox) -> bool {
            let willing = self.willing.load(Ordering::Relaxed);
            if willing {
                let pieces = std::iter::from_fn(|| inbox.pop());
                let lines = pieces.flat_map(|piece| match piece {
                    Piece::Line(line) => vec![line],
                    Piece::Batch(batch) => batch.lines().cloned().collect(),
                });
                let lines = lines.map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
                self.writes.lock().unwrap().push(lines);
            }
            willing
        }

        fn reach(&self) {}
    }

    #[tokio::test]
    async fn what_all_are_told_is_written_in_passing_and_what_one_is_told_is_not() {
        let mut street = Street::of(200);
        let slates: Vec<Arc<Slate>> = street
            .outlets
            .iter()
            .map(|outlet| {
                let slate = Arc::new(Slate { willing: true.into(), ..Slate::default() });
                let pen: Arc<dyn Pen> = slate.clone();
                outlet.inbox().write_with(Arc::downgrade(&pen));
                slate
            })
            .collect();
        let written = |number: usize| std::mem::take(&mut *slates[number].writes.lock().unwrap());
        let woken = |street: &Street, number: usize| {
            let inbox = street.outlets[number].inbox();
            pin!(inbox.news()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        let turns = async || {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        };

        street.tell(To::All, Lane::Chat, "a");
        street.pass(0);
        street.tell(To::All, Lane::Commerce, "2 left");
        street.pass(0);
        turns().await;
        for number in 0..200 {
            assert_eq!(written(number), [["2 left", "a"]], "once, for nobody was there in between");
            assert!(!woken(&street, number));
        }
        street.tell(To::Member(MemberId(7)), Lane::Reply, "yours");
        street.pass(0);
        turns().await;
        assert_eq!((written(7), woken(&street, 7)), (vec![], true));
        assert_eq!(street.sent(7), ["yours"]);

        // Whom nothing can be written to without waiting is left to their task, and the others are not.
        slates[3].willing.store(false, Ordering::Relaxed);
        street.tell(To::All, Lane::Room, "b");
        street.pass(30);
        turns().await;
        assert_eq!((written(3), woken(&street, 3)), (vec![], true));
        assert_eq!(written(4), [["b"]]);
        assert_eq!(street.sent(3), ["b"]);
        slates[3].willing.store(true, Ordering::Relaxed);
        street.tell(To::All, Lane::Room, "c");
        street.pass(30);
        turns().await;
        assert_eq!(written(3), [["c"]]);

        // A reader who is too slow is for their task to close; one who is to be put out, too.
        let far_too_much = "x".repeat(haul_room::outbox::MAX_BYTES + 1);
        street.tell(To::All, Lane::Room, &far_too_much);
        street.pass(30);
        turns().await;
        assert_eq!(written(5), [["b"], ["c"]], "and nothing of that");
        assert!(woken(&street, 5));
        street.house.play(Word::End(MemberId(6), 4003), &street.metrics);
        assert!(woken(&street, 6));

        // Their connection is gone, and the room has not heard of it yet.
        let mut street = Street::of(1);
        let pen: Arc<dyn Pen> = Arc::new(Slate::default());
        street.outlets[0].inbox().write_with(Arc::downgrade(&pen));
        drop(pen);
        street.tell(To::All, Lane::Chat, "a");
        street.pass(0);
        turns().await;
        assert_eq!(street.sent(0), ["a"]);
    }
}
