//! Giveaways whose draw everybody can check.
//!
//! The seed is made, and its hash told, before anybody has entered; the seed is told with the draw. Who has entered has
//! a ticket that only their id and the giveaway's decide. Those win whose hash of seed and ticket is the smallest: the
//! order in which people entered, and who else did, changes nothing about it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use haul_model::{BuyerId, GiveawayId, Now, Role, UnixMillis};
use haul_wire::{
    Event, Measure,
    show::{Drawn, Giveaway, ShowNews, Winner, WinnerView, Won},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    Key, Lane,
    change::Change,
    chat::{Refused, clean_to},
    guard::Writer,
    poll::OPEN_FOR,
    room::{At, Audience, Effect, Room},
    words::compared,
};

/// Drawn giveaways that are out of sight and whose winners may still claim; with more, none is begun.
pub const MAX_DRAWN_BEFORE: usize = 10;
/// Winners of such giveaways that the host's team is shown. Bounds the snapshot.
pub const MAX_WINNERS_SHOWN: usize = 50;
/// People who may enter one giveaway; more are refused, and told so.
pub const MAX_ENTRIES: usize = 50_000;
/// How many may win.
pub const WINNERS: std::ops::RangeInclusive<u32> = 1..=100;
/// How long winners may have to claim, in milliseconds.
pub const CLAIM_FOR: std::ops::RangeInclusive<u64> = 10_000..=7 * 86_400_000;
const MAX_TITLE_CHARS: usize = 120;
const MAX_WORD_CHARS: usize = 30;
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A draw that can't be written down is tried again so often.
const DRAW_AGAIN: Duration = Duration::from_secs(1);
/// Entries are kept for the next start so often: what a crash costs at most.
const KEEP_EVERY: Duration = Duration::from_secs(3);

/// The giveaway that is in sight, and what is not told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drawing {
    pub(crate) giveaway: Giveaway,
    seed: String,
    claim_ms: u64,
    /// By id, with their names.
    entered: BTreeMap<BuyerId, String>,
    winners: Vec<Winner>,
}

/// When something about it is due.
#[derive(Debug, Default)]
pub(crate) struct Due {
    tell_at: Option<Instant>,
    keep_at: Option<Instant>,
    closes: Option<Instant>,
    /// When a giveaway that is out of sight can't be claimed any more.
    forget_at: Option<Instant>,
}

impl Due {
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        [self.tell_at, self.keep_at, self.closes, self.forget_at].into_iter().flatten().min()
    }
}

impl Room {
    /// The giveaway in sight.
    pub fn giveaway(&self) -> Option<&Giveaway> {
        self.drawing.as_ref().map(|drawing| &drawing.giveaway)
    }

    /// What is written to enter it now, as [`compared`] makes it of a line.
    pub fn giveaway_word(&self) -> Option<String> {
        let giveaway = self.giveaway().filter(|giveaway| giveaway.open)?;
        giveaway.word.as_deref().map(compared)
    }

    /// Somebody's own ticket in it.
    pub fn ticket(&self, who: &BuyerId) -> Option<String> {
        let drawing = self.drawing.as_ref()?;
        drawing.entered.contains_key(who).then(|| ticket(&drawing.giveaway.id, who))
    }

    /// Its winners, for the host's team.
    pub fn winners(&self) -> &[Winner] {
        self.drawing.as_ref().map_or(&[], |drawing| &drawing.winners)
    }

