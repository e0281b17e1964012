//! The media sessions that have an HTTP resource: whose each is, and who may publish beside whom.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use haul_live::QualityListener;
use haul_model::{BuyerId, LiveId, SessionId};
use haul_webrtc::{Notice, NoticeKind, Observer, Seat};

use crate::quality;

/// How long a publisher's offer keeps other hosts away while its session is not connected: several times as long as that
/// takes. Most that take longer never do.
pub(crate) const CONNECTING: Duration = Duration::from_secs(3);

/// Who may publish on a live that somebody publishes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Takeover {
    /// The host who is on air, from another device or after a crash (the same `sub`). Their former session ends when the
    /// new one is connected. Others are refused.
    #[default]
    SameHost,
    /// Nobody: the session on air must end first, or be given up for silent.
    Refuse,
    /// Any host of the live.
    AnyHost,
}

/// Which way a session's media goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the host.
    Whip,
    /// To a viewer.
    Whep,
}

/// Whose session it is.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) way: Way,
    pub(crate) live: LiveId,
    /// Nobody, for who watches a public live without a token: the session's unguessable id is their right to end it.
    pub(crate) sub: Option<BuyerId>,
    /// Who is told what it gets of the pictures.
    pub(crate) listener: Option<QualityListener>,
    /// Its place among those of its client's address; nobody's where the client is on this machine.
    pub(crate) _seat: Option<Arc<Seat>>,
}

/// Why a publisher was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// By another host.
    ByOther,
    /// By a session that must end first, whoever's it is.
    OnAir,
    /// Another host is just connecting; within [`CONNECTING`] it is known whether they will.
    Connecting,
}

/// A session, and how far it is.
#[derive(Debug)]
struct Known {
    entry: Entry,
    offered: Instant,
    connected: bool,
}

impl Known {
    /// Whether both are publishers of one live.
    fn is_beside(&self, newcomer: &Entry) -> bool {
        let publishes = self.entry.way == Way::Whip && newcomer.way == Way::Whip;
        publishes && self.entry.live == newcomer.live
    }

    /// Whether it ends because `newcomer` is to publish on its live; an error if that one may not.
    fn gives_way(&self, newcomer: &Entry, takeover: Takeover, now: Instant) -> Result<bool, Taken> {
        let same = self.entry.sub == newcomer.sub;
        if !self.connected {
            // Nobody is on air by it. A host who offers again has given it up.
            let given_up = same || now.saturating_duration_since(self.offered) >= CONNECTING;
            return match takeover {
                _ if given_up => Ok(true),
                Takeover::AnyHost => Ok(false),
                Takeover::SameHost | Takeover::Refuse => Err(Taken::Connecting),
            };
        }
        // On air until the other is connected: the edge sees to that.
        match takeover {
            Takeover::SameHost if !same => Err(Taken::ByOther),
            Takeover::Refuse => Err(Taken::OnAir),
            Takeover::SameHost | Takeover::AnyHost => Ok(false),
        }
    }
}

/// The media sessions that have an HTTP resource. Clones are the same.
///
/// A lock, since requests and the edge's shards both come here; held for a look-up.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<Mutex<HashMap<SessionId, Known>>>);

