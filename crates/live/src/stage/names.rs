//! Who is called what. A shop vouches for the names in its tokens; guests choose theirs, and may not pass for somebody else.
//!
//! Names are compared as they look: case, accents, marks, invisible characters and letters of other alphabets that are drawn
//! alike make no other name.

use std::collections::{BTreeSet, VecDeque};

use haul_model::{BuyerId, Now, Viewer};
use haul_room::{
    Note,
    words::{likeness, passes_for},
};
use haul_wire::{Code, Failure, Why};

use super::{MemberId, Output, Stage, is_staff, room::unsaid};

/// Names of host and moderators that stay theirs while they are away; the one that came first is forgotten for another.
const MAX_TEAM_NAMES: usize = 100;
/// What the team is called where its tokens have no names, and by our pages.
const TEAM_WORDS: &[&str] =
    &["Host", "Moderator", "Mod", "Admin", "Official", "Support", "主播", "管理员", "房管", "官方", "客服"];
/// The name under which the team's names are written down for the next start.
const TEAM_NOTE: &str = "team";

/// The names of who is here.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// As they look, and whose.
    here: BTreeSet<(Box<str>, MemberId)>,
    /// Those of host and moderators who are, or were, here. The last to come is last.
    team: VecDeque<Box<str>>,
    /// What the operator keeps free, as it looks.
    reserved: Vec<Box<str>>,
}

impl Names {
    pub(super) fn new(reserved: &[String], notes: &[(String, String)]) -> Self {
        let reserved = reserved.iter().map(String::as_str).chain(TEAM_WORDS.iter().copied());
        let reserved = reserved.map(|name| likeness(name).into()).collect();
        let note = notes.iter().find(|(name, _)| name == TEAM_NOTE);
        let team = note.and_then(|(_, names)| serde_json::from_str(names).ok()).unwrap_or_default();
        Self { reserved, team, ..Self::default() }
    }

    fn with(&self, name: &str) -> impl Iterator<Item = MemberId> {
        let from = (Box::from(name), MemberId(0));
        let all = self.here.range(from..).take_while(move |(known, _)| **known == *name);
        all.map(|(_, member)| *member)
    }
}

impl Stage {
    /// Whether a guest may come in, by this name: nobody is told of them, and nothing is set aside.
    pub(super) fn knock(&mut self, member: MemberId, id: u64, now: Now) -> Result<(), Failure> {
        if let Some(failure) = self.banned(member, now) {
            return Err(failure);
        }
        let viewer = self.members.get(&member).and_then(|member| member.viewer.as_ref());
        if let Some(viewer) = viewer.filter(|viewer| viewer.id.is_guest()) {
            self.may_be_called(&viewer.name, &viewer.id)?;
        }
        self.reply_time(member, id, now);
        Ok(())
    }

    /// Somebody as they are called here. A guest whose name became another's since they chose it, or one that may not be
    /// said, gets one of ours.
    pub(super) fn called(&self, viewer: Viewer) -> Viewer {
        match viewer.id.guest_number() {
            Some(number) if self.may_be_called(&viewer.name, &viewer.id).is_err() => {
                Viewer { name: format!("Guest {number}"), ..viewer }
            }
            _ => viewer,
        }
    }

    fn may_be_called(&self, name: &str, who: &BuyerId) -> Result<(), Failure> {
        self.room.may_be_called(name).map_err(|refused| {
            let failure = unsaid(refused);
            Failure { message: format!("name: {}", failure.message), ..failure }
        })?;
        let looks = likeness(name);
        let is_other = |member: &MemberId| {
            let viewer = self.members.get(member).and_then(|member| member.viewer.as_ref());
            viewer.is_some_and(|viewer| viewer.id != *who)
        };
        let is_titled = self.names.reserved.iter().any(|kept| passes_for(name, kept, true));
        let is_the_teams = self.names.team.iter().any(|kept| passes_for(name, kept, false));
        if is_titled
            || is_the_teams
            || likeness(&self.record.title) == looks
            || self.names.with(&looks).any(|member| is_other(&member))
        {
            return Err(Failure::new(
                Code::Rejected,
                "name: somebody else here is called so: choose another",
            )
            .because(Why::NameTaken));
        }
        Ok(())
    }

    /// Somebody is here, by their name.
    pub(super) fn name_comes(&mut self, member: MemberId) {
        let Some(viewer) = self.members.get(&member).and_then(|member| member.viewer.as_ref()) else {
            return;
        };
        let (looks, staff) = (Box::<str>::from(likeness(&viewer.name)), is_staff(viewer));
        self.names.here.insert((looks.clone(), member));
        if !staff {
            return;
        }
        let is_new = !self.names.team.contains(&looks);
        self.names.team.retain(|known| *known != looks);
        self.names.team.push_back(looks.clone());
        if self.names.team.len() > MAX_TEAM_NAMES {
            self.names.team.pop_front();
        }
        if is_new {
            let text = serde_json::to_string(&self.names.team).ok();
            self.outputs.push_back(Output::Keep(Note { name: TEAM_NOTE.to_owned(), text }));
        }
        // Guests who came first under that name.
        let namesakes: Vec<_> = self.names.with(&looks).collect();
        for member in namesakes {
            self.rename(member);
        }
    }

    fn rename(&mut self, member: MemberId) {
        let Some(viewer) = self.members.get(&member).and_then(|member| member.viewer.clone()) else { return };
        let before = likeness(&viewer.name);
        let called = self.called(viewer);
        let after = likeness(&called.name);
        if before != after {
            self.names.here.remove(&(before.into(), member));
            self.names.here.insert((after.into(), member));
            if let Some(member) = self.members.get_mut(&member) {
                member.viewer = Some(called);
            }
        }
    }

    /// They are gone.
    pub(super) fn name_goes(&mut self, member: MemberId, viewer: Option<&Viewer>) {
        if let Some(viewer) = viewer {
            self.names.here.remove(&(likeness(&viewer.name).into(), member));
        }
    }
}