    #[expect(clippy::too_many_arguments, reason = "each is a field of the request")]
    pub(crate) fn start_giveaway(
        &mut self,
        who: &Writer,
        title: &str,
        word: Option<String>,
        winners: u32,
        duration_ms: u64,
        claim_ms: u64,
        at: At,
    ) -> Result<GiveawayId, Refused> {
        who.need(Role::Host)?;
        if !WINNERS.contains(&winners) {
            return Err(Refused::Field("winners: expected 1 to 100"));
        }
        if !OPEN_FOR.contains(&duration_ms) {
            return Err(Refused::Field("duration_ms: expected 5000 to 3600000"));
        }
        if !CLAIM_FOR.contains(&claim_ms) {
            return Err(Refused::Field("claim_ms: expected 10000 to 604800000"));
        }
        let title = clean_to(title, MAX_TITLE_CHARS)?;
        let word = match word.filter(|word| !word.trim().is_empty()) {
            Some(word) => Some(clean_to(&word, MAX_WORD_CHARS)?),
            None => None,
        };
        // The answer to the same may have been lost, or wait still.
        let same = |giveaway: &Giveaway| {
            giveaway.open
                && (&giveaway.title, &giveaway.word, giveaway.winners_wanted) == (&title, &word, winners)
        };
        let waits = self.intents.again(|change| match change {
            Change::GiveawayStarted { giveaway, .. } => Some(same(giveaway).then(|| giveaway.id.clone())),
            _ => None,
        });
        let open = self.giveaway().filter(|giveaway| giveaway.open);
        match waits.or_else(|| open.map(|open| same(open).then(|| open.id.clone()))) {
            Some(Some(id)) => return Ok(id),
            Some(None) => return Err(Refused::NotNow("a giveaway is open already")),
            None => {}
        }
        self.may_set_aside(at.now)?;
        let id = GiveawayId::generate("give_", at.now.wall, at.random);
        // From bits of its own: the id shows most of the others.
        let seed = hex(&Sha256::digest(at.secret.to_be_bytes()));
        let giveaway = Giveaway {
            id: id.clone(),
            title,
            word,
            winners_wanted: winners,
            open: true,
            closes_at: UnixMillis(at.now.wall.0 + duration_ms),
            entries: 0,
            commitment: hex(&Sha256::digest(&seed)),
            seed: None,
            winners: Vec::new(),
            claim_until: None,
        };
        self.propose(Change::GiveawayStarted { giveaway, seed, claim_ms }, at.now)?;
        Ok(id)
    }

    /// Enters somebody, and returns their ticket.
    pub(crate) fn enter(&mut self, who: &Writer, id: &GiveawayId, at: At) -> Result<String, Refused> {
        let drawing = self.this_giveaway(id)?;
        let ticket = ticket(id, &who.id);
        if drawing.entered.contains_key(&who.id) {
            return Ok(ticket);
        }
        if !drawing.giveaway.open || self.is_being_drawn(id) {
            return Err(Refused::NotNow("it is drawn already"));
        }
        if who.is_staff() {
            return Err(Refused::NotNow("the host's team does not enter"));
        }
        if drawing.entered.len() >= MAX_ENTRIES {
            return Err(Refused::NotNow("all places are taken"));
        }
        // Whom nobody sees enters as others do, and is not drawn.
        self.guard.may_be_seen(who, at.now.wall)?;
        let (id, by, name) = (id.clone(), who.id.clone(), who.name.clone());
        self.apply(Change::Entered { id, by, name }, at.now);
        Ok(ticket)
    }

    /// Whether what was said enters the one who said it.
    pub(crate) fn enters(&self, text: &str) -> Option<GiveawayId> {
        let giveaway =
            self.giveaway().filter(|giveaway| giveaway.open && !self.is_being_drawn(&giveaway.id))?;
        (compared(giveaway.word.as_ref()?) == compared(text)).then(|| giveaway.id.clone())
    }

    pub(crate) fn draw(&mut self, who: &Writer, id: &GiveawayId, at: At) -> Result<(), Refused> {
        who.need(Role::Host)?;
        // That it is drawn already is what was asked for: the answer to it may have been lost.
        if !self.this_giveaway(id)?.giveaway.open {
            return Ok(());
        }
        self.draw_lots(at.now)
    }

