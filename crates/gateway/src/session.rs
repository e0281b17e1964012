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
    /// is refused. Returns also the sessions that give way to it, which have no resource any more: end them.
    pub(crate) fn enter(
        &self,
        id: SessionId,
        entry: Entry,
        takeover: Takeover,
        now: Instant,
    ) -> Result<(Offered, Vec<SessionId>), Taken> {
        let mut sessions = self.lock();
        let mut given_way = Vec::new();
        if entry.way == Way::Whip {
            for (id, known) in sessions.iter() {
                let beside = known.entry.way == Way::Whip && known.entry.live == entry.live;
                if beside && known.gives_way(&entry, takeover, now)? {
                    given_way.push(id.clone());
                }
            }
        }
        for id in &given_way {
            sessions.remove(id);
        }
        sessions.insert(id.clone(), Known { entry, offered: now, connected: false });
        drop(sessions);
        Ok((Offered { sessions: self.clone(), id, answered: false }, given_way))
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
    answered: bool,
}

impl Offered {
    pub(crate) fn answered(mut self) {
        self.answered = true;
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
        let entered = sessions.enter(id(name), entry(way, sub), Takeover::SameHost, Instant::now());
        entered.map(|(offered, _)| offered)
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
        enter(&sessions, "s_1", Way::Whip, Some("mia")).unwrap().answered();
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
            enter(&sessions, "s_1", Way::Whip, Some("mia")).unwrap().answered();
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
            let (first, _) =
                sessions.enter(id("s_1"), entry(Way::Whip, Some("mia")), takeover, start).unwrap();
            first.answered();
            let second = sessions.enter(id("s_2"), entry(Way::Whip, Some(sub)), takeover, start + after);
            second.map(|(_, given_way)| given_way)
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
    fn strangers_are_those_who_watch_without_a_token() {
        let sessions = Sessions::new();
        for (name, entry) in [
            ("s_1", entry(Way::Whip, Some("mia"))),
            ("s_2", entry(Way::Whep, Some("ann"))),
            ("s_3", entry(Way::Whep, None)),
            ("s_4", Entry { live: "other".parse().unwrap(), ..entry(Way::Whep, None) }),
        ] {
            sessions.enter(id(name), entry, Takeover::SameHost, Instant::now()).unwrap().0.answered();
        }
        assert_eq!(sessions.strangers(&"demo".parse().unwrap()), [id("s_3")]);
    }
}
