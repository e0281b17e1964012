//! Announcements and polls.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use haul_model::{BuyerId, Now, PollId, Role, UnixMillis};
use haul_wire::{
    Event,
    show::{Announcement, Poll, ShowNews},
};

use serde::{Deserialize, Serialize};

use crate::{
    Key, Lane,
    change::Change,
    chat::{Refused, clean_to},
    guard::Writer,
    marks::{self, Mark},
    room::{At, Audience, Effect, Room},
};

/// The longest announcement, in Unicode scalar values.
pub const MAX_ANNOUNCEMENT_CHARS: usize = 200;
/// The longest question of a poll, and the longest option.
pub const MAX_POLL_CHARS: (usize, usize) = (120, 60);
/// How many options a poll may have.
pub const POLL_OPTIONS: std::ops::RangeInclusive<usize> = 2..=6;
/// People whose votes are told apart; more are refused.
pub const MAX_VOTERS: usize = 100_000;
/// How long polls and giveaways may be open.
pub const OPEN_FOR: std::ops::RangeInclusive<u64> = 5_000..=3_600_000;
/// Votes are told, and kept for the next start, so often.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// What the notes of a next start are called.
const POLL: &str = "poll";
const ANNOUNCEMENT: &str = "announcement";

/// The poll that is in sight.
#[derive(Debug)]
pub(crate) struct Polling {
    pub(crate) poll: Poll,
    voters: HashMap<Mark, u8>,
    tell_at: Option<Instant>,
    /// When it closes, by this machine's clock.
    closes: Instant,
}

/// The poll as it is kept for the next start.
#[derive(Serialize, Deserialize)]
struct Kept {
    poll: Poll,
    /// 18 bytes each: at [`MAX_VOTERS`] 1.8 MB a second, for as long as people go on to vote.
    voters: String,
}

impl Polling {
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.tell_at.into_iter().chain(self.poll.open.then_some(self.closes)).min()
    }
}

impl Room {
    /// The sentence that is shown.
    pub fn announcement(&self) -> Option<&Announcement> {
        self.announcement.as_ref()
    }

    /// The poll in sight.
    pub fn poll(&self) -> Option<&Poll> {
        self.polling.as_ref().map(|polling| &polling.poll)
    }

    pub(crate) fn announce(&mut self, who: &Writer, text: Option<String>, at: At) -> Result<(), Refused> {
        who.need(Role::Moderator)?;
        let announcement = match text.filter(|text| !text.trim().is_empty()) {
            Some(text) => {
                Some(Announcement { text: clean_to(&text, MAX_ANNOUNCEMENT_CHARS)?, at: at.now.wall })
            }
            None => None,
        };
        let text = announcement.as_ref().map(|announcement| &announcement.text);
        let waits = self.intents.again(|change| match change {
            Change::Announced { announcement } => {
                Some(announcement.as_ref().map(|announcement| &announcement.text) == text)
            }
            _ => None,
        });
        match waits {
            Some(true) => Ok(()),
            _ => self.propose(Change::Announced { announcement }, at.now),
        }
    }

    pub(crate) fn announced(&mut self, announcement: Option<Announcement>) {
        self.announcement = announcement.clone();
        match &announcement {
            Some(announcement) => self.keep(ANNOUNCEMENT.to_owned(), announcement),
            None => self.forget(ANNOUNCEMENT.to_owned()),
        }
        self.tell_all(&Event::Show(ShowNews::Announcement { announcement }));
    }

    pub(crate) fn open_poll(
        &mut self,
        who: &Writer,
        question: &str,
        options: &[String],
        duration_ms: u64,
        at: At,
    ) -> Result<PollId, Refused> {
        who.need(Role::Moderator)?;
        if self.polling.as_ref().is_some_and(|polling| polling.poll.open) {
            return Err(Refused::NotNow("a poll is open already"));
        }
        if !POLL_OPTIONS.contains(&options.len()) {
            return Err(Refused::Field("options: expected 2 to 6"));
        }
        if !OPEN_FOR.contains(&duration_ms) {
            return Err(Refused::Field("duration_ms: expected 5000 to 3600000"));
        }
        let question = clean_to(question, MAX_POLL_CHARS.0)?;
        let options: Vec<_> =
            options.iter().map(|option| clean_to(option, MAX_POLL_CHARS.1)).collect::<Result<_, _>>()?;
        // The answer to the same may wait still.
        let waits = self.intents.again(|change| match change {
            Change::Poll { poll: Some(poll) } if poll.open => {
                Some((poll.question == question && poll.options == options).then(|| poll.id.clone()))
            }
            _ => None,
        });
        match waits {
            Some(Some(id)) => return Ok(id),
            Some(None) => return Err(Refused::NotNow("a poll is open already")),
            None => {}
        }
        let poll = Poll {
            id: PollId::generate("poll_", at.now.wall, at.random),
            question,
            votes: vec![0; options.len()],
            options,
            open: true,
            closes_at: UnixMillis(at.now.wall.0 + duration_ms),
        };
        let id = poll.id.clone();
        self.propose(Change::Poll { poll: Some(poll) }, at.now)?;
        Ok(id)
    }