    pub(crate) fn claim(&mut self, who: &Writer, id: &GiveawayId, at: At) -> Result<(), Refused> {
        let drawing = self.drawn_giveaway(id).ok_or(Refused::NoSuch("giveaway_id"))?;
        let winner = drawing.winners.iter().find(|winner| winner.user_id == who.id);
        let winner = winner.ok_or(Refused::NotNow("you are not among the winners"))?;
        if winner.claimed {
            return Ok(());
        }
        if drawing.giveaway.claim_until.is_some_and(|until| until <= at.now.wall) {
            return Err(Refused::NotNow("the time to claim is over"));
        }
        self.propose(Change::Claimed { id: id.clone(), by: who.id.clone() }, at.now)
    }

    pub(crate) fn end_giveaway(&mut self, who: &Writer, id: &GiveawayId, at: At) -> Result<(), Refused> {
        who.need(Role::Host)?;
        // That it is out of sight already is what was asked for: the answer to it may have been lost.
        if self.drawn_before.iter().any(|drawing| drawing.giveaway.id == *id) {
            return Ok(());
        }
        self.this_giveaway(id)?;
        if self
            .intents
            .again(|change| {
                matches!(change, Change::GiveawayEnded { id: ended } if ended == id).then_some(())
            })
            .is_some()
        {
            return Ok(());
        }
        self.may_set_aside(at.now)?;
        self.propose(Change::GiveawayEnded { id: id.clone() }, at.now)
    }

    pub(crate) fn giveaway_started(&mut self, giveaway: Giveaway, seed: String, claim_ms: u64, now: Now) {
        self.set_aside(now);
        self.giveaway_due = Due {
            closes: Some(now.instant + giveaway.closes_at.saturating_since(now.wall)),
            forget_at: self.giveaway_due.forget_at,
            ..Due::default()
        };
        let told = Some(giveaway.clone());
        self.drawing =
            Some(Drawing { giveaway, seed, claim_ms, entered: BTreeMap::new(), winners: Vec::new() });
        self.keep_giveaway();
        self.tell_all(&Event::Show(ShowNews::Giveaway { giveaway: told }));
    }

    pub(crate) fn entered(&mut self, id: &GiveawayId, by: BuyerId, name: String, now: Now) {
        let Some(drawing) =
            self.drawing.as_mut().filter(|drawing| drawing.giveaway.id == *id && drawing.giveaway.open)
        else {
            return;
        };
        // Those who enter by the chat are not answered; who comes too late stays out all the same.
        if drawing.entered.len() >= MAX_ENTRIES {
            return;
        }
        drawing.entered.insert(by, name);
        drawing.giveaway.entries = drawing.entered.len() as u32;
        self.giveaway_due.tell_at.get_or_insert(now.instant + TELL_EVERY);
        self.giveaway_due.keep_at.get_or_insert(now.instant + KEEP_EVERY);
    }

    /// Decides who has won, of those who have entered by now: nobody enters while that is written down.
    fn draw_lots(&mut self, now: Now) -> Result<(), Refused> {
        let Some(drawing) = &self.drawing else { return Ok(()) };
        let id = drawing.giveaway.id.clone();
        let drawn =
            |change: &Change| matches!(change, Change::Drawn { id: drawn, .. } if *drawn == id).then_some(());
        if self.intents.again(drawn).is_some() {
            return Ok(());
        }
        // Those whom nobody sees are not drawn, and not told so before.
        let seen = drawing.entered.iter().filter(|(who, _)| {
            let standing = self.guard.standing(who, Role::Viewer, now.wall);
            !standing.is_some_and(|standing| matches!(standing.measure, Measure::Ban | Measure::ShadowBan))
        });
        let winners = lots(&drawing.giveaway, &drawing.seed, seen);
        let entries = drawing.entered.len() as u32;
        self.propose(Change::Drawn { id, at: now.wall, entries, winners }, now)
    }

    pub(crate) fn knows_giveaway(&self, id: &GiveawayId) -> bool {
        self.drawn_giveaway(id).is_some()
    }

    fn is_being_drawn(&self, id: &GiveawayId) -> bool {
        self.intents.pending().any(|change| matches!(change, Change::Drawn { id: drawn, .. } if drawn == id))
    }

