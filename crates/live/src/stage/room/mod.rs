//! What members ask of the room, and what the room says of it.

mod chat;
mod show;
mod unwritten;

use std::collections::HashMap;

use haul_model::{BuyerId, Now, Role};
use haul_room::{Audience, Effect, Refused, Writer};
use haul_wire::{Badge, Code, Failure, Measure, Standing, Why, Writers};

pub(super) use unwritten::Unwritten;

use super::{Member, MemberId, Output, Stage, To, answers::millis};
use crate::connection::too_many_lines;

impl Stage {
    /// The member as a writer, if they have a token.
    fn writer(&self, member: MemberId) -> Result<Writer, Failure> {
        let viewer = self.allowed(member, Role::Viewer)?;
        let bought = self.members.get(&member).map_or(0, |member| member.bought);
        let badges = [
            viewer.follower.then_some(Badge::Follower),
            (bought > 0).then_some(Badge::VerifiedBuyer),
            (bought > 1).then_some(Badge::RepeatBuyer),
        ];
        Ok(Writer {
            id: viewer.id.clone(),
            name: viewer.name.clone(),
            role: viewer.role,
            badges: badges.into_iter().flatten().collect(),
            tier: viewer.tier.as_deref().map(str::to_owned),
        })
    }

    /// Somebody who is here by id: their name, and the highest of the roles that they are here in.
    fn find(members: &HashMap<MemberId, Member>, who: &BuyerId) -> Option<(String, Role)> {
        let theirs = members.values().filter(|member| member.is(who));
        let viewer = theirs.filter_map(|member| member.viewer.as_ref()).max_by_key(|viewer| viewer.role)?;
        Some((viewer.name.clone(), viewer.role))
    }

    /// Carries out what the room says.
    pub(super) fn carry_room(&mut self) {
        while let Some(effect) = self.room.poll_effect() {
            match effect {
                Effect::Tell { to, lane, key, line } => {
                    let to = match to {
                        Audience::All => To::All,
                        Audience::Staff => To::Staff,
                        Audience::Person(who) => To::Buyer(who),
                    };
                    self.deliver(to, lane, key, line);
                }
                Effect::End { who, below } => {
                    let theirs = self
                        .members
                        .iter()
                        .filter(|(_, member)| member.is(&who) || member.is_of_network(who.network()))
                        .filter(|(_, member)| member.role() < Some(below))
                        .map(|(member, _)| *member);
                    self.outputs.extend(theirs.map(|member| Output::End(member, haul_wire::close::BANNED)));
                }
                Effect::Keep(note) => self.outputs.push_back(Output::Keep(note)),
                Effect::Write { number, note } => self.outputs.push_back(Output::Write { number, note }),
            }
        }
        if self.room.giveaway_word() != self.word_told {
            self.word_told = self.room.giveaway_word();
            self.outputs.push_back(Output::Entering(self.word_told.clone()));
        }
    }

    /// Why somebody may not be here, if so.
    pub(super) fn banned(&self, member: MemberId, now: Now) -> Option<Failure> {
        let viewer = self.members.get(&member)?.viewer.as_ref()?;
        if !self.room.is_banned(&viewer.id, viewer.role, now.wall) {
            return None;
        }
        let standing = self.room.standing(&viewer.id, viewer.role, now.wall)?;
        let left = haul_room::chat::left(standing.until, now.wall);
        Some(with_retry(banned(standing), left))
    }
}

impl Member {
    fn is(&self, who: &BuyerId) -> bool {
        self.viewer.as_ref().is_some_and(|viewer| viewer.id == *who)
    }

    /// Whether they are a guest of this network.
    fn is_of_network(&self, network: Option<&str>) -> bool {
        let theirs = self.viewer.as_ref().and_then(|viewer| viewer.id.network());
        network.is_some() && theirs == network
    }

    fn role(&self) -> Option<Role> {
        self.viewer.as_ref().map(|viewer| viewer.role)
    }
}

fn banned(standing: Standing) -> Failure {
    let text = match &standing.reason {
        Some(reason) => format!("you are banned from this live: {reason}"),
        None => "you are banned from this live".to_owned(),
    };
    Failure::new(Code::Banned, text).under(standing)
}

fn with_retry(failure: Failure, after: Option<std::time::Duration>) -> Failure {
    match after {
        Some(after) => failure.retry_after(millis(after)),
        None => failure,
    }
}

/// A refusal in the channel's words.
pub(super) fn unsaid(refused: Refused) -> Failure {
    let bad = |text: String| Failure::new(Code::BadRequest, text);
    match refused {
        Refused::Empty => bad("text: expected something to say".to_owned()),
        Refused::TooLong(most) => bad(format!("text: expected at most {most} characters")),
        Refused::Field(what) => bad(what.to_owned()),
        Refused::TooFast { retry_after } => too_many_lines(retry_after),
        Refused::Muted { standing, retry_after } => {
            let text = match (&standing.reason, standing.measure) {
                (Some(reason), Measure::Mute) => format!("you are muted: {reason}"),
                _ => "you are muted".to_owned(),
            };
            with_retry(Failure::new(Code::Muted, text).under(standing), retry_after)
        }
        Refused::Banned(standing) => banned(standing),
        Refused::NotAmong(writers) => {
            let (who, why) = match writers {
                Writers::Followers => ("who follows the shop", Why::Followers),
                Writers::Buyers => ("who has bought here", Why::Buyers),
                Writers::Staff | Writers::Everyone => ("the host's team", Why::Staff),
            };
            Failure::new(Code::Muted, format!("only {who} may write now")).because(why)
        }
        Refused::Marks => bad("too many marks over one letter".to_owned()).because(Why::Marks),
        Refused::Word => {
            Failure::new(Code::Rejected, "a word in it may not be written here").because(Why::Word)
        }
        Refused::Link => Failure::new(Code::Rejected, "links may not be written here").because(Why::Link),
        Refused::Repeated => Failure::new(Code::Rejected, "you have just said that").because(Why::Repeated),
        Refused::Role(role) => {
            Failure::new(Code::Forbidden, format!("this needs the role {}", role.as_str()))
        }
        Refused::NoSuch(what) => {
            Failure::new(Code::NotFound, format!("{what}: there is no such, or not any more"))
        }
        Refused::Unwritten => Failure::new(
            Code::Unavailable,
            "too much waits to be written down: nothing was done, try again in a moment",
        ),
        Refused::NotNow(why) => Failure::new(Code::WrongState, why),
    }
}
