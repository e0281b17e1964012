//! Who may write, and what is in force against whom.
//!
//! Deciding (`may_write`, `measure`) and changing (`put`) are apart: a change is the same wherever it is decided.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use haul_model::{BuyerId, Now, Role, UnixMillis};
use haul_wire::{Badge, ChatRules, LogEntry, Measure, Restricted, Standing, Writers};

use crate::{
    chat::{Refused, left, without_towers},
    limiter::{Limiter, MAX_SENDERS, Rate},
    links::has_link,
    words::{WordList, compared},
};

/// Log entries kept; the oldest go first.
pub const MAX_LOG: usize = 500;
/// People with something in force against them; the measure that ends first, or was put first, gives way to another.
pub const MAX_RESTRICTED: usize = 10_000;
/// The longest pause that slow mode may ask for.
pub const MAX_SLOW: Duration = Duration::from_secs(600);
/// The longest a measure may last that is not in force until it is lifted: a year.
pub const MAX_MEASURE_MS: u64 = 365 * 86_400_000;
/// As many of somebody's last lines are compared with the next.
pub const MAX_REMEMBERED: usize = 3;
/// Within this time, the same words of the same sender are a repetition.
const REPEATED_WITHIN: Duration = Duration::from_secs(60);

/// Somebody who writes.
#[derive(Debug, Clone)]
pub struct Writer {
    /// Who.
    pub id: BuyerId,
    /// By what name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// What else they are.
    pub badges: Vec<Badge>,
    /// Their standing with the shop.
    pub tier: Option<String>,
}

impl Writer {
    /// Whether they are above the rules.
    pub fn is_staff(&self) -> bool {
        self.role.includes(Role::Moderator)
    }

    pub(crate) fn need(&self, role: Role) -> Result<(), Refused> {
        if self.role.includes(role) { Ok(()) } else { Err(Refused::Role(role)) }
    }
}

/// Rules, words, measures and their log.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) rules: ChatRules,
    pub(crate) words: WordList,
    restricted: HashMap<BuyerId, Restricted>,
    /// Guests among them who are put out, by their network: the other guests of it are, too. Who comes back has another
    /// id, and the same network.
    networks: HashMap<String, HashSet<BuyerId>>,
    /// Newest last.
    pub(crate) log: VecDeque<LogEntry>,
    pace: Limiter<BuyerId>,
    slow: Limiter<BuyerId>,
    private: Limiter<BuyerId>,
    /// Hashes of the last lines of each sender, and when, newest last.
    last: HashMap<BuyerId, VecDeque<(u64, Instant)>>,
}