    pub(crate) fn drawn(&mut self, id: &GiveawayId, at: UnixMillis, entries: u32, winners: Vec<Winner>) {
        let Some(drawing) =
            self.drawing.as_mut().filter(|drawing| drawing.giveaway.id == *id && drawing.giveaway.open)
        else {
            return;
        };
        drawing.winners = winners;
        let giveaway = &mut drawing.giveaway;
        (giveaway.open, giveaway.entries) = (false, entries);
        giveaway.seed = Some(drawing.seed.clone());
        giveaway.claim_until = Some(UnixMillis(at.0 + drawing.claim_ms));
        giveaway.winners = drawing
            .winners
            .iter()
            .map(|Winner { name, ticket, .. }| WinnerView { name: name.clone(), ticket: ticket.clone() })
            .collect();
        let (told, winners) = (giveaway.clone(), drawing.winners.clone());
        self.giveaway_due = Due { forget_at: self.giveaway_due.forget_at, ..Due::default() };
        self.keep_giveaway();
        self.tell_all(&Event::Show(ShowNews::Giveaway { giveaway: Some(told.clone()) }));
        for winner in winners {
            let line = self.order.line(&Event::Show(ShowNews::GiveawayWon { giveaway: told.clone() }));
            self.tell(Audience::Person(winner.user_id), Lane::Room, line);
        }
        if let Some(drawing) = self.drawing.clone() {
            self.tell_winners(&drawing);
        }
    }

    pub(crate) fn claimed(&mut self, id: &GiveawayId, by: &BuyerId) {
        let all = self.drawing.iter_mut().map(|drawing| ("giveaway".to_owned(), drawing));
        let before = self.drawn_before.iter_mut().map(|drawing| (note_of(&drawing.giveaway.id), drawing));
        let Some((note, drawing)) = all.chain(before).find(|(_, drawing)| drawing.giveaway.id == *id) else {
            return;
        };
        if let Some(winner) = drawing.winners.iter_mut().find(|winner| winner.user_id == *by) {
            winner.claimed = true;
        }
        let drawing = drawing.clone();
        self.keep(note, &drawing);
        self.tell_winners(&drawing);
    }

    /// Forgets by what name somebody has entered and won. Their ticket stays, so that the draw can be checked.
    pub(crate) fn forget_winner(&mut self, who: &BuyerId) {
        let all = self.drawing.iter_mut().map(|drawing| ("giveaway".to_owned(), drawing));
        let before = self.drawn_before.iter_mut().map(|drawing| (note_of(&drawing.giveaway.id), drawing));
        let mut nameless = Vec::new();
        for (note, drawing) in all.chain(before) {
            let Drawing { giveaway, entered, winners, .. } = &mut *drawing;
            let won = winners.iter_mut().filter(|winner| winner.user_id == *who);
            let (tickets, mut names): (Vec<&str>, Vec<&mut String>) =
                won.map(|winner| (winner.ticket.as_str(), &mut winner.name)).unzip();
            let shown = giveaway.winners.iter_mut().filter(|shown| tickets.contains(&shown.ticket.as_str()));
            names.extend(shown.map(|shown| &mut shown.name).chain(entered.get_mut(who)));
            let is_named = !names.is_empty();
            names.into_iter().for_each(String::clear);
            if is_named {
                nameless.push((note, drawing.clone()));
            }
        }
        for (note, drawing) in nameless {
            self.keep(note, &drawing);
            let giveaway = drawing.giveaway;
            self.order.amend(giveaway.id.as_str(), |said| {
                let told = said.get_mut("giveaway").filter(|told| told["id"] == giveaway.id.as_str());
                let drawn = told.and_then(|told| told.get_mut("winners")).filter(|told| **told != json!([]));
                if let Some(winners) = drawn {
                    *winners = json!(giveaway.winners);
                }
            });
        }
    }

    /// Who is put out is not drawn.
    pub(crate) fn put_out_of_giveaway(&mut self, who: &BuyerId, now: Now) {
        let Some(drawing) = self.drawing.as_mut().filter(|drawing| drawing.giveaway.open) else { return };
        if drawing.entered.remove(who).is_some() {
            drawing.giveaway.entries = drawing.entered.len() as u32;
            self.giveaway_due.tell_at.get_or_insert(now.instant + TELL_EVERY);
            self.giveaway_due.keep_at.get_or_insert(now.instant + KEEP_EVERY);
        }
    }