impl Sessions {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the edge should report to: a session that has ended has no resource any more.
    pub fn observer(&self) -> Observer {
        let sessions = self.clone();
        Arc::new(move |notice: Notice| match notice.kind {
            NoticeKind::Ended { .. } => {
                sessions.lock().remove(&notice.session);
            }
            NoticeKind::Quality(quality) => {
                let listener =
                    sessions.lock().get(&notice.session).and_then(|known| known.entry.listener.clone());
                if let Some(listener) = listener {
                    listener.tell(quality::view(notice.session, *quality));
                }
            }
            NoticeKind::Connected { .. } => sessions.connected(&notice.session),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Known>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Enters a session whose offer is about to be answered, so that the edge can't report its end before it is here.
    /// Whether it may publish beside others is looked at under the same lock, so that of two hosts who come at once one
    /// is refused.
    pub(crate) fn enter(
        &self,
        id: SessionId,
        entry: Entry,
        takeover: Takeover,
        now: Instant,
    ) -> Result<Offered, Taken> {
        let mut sessions = self.lock();
        let (mut former, mut offered, mut connecting) = (Vec::new(), now, false);
        for (id, known) in sessions.iter().filter(|(_, known)| known.is_beside(&entry)) {
            match known.gives_way(&entry, takeover, now) {
                Ok(true) => {
                    if known.entry.sub == entry.sub {
                        // Who offers again and again keeps others away no longer than with one offer.
                        offered = offered.min(known.offered);
                    }
                    former.push(id.clone());
                }
                Ok(false) => {}
                Err(Taken::Connecting) => connecting = true,
                Err(taken) => return Err(taken),
            }
        }
        if connecting {
            return Err(Taken::Connecting);
        }
        sessions.insert(id.clone(), Known { entry, offered, connected: false });
        drop(sessions);
        Ok(Offered { sessions: self.clone(), id, former, answered: false })
    }

    /// A session is connected.
    pub(crate) fn connected(&self, id: &SessionId) {
        if let Some(known) = self.lock().get_mut(id) {
            known.connected = true;
        }
    }

    /// Has `listener` told what a viewer's session gets of the pictures, instead of whoever was told before. False if
    /// the asker has no such session.
    pub(crate) fn listen(
        &self,
        id: &SessionId,
        live: &LiveId,
        asker: Option<&BuyerId>,
        listener: QualityListener,
    ) -> bool {
        let mut sessions = self.lock();
        let is_theirs = |entry: &&mut Entry| {
            entry.way == Way::Whep
                && entry.live == *live
                && entry.sub.as_ref().is_none_or(|sub| Some(sub) == asker)
        };
        let found = sessions.get_mut(id).map(|known| &mut known.entry).filter(is_theirs);
        found.map(|entry| entry.listener = Some(listener)).is_some()
    }

    /// A session of a live, which goes that way.
    pub(crate) fn find(&self, id: &SessionId, live: &LiveId, way: Way) -> Option<Entry> {
        let sessions = self.lock();
        let known = sessions.get(id).filter(|known| known.entry.live == *live && known.entry.way == way);
        known.map(|known| known.entry.clone())
    }

    /// Forgets a session that its client has ended, ahead of the edge's word.
    pub(crate) fn forget(&self, id: &SessionId) {
        self.lock().remove(id);
    }

    /// Who watches this live without a token.
    pub(crate) fn strangers(&self, live: &LiveId) -> Vec<SessionId> {
        let sessions = self.lock();
        let strangers = sessions.iter().filter(|(_, Known { entry, .. })| {
            entry.live == *live && entry.way == Way::Whep && entry.sub.is_none()
        });
        strangers.map(|(id, _)| id.clone()).collect()
    }
}

/// A session whose offer waits for its answer. Dropped before that (the offer was refused, or the client went away) it
/// takes its entry along; afterwards the edge's word of the session's end does.
pub(crate) struct Offered {
    sessions: Sessions,
    id: SessionId,
    /// Those that give way to it.
    former: Vec<SessionId>,
    answered: bool,
}

impl Offered {
    /// It is answered. Returns the sessions that have given way to it and have no resource any more: end them. An error if
    /// it has itself given way to another meanwhile: end it.
    pub(crate) fn answered(mut self) -> Result<Vec<SessionId>, Taken> {
        let former = self.take_place();
        self.answered = true;
        former
    }

    /// Its connection stands, for as long as this is kept. Returns the same as [`Offered::answered`].
    pub(crate) fn connected(&mut self) -> Result<Vec<SessionId>, Taken> {
        let former = self.take_place();
        self.sessions.connected(&self.id);
        former
    }

    fn take_place(&mut self) -> Result<Vec<SessionId>, Taken> {
        let mut sessions = self.sessions.lock();
        if !sessions.contains_key(&self.id) {
            return Err(Taken::Connecting);
        }
        // Not one that has connected since: the edge sees to that.
        let mut former = std::mem::take(&mut self.former);
        former.retain(|id| sessions.get(id).is_some_and(|known| !known.connected));
        for id in &former {
            sessions.remove(id);
        }
        Ok(former)
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        if !self.answered {
            self.sessions.lock().remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(way: Way, sub: Option<&str>) -> Entry {
        let sub = sub.map(|sub| sub.parse().unwrap());
        Entry { way, live: "demo".parse().unwrap(), sub, listener: None, _seat: None }
    }

    fn id(text: &str) -> SessionId {
        text.parse().unwrap()
    }

    /// Enters a session as the default policy has it.
    fn enter(sessions: &Sessions, name: &str, way: Way, sub: Option<&str>) -> Result<Offered, Taken> {
        sessions.enter(id(name), entry(way, sub), Takeover::SameHost, Instant::now())
    }

    #[test]
    fn an_offer_that_is_not_answered_leaves_nothing_behind() {
        let sessions = Sessions::new();
        let given_up = enter(&sessions, "s_1", Way::Whip, Some("mia")).unwrap();
        assert_eq!(enter(&sessions, "s_2", Way::Whip, Some("eve")).err(), Some(Taken::Connecting));
        drop(given_up);
        assert!(sessions.lock().is_empty());
        assert!(enter(&sessions, "s_3", Way::Whip, Some("eve")).is_ok());
    }

    #[test]
    fn an_answered_one_stays_until_the_edge_reports_its_end() {
        let sessions = Sessions::new();
        enter(&sessions, "s_1", Way::Whip, Some("mia")).unwrap().answered().unwrap();
        sessions.connected(&id("s_1"));
        assert_eq!(enter(&sessions, "s_2", Way::Whip, Some("eve")).err(), Some(Taken::ByOther));
        assert!(enter(&sessions, "s_3", Way::Whip, Some("mia")).is_ok(), "they take over from themselves");
        assert!(enter(&sessions, "s_4", Way::Whep, Some("eve")).is_ok());
        sessions.observer()(Notice {
            session: id("s_1"),
            live: "demo".parse().unwrap(),
            role: haul_webrtc::Role::Publisher,
            kind: NoticeKind::Ended { reason: haul_webrtc::EndReason::PeerClosed },
        });
        assert!(sessions.lock().is_empty());
    }

    #[test]
    fn who_may_take_a_live_over_is_the_operators_choice() {
        let may = |takeover, sub: &str| {
            let sessions = Sessions::new();
            enter(&sessions, "s_1", Way::Whip, Some("mia")).unwrap().answered().unwrap();
            sessions.connected(&id("s_1"));
            let now = Instant::now();
            let elsewhere = Entry { live: "other".parse().unwrap(), ..entry(Way::Whip, Some(sub)) };
            assert!(sessions.enter(id("s_2"), elsewhere, takeover, now).is_ok(), "another live is free");
            assert!(sessions.enter(id("s_3"), entry(Way::Whep, Some(sub)), takeover, now).is_ok());
            sessions.enter(id("s_4"), entry(Way::Whip, Some(sub)), takeover, now).map(drop)
        };
        assert_eq!(may(Takeover::SameHost, "mia"), Ok(()));
        assert_eq!(may(Takeover::SameHost, "eve"), Err(Taken::ByOther));
        assert_eq!(may(Takeover::Refuse, "mia"), Err(Taken::OnAir));
        assert_eq!(may(Takeover::Refuse, "eve"), Err(Taken::OnAir));
        assert_eq!(may(Takeover::AnyHost, "eve"), Ok(()));
    }

    #[test]
    fn an_offer_that_does_not_connect_keeps_nobody_away_for_long() {
        let start = Instant::now();
        let offer = |takeover, sub: &str, after: Duration| {
            let sessions = Sessions::new();
            let first = sessions.enter(id("s_1"), entry(Way::Whip, Some("mia")), takeover, start);
            first.unwrap().answered().unwrap();
            sessions.enter(id("s_2"), entry(Way::Whip, Some(sub)), takeover, start + after)?.answered()
        };
        for takeover in [Takeover::SameHost, Takeover::Refuse, Takeover::AnyHost] {
            assert_eq!(offer(takeover, "mia", Duration::ZERO), Ok(vec![id("s_1")]), "they have given it up");
            assert_eq!(offer(takeover, "eve", CONNECTING), Ok(vec![id("s_1")]), "it will not connect");
        }
        let soon = CONNECTING - Duration::from_millis(1);
        assert_eq!(offer(Takeover::SameHost, "eve", soon), Err(Taken::Connecting));
        assert_eq!(offer(Takeover::Refuse, "eve", soon), Err(Taken::Connecting));
        assert_eq!(offer(Takeover::AnyHost, "eve", soon), Ok(vec![]));
    }

    #[test]
    fn of_a_hosts_offers_at_once_the_last_stands_and_a_refused_one_ends_none() {
        let (sessions, start) = (Sessions::new(), Instant::now());
        let offer = |name: &str, sub: &str, at: Instant| {
            sessions.enter(id(name), entry(Way::Whip, Some(sub)), Takeover::SameHost, at)
        };
        let first = offer("s_1", "mia", start).unwrap();
        let second = offer("s_2", "mia", start).unwrap();
        assert_eq!(second.answered(), Ok(vec![id("s_1")]));
        assert_eq!(first.answered(), Err(Taken::Connecting), "its answer came too late");
        drop(offer("s_3", "mia", start).unwrap());
        assert!(sessions.lock().contains_key(&id("s_2")), "that was no offer that could be answered");

        let late = start + CONNECTING;
        offer("s_4", "mia", late).unwrap().answered().unwrap();
        assert!(offer("s_5", "eve", late).is_ok(), "offering again has kept nobody away for longer");
        sessions.connected(&id("s_4"));
        offer("s_6", "mia", late).unwrap().answered().unwrap();
        assert_eq!(
            offer("s_7", "eve", late).err(),
            Some(Taken::ByOther),
            "mia is on air, and not just connecting"
        );
    }

    #[test]
    fn strangers_are_those_who_watch_without_a_token() {
        let sessions = Sessions::new();
        for (name, entry) in [
            ("s_1", entry(Way::Whip, Some("mia"))),
            ("s_2", entry(Way::Whep, Some("ann"))),
            ("s_3", entry(Way::Whep, None)),
            ("s_4", Entry { live: "other".parse().unwrap(), ..entry(Way::Whep, None) }),
        ] {
            let entered = sessions.enter(id(name), entry, Takeover::SameHost, Instant::now());
            entered.unwrap().answered().unwrap();
        }
        assert_eq!(sessions.strangers(&"demo".parse().unwrap()), [id("s_3")]);
    }
}