impl Guard {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rules: ChatRules::default(),
            words: WordList::default(),
            restricted: HashMap::new(),
            networks: HashMap::new(),
            log: VecDeque::new(),
            pace: Limiter::new(rate),
            slow: Limiter::new(Rate { burst: 1, every: Duration::ZERO }),
            private: Limiter::new(rate),
            last: HashMap::new(),
        }
    }

    /// What is in force now against somebody who is here as this. One id may have tokens of several roles, and a measure
    /// may be put against an id of which nobody knows who it is: it holds against those only whom its author is above.
    pub(crate) fn standing(&self, who: &BuyerId, role: Role, now: UnixMillis) -> Option<&Standing> {
        let in_force = |restricted: &&Restricted| {
            role < restricted.by_role && restricted.standing.until.is_none_or(|until| until > now)
        };
        let own = self.restricted.get(who).filter(in_force);
        if own.is_some_and(|own| own.standing.measure == Measure::Ban) || self.networks.is_empty() {
            return own.map(|own| &own.standing);
        }
        let neighbours = who.network().and_then(|network| self.networks.get(network));
        let banned =
            neighbours.into_iter().flatten().filter_map(|guest| self.restricted.get(guest)).find(in_force);
        banned.or(own).map(|restricted| &restricted.standing)
    }

    /// Everybody against whom something is in force.
    pub(crate) fn restricted(&self, now: UnixMillis) -> Vec<Restricted> {
        let mut restricted: Vec<_> = self
            .restricted
            .values()
            .filter(|restricted| self.standing(&restricted.user_id, Role::Viewer, now).is_some())
            .cloned()
            .collect();
        restricted.sort_by(|a, b| a.user_id.cmp(&b.user_id));
        restricted
    }

    /// Whether what somebody does may count for others; false for who is hidden. Who is put out may do nothing.
    pub(crate) fn may_be_seen(&self, who: &Writer, now: UnixMillis) -> Result<bool, Refused> {
        match self.standing(&who.id, who.role, now) {
            Some(standing) if standing.measure == Measure::Ban => Err(Refused::Banned(standing.clone())),
            Some(standing) => Ok(standing.measure != Measure::ShadowBan),
            None => Ok(true),
        }
    }

    /// Whether somebody may write to the host's team.
    pub(crate) fn may_write_privately(&mut self, who: &Writer, now: Now) -> Result<(), Refused> {
        self.may_be_seen(who, now.wall)?;
        self.private.take(who.id.clone(), now.instant).map_err(|retry_after| Refused::TooFast { retry_after })
    }

    /// Whether this may be asked; true if only the asker sees it.
    pub(crate) fn may_ask(&self, who: &Writer, text: &str, now: Now) -> Result<bool, Refused> {
        if let Some(standing) =
            self.standing(&who.id, who.role, now.wall).filter(|standing| standing.measure == Measure::Mute)
        {
            let retry_after = left(standing.until, now.wall);
            return Err(Refused::Muted { standing: standing.clone(), retry_after });
        }
        if who.is_staff() {
            return self.may_be_seen(who, now.wall).map(|seen| !seen);
        }
        if self.words.finds(text) {
            return Err(Refused::Word);
        }
        if !self.rules.links && has_link(text) {
            return Err(Refused::Link);
        }
        self.may_be_seen(who, now.wall).map(|seen| !seen)
    }

    /// Whether this text may be said; true if only to the sender's own eyes.
    pub(crate) fn may_write(&mut self, who: &Writer, text: &str, now: Now) -> Result<bool, Refused> {
        let hidden = match self.standing(&who.id, who.role, now.wall) {
            None => false,
            Some(standing) => match standing.measure {
                Measure::ShadowBan => true,
                Measure::Ban => return Err(Refused::Banned(standing.clone())),
                Measure::Mute | Measure::Restore => {
                    let retry_after = left(standing.until, now.wall);
                    return Err(Refused::Muted { standing: standing.clone(), retry_after });
                }
            },
        };
        if who.is_staff() {
            return Ok(hidden);
        }
        let among = match self.rules.who {
            Writers::Everyone => true,
            Writers::Followers => who.badges.contains(&Badge::Follower),
            Writers::Buyers => who.badges.contains(&Badge::VerifiedBuyer),
            Writers::Staff => false,
        };
        if !among {
            return Err(Refused::NotAmong(self.rules.who));
        }
        if self.words.finds(text) {
            return Err(Refused::Word);
        }
        if !self.rules.links && has_link(text) {
            return Err(Refused::Link);
        }
        if !self.rules.repeats && self.is_repetition(&who.id, text, now.instant) {
            return Err(Refused::Repeated);
        }
        // Slow mode first: it is the one that people are told of, and a refusal must not cost what it refuses.
        if self.rules.slow_ms > 0 {
            self.slow
                .take(who.id.clone(), now.instant)
                .map_err(|retry_after| Refused::TooFast { retry_after })?;
        }
        self.pace
            .take(who.id.clone(), now.instant)
            .map_err(|retry_after| Refused::TooFast { retry_after })?;
        self.remember(&who.id, text, now.instant);
        Ok(hidden)
    }

    /// Who is meant by a measure may be subjected to it by this person.
    pub(crate) fn may_measure(by: &Writer, role: Role) -> Result<(), Refused> {
        by.need(Role::Moderator)?;
        if role >= by.role { Err(Refused::Role(Role::Host)) } else { Ok(()) }
    }

    pub(crate) fn set_rules(&mut self, rules: ChatRules) {
        if rules.slow_ms != self.rules.slow_ms {
            self.slow = Limiter::new(Rate { burst: 1, every: Duration::from_millis(rules.slow_ms) });
        }
        if rules.repeats {
            self.last.clear();
        }
        self.rules = rules;
    }

    /// Puts a measure in force, or lifts what is; who had to give way, if somebody had to.
    pub(crate) fn put(&mut self, restricted: Restricted, now: UnixMillis) -> Option<BuyerId> {
        let (who, measure) = (restricted.user_id.clone(), restricted.standing.measure);
        self.lift(&who);
        if measure == Measure::Restore {
            return None;
        }
        if measure == Measure::Ban
            && let Some(network) = who.network()
        {
            self.networks.entry(network.to_owned()).or_default().insert(who.clone());
        }
        self.restricted.insert(who, restricted);
        if self.restricted.len() <= MAX_RESTRICTED {
            return None;
        }
        let first = self
            .restricted
            .values()
            .min_by_key(|restricted| {
                let until = restricted.standing.until;
                (until.is_none_or(|until| until > now), until.unwrap_or(UnixMillis(u64::MAX)))
            })
            .map(|restricted| restricted.user_id.clone())?;
        self.lift(&first);
        Some(first)
    }

    fn lift(&mut self, who: &BuyerId) {
        self.restricted.remove(who);
        if let Some(network) = who.network()
            && let Some(guests) = self.networks.get_mut(network)
        {
            guests.remove(who);
            if guests.is_empty() {
                self.networks.remove(network);
            }
        }
    }

    /// Whether somebody may choose this name: what may not be said may not be a name.
    pub(crate) fn may_be_called(&self, name: &str) -> Result<(), Refused> {
        if without_towers(name) != name {
            return Err(Refused::Marks);
        }
        if self.words.finds(name) {
            return Err(Refused::Word);
        }
        if !self.rules.links && has_link(name) {
            return Err(Refused::Link);
        }
        Ok(())
    }

    fn is_repetition(&self, who: &BuyerId, text: &str, now: Instant) -> bool {
        let hash = hash_of(text);
        self.last.get(who).is_some_and(|last| {
            last.iter()
                .any(|(said, at)| *said == hash && now.saturating_duration_since(*at) < REPEATED_WITHIN)
        })
    }

    fn remember(&mut self, who: &BuyerId, text: &str, now: Instant) {
        if self.rules.repeats {
            return;
        }
        if self.last.len() >= MAX_SENDERS {
            let is_late = |at: &Instant| now.saturating_duration_since(*at) >= REPEATED_WITHIN;
            self.last.retain(|_, last| last.back().is_some_and(|(_, at)| !is_late(at)));
            if self.last.len() >= MAX_SENDERS {
                self.last.clear();
            }
        }
        let last = self.last.entry(who.clone()).or_default();
        if last.len() == MAX_REMEMBERED {
            last.pop_front();
        }
        last.push_back((hash_of(text), now));
    }
}

/// Of what is said, whatever its case, spaces and punctuation (FNV-1a): a collision costs one line that must be said in other
/// words.
fn hash_of(text: &str) -> u64 {
    compared(text)
        .chars()
        .fold(0xcbf2_9ce4_8422_2325, |hash, c| (hash ^ u64::from(c)).wrapping_mul(0x0100_0000_01b3))
}