    pub(crate) fn giveaway_ended(&mut self, id: &GiveawayId, now: Now) {
        if self.giveaway().is_some_and(|giveaway| giveaway.id == *id) {
            self.set_aside(now);
            self.drawing = None;
            self.giveaway_due = Due { forget_at: self.giveaway_due.forget_at, ..Due::default() };
            self.forget("giveaway".to_owned());
            self.tell_all(&Event::Show(ShowNews::Giveaway { giveaway: None }));
        }
    }

    pub(crate) fn keep_entries(&mut self) {
        if self.giveaway_due.keep_at.take().is_some() {
            self.keep_giveaway();
        }
    }

    pub(crate) fn giveaway_timeout(&mut self, now: Now) {
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now.instant).is_some();
        if due(&mut self.giveaway_due.forget_at) {
            self.forget_unclaimed(now);
        }
        if due(&mut self.giveaway_due.keep_at) {
            self.keep_giveaway();
        }
        if due(&mut self.giveaway_due.tell_at)
            && let Some(giveaway) = self.giveaway()
        {
            let (giveaway_id, entries) = (giveaway.id.clone(), giveaway.entries);
            let line = self.order.line(&Event::Show(ShowNews::GiveawayEntries { giveaway_id, entries }));
            let key = Some(Key::GiveawayEntries);
            self.effects.push_back(Effect::Tell { to: Audience::All, lane: Lane::Ambient, key, line });
        }
        // Too much waits to be written: nothing is drawn before there is room.
        if due(&mut self.giveaway_due.closes) && self.draw_lots(now).is_err() {
            self.giveaway_due.closes = Some(now.instant + DRAW_AGAIN);
        }
        self.intents.waits_for_nobody();
    }

    /// Takes up the giveaway of an earlier room.
    pub(crate) fn restore_giveaway(&mut self, text: &str, now: Now) {
        let Ok(drawing) = serde_json::from_str::<Drawing>(text) else { return };
        let closes = now.instant + drawing.giveaway.closes_at.saturating_since(now.wall);
        let forget_at = self.giveaway_due.forget_at;
        self.giveaway_due =
            Due { closes: drawing.giveaway.open.then_some(closes), forget_at, ..Due::default() };
        self.drawing = Some(drawing);
    }

    fn this_giveaway(&self, id: &GiveawayId) -> Result<&Drawing, Refused> {
        self.drawing
            .as_ref()
            .filter(|drawing| drawing.giveaway.id == *id)
            .ok_or(Refused::NoSuch("giveaway_id"))
    }

    /// One that is drawn, in sight or out of it.
    fn drawn_giveaway(&self, id: &GiveawayId) -> Option<&Drawing> {
        self.drawing.iter().chain(&self.drawn_before).find(|drawing| drawing.giveaway.id == *id)
    }

    /// What somebody has won and may claim still, or has claimed.
    pub fn won(&self, who: &BuyerId) -> Vec<Won> {
        let all = self.drawn_before.iter().chain(&self.drawing);
        all.filter_map(|drawing| {
            let winner = drawing.winners.iter().find(|winner| winner.user_id == *who)?;
            // Who else has won was told with the draw.
            let giveaway = Giveaway { winners: Vec::new(), ..drawing.giveaway.clone() };
            Some(Won { giveaway, claimed: winner.claimed })
        })
        .collect()
    }

    /// Giveaways that are out of sight and may still be claimed, for the host's team: the newest, as many as have
    /// [`MAX_WINNERS_SHOWN`] winners together. Of the others is told when they are claimed.
    pub fn drawn_before(&self) -> Vec<Drawn> {
        let mut shown = 0;
        let all = self.drawn_before.iter().rev().take_while(|drawing| {
            shown += drawing.winners.len();
            shown <= MAX_WINNERS_SHOWN
        });
        all.map(|Drawing { giveaway, winners, .. }| Drawn {
            // Their names are in the other list.
            giveaway: Giveaway { winners: Vec::new(), ..giveaway.clone() },
            winners: winners.clone(),
        })
        .collect()
    }

    /// Whether the one in sight may make room for another, or for none.
    fn may_set_aside(&self, now: Now) -> Result<(), Refused> {
        let stays = self.drawing.as_ref().is_some_and(|drawing| may_be_claimed(drawing, now));
        if stays && self.drawn_before.len() >= MAX_DRAWN_BEFORE {
            return Err(Refused::NotNow(
                "10 giveaways wait for their winners: try again when one may not be claimed any more",
            ));
        }
        Ok(())
    }

    /// The one in sight makes room. Its winners may claim as before.
    fn set_aside(&mut self, now: Now) {
        if let Some(mut drawing) = self.drawing.take_if(|drawing| may_be_claimed(drawing, now)) {
            drawing.entered.clear();
            self.keep(note_of(&drawing.giveaway.id), &drawing);
            self.drawn_before.push_back(drawing);
            self.forget_unclaimed(now);
        }
    }

    /// Lets go of what can't be claimed any more.
    fn forget_unclaimed(&mut self, now: Now) {
        let (left, over): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.drawn_before)
            .into_iter()
            .partition(|drawing| may_be_claimed(drawing, now));
        for drawing in over {
            self.forget(note_of(&drawing.giveaway.id));
        }
        let next = left.iter().filter_map(|drawing| drawing.giveaway.claim_until).min();
        self.giveaway_due.forget_at = next.map(|until| now.instant + until.saturating_since(now.wall));
        self.drawn_before = left;
    }

    pub(crate) fn restore_drawn(&mut self, name: String, text: &str, now: Now) {
        match serde_json::from_str::<Drawing>(text) {
            Ok(drawing) if self.drawn_before.len() < MAX_DRAWN_BEFORE => self.drawn_before.push_back(drawing),
            _ => self.forget(name),
        }
        self.forget_unclaimed(now);
    }

    fn tell_winners(&mut self, drawing: &Drawing) {
        let (giveaway_id, winners) = (drawing.giveaway.id.clone(), drawing.winners.clone());
        let line = self.order.line(&Event::Show(ShowNews::GiveawayWinners { giveaway_id, winners }));
        self.tell(Audience::Staff, Lane::Room, line);
    }

    fn keep_giveaway(&mut self) {
        if let Some(drawing) = &self.drawing
            && let Ok(text) = serde_json::to_string(drawing)
        {
            self.effects.push_back(Effect::Keep(crate::Note { name: "giveaway".into(), text: Some(text) }));
        }
    }
}

fn note_of(id: &GiveawayId) -> String {
    format!("giveaway/{id}")
}

fn may_be_claimed(drawing: &Drawing, now: Now) -> bool {
    drawing.giveaway.claim_until.is_some_and(|until| until > now.wall)
}

/// Who wins: those whose hash of seed and ticket is the smallest.
fn lots<'a>(
    giveaway: &Giveaway,
    seed: &str,
    entered: impl Iterator<Item = (&'a BuyerId, &'a String)>,
) -> Vec<Winner> {
    let mut lots: Vec<_> = entered
        .map(|(who, name)| {
            let ticket = ticket(&giveaway.id, who);
            let lot: [u8; 32] = Sha256::digest(format!("{seed}:{ticket}")).into();
            (lot, who, name, ticket)
        })
        .collect();
    lots.sort_unstable();
    lots.truncate(giveaway.winners_wanted as usize);
    lots.into_iter()
        .map(|(_, who, name, ticket)| Winner {
            user_id: who.clone(),
            name: name.clone(),
            ticket,
            claimed: false,
        })
        .collect()
}

fn ticket(giveaway: &GiveawayId, who: &BuyerId) -> String {
    hex(&Sha256::digest(format!("{giveaway}:{who}"))[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