    pub(crate) fn vote(&mut self, who: &Writer, id: PollId, option: u8, at: At) -> Result<(), Refused> {
        let polling = self.polling.as_ref().filter(|polling| polling.poll.id == id);
        let polling = polling.ok_or(Refused::NoSuch("poll_id"))?;
        if !polling.poll.open {
            return Err(Refused::NotNow("the poll is closed"));
        }
        if usize::from(option) >= polling.poll.options.len() {
            return Err(Refused::Field("option: expected the number of one"));
        }
        if polling.voters.len() >= MAX_VOTERS
            && !polling.voters.contains_key(&Mark::new(id.as_str(), &who.id))
        {
            return Err(Refused::NotNow("too many have voted"));
        }
        let counts = self.guard.may_be_seen(who, at.now.wall)?;
        if counts && polling.voters.get(&Mark::new(id.as_str(), &who.id)) != Some(&option) {
            self.apply(Change::Voted { id, by: who.id.clone(), option }, at.now);
        }
        Ok(())
    }

    pub(crate) fn close_poll(&mut self, who: &Writer, id: &PollId, at: At) -> Result<(), Refused> {
        who.need(Role::Moderator)?;
        let polling = self.polling.as_ref().filter(|polling| polling.poll.id == *id);
        let poll = &polling.ok_or(Refused::NoSuch("poll_id"))?.poll;
        let poll = poll.open.then(|| Poll { open: false, ..poll.clone() });
        let waits = self.intents.again(|change| match change {
            Change::Poll { poll: other } => {
                Some(other.as_ref().map(|other| other.open) == poll.as_ref().map(|poll| poll.open))
            }
            _ => None,
        });
        match waits {
            Some(true) => Ok(()),
            _ => self.propose(Change::Poll { poll }, at.now),
        }
    }

    pub(crate) fn poll_changed(&mut self, poll: Option<Poll>, now: Now) {
        match (&mut self.polling, poll) {
            (Some(polling), Some(poll)) if polling.poll.id == poll.id => {
                // Votes may have come since the change was decided.
                polling.poll.open = poll.open;
                polling.tell_at = None;
            }
            (polling, poll) => {
                *polling = poll.map(|poll| Polling {
                    closes: now.instant + poll.closes_at.saturating_since(now.wall),
                    poll,
                    voters: HashMap::new(),
                    tell_at: None,
                });
            }
        }
        self.keep_poll();
        let poll = self.poll().cloned();
        self.tell_all(&Event::Show(ShowNews::Poll { poll }));
    }

    fn keep_poll(&mut self) {
        match &self.polling {
            Some(Polling { poll, voters, .. }) => {
                let voters = marks::written(voters.iter().map(|(mark, option)| (*mark, *option)));
                self.keep(POLL.to_owned(), &Kept { poll: poll.clone(), voters });
            }
            None => self.forget(POLL.to_owned()),
        }
    }

    /// Takes up the poll of an earlier room.
    pub(crate) fn restore_poll(&mut self, text: &str, now: Now) {
        if let (Ok(Kept { poll, voters }), false) =
            (serde_json::from_str(text), self.inherited || self.polling.is_some())
        {
            let closes = now.instant + poll.closes_at.saturating_since(now.wall);
            let voters = marks::read(&voters).collect();
            self.polling = Some(Polling { poll, voters, tell_at: None, closes });
        } else if self.polling.is_none() {
            self.forget(POLL.to_owned());
        }
    }

    /// Takes up the sentence that an earlier room showed.
    pub(crate) fn restore_announcement(&mut self, text: &str) {
        if let (Ok(announcement), false) =
            (serde_json::from_str(text), self.inherited || self.announcement.is_some())
        {
            self.announcement = Some(announcement);
        } else if self.announcement.is_none() {
            self.forget(ANNOUNCEMENT.to_owned());
        }
    }

    pub(crate) fn voted(&mut self, id: &PollId, by: BuyerId, option: u8, now: Now) {
        let Some(polling) =
            self.polling.as_mut().filter(|polling| polling.poll.id == *id && polling.poll.open)
        else {
            return;
        };
        if let Some(before) = polling.voters.insert(Mark::new(id.as_str(), &by), option)
            && let Some(votes) = polling.poll.votes.get_mut(usize::from(before))
        {
            *votes = votes.saturating_sub(1);
        }
        if let Some(votes) = polling.poll.votes.get_mut(usize::from(option)) {
            *votes += 1;
        }
        polling.tell_at.get_or_insert(now.instant + TELL_EVERY);
    }

    pub(crate) fn keep_votes(&mut self) {
        // What is not told yet is not kept yet.
        if self.polling.as_ref().is_some_and(|polling| polling.tell_at.is_some()) {
            self.keep_poll();
        }
    }

    pub(crate) fn poll_timeout(&mut self, now: Now) {
        let Some(polling) = &mut self.polling else { return };
        if polling.poll.open && polling.closes <= now.instant {
            let poll = Poll { open: false, ..polling.poll.clone() };
            return self.apply(Change::Poll { poll: Some(poll) }, now);
        }
        if polling.tell_at.is_some_and(|at| at <= now.instant) {
            polling.tell_at = None;
            let (poll_id, votes) = (polling.poll.id.clone(), polling.poll.votes.clone());
            self.keep_poll();
            let line = self.order.line(&Event::Show(ShowNews::PollVotes { poll_id, votes }));
            let key = Some(Key::PollVotes);
            self.effects.push_back(Effect::Tell { to: Audience::All, lane: Lane::Ambient, key, line });
        }
    }
}
