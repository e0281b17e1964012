//! Our side of ICE: a lite agent (RFC 8445, 2.5), which answers checks and sends none.
//!
//! Until a session is connected, `rtc` takes its checks too, since it must see a path before it begins with DTLS. From
//! then on they are answered here, so that a path may change and an ICE session may be replaced by another (a restart)
//! without `rtc` being concerned: its DTLS and SRTP know no addresses. It decides with what it is given: no sockets, no
//! clocks, no randomness.

use std::time::{Duration, Instant};

use crate::{
    error::IceError,
    route::Route,
    sdpfrag::{self, Credentials, Fragment},
};

/// How long the path in use may go without a check while checks come by another, before media goes by that: a NAT has
/// given the client another port, and it does not know. Clients check every 2.5 s (libwebrtc) to 5 s (RFC 7675, 5.1).
const QUIET_PATH: Duration = Duration::from_secs(7);

/// Which ICE session a client's fragment is meant for: the `If-Match` header of its PATCH (RFC 9110, 13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `*`: whichever there is.
    Any,
    /// One of these entity-tags, quotes included.
    Tags(Vec<String>),
    /// There is none. Enough to tell of candidates.
    None,
}

/// What a client's fragment has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IceUpdate {
    /// The candidates are taken note of.
    Trickled,
    /// A new ICE session is open beside the old one, which goes on until the client nominates a path in the new one.
    Restarted {
        /// Our half, for the client: a body of `application/trickle-ice-sdpfrag`.
        fragment: String,
        /// Names the new ICE session: the value of an `ETag` header, quotes included.
        etag: String,
    },
}

/// An ICE session's two halves.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pairing {
    ours: Credentials,
    theirs: Credentials,
}

/// The ICE state of one session.
#[derive(Debug)]
pub(crate) struct Ice {
    /// The session that media goes by.
    used: Pairing,
    /// One that was opened by a restart, and in which no path is nominated yet.
    opened: Option<Pairing>,
    /// Where media goes, and when a check last came from there.
    path: Option<(Route, Instant)>,
    /// `kind` and `mid` of the section that carries the transport.
    section: (String, String),
}

impl Ice {
    /// The ICE session of an offer and its answer.
    pub(crate) fn new(ours: Credentials, theirs: Credentials, answer: &str) -> Self {
        Self { used: Pairing { ours, theirs }, opened: None, path: None, section: transport_section(answer) }
    }

    /// The entity-tag of the newest ICE session.
    pub(crate) fn etag(&self) -> String {
        tag(&self.newest().ours.ufrag)
    }

    /// Our names, by which checks find the session.
    pub(crate) fn ufrags(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.used).chain(&self.opened).map(|pairing| pairing.ours.ufrag.as_str())
    }

    /// The password that goes with one of our names.
    pub(crate) fn password(&self, ufrag: &str) -> Option<&str> {
        let mut pairings = std::iter::once(&self.used).chain(&self.opened);
        pairings.find(|pairing| pairing.ours.ufrag == ufrag).map(|pairing| pairing.ours.password.as_str())
    }

    /// Whether a fragment asks for a restart: it speaks of another ICE session than the newest. RFC 8445, 9: it then has
    /// both another name and another password.
    ///
    /// # Errors
    /// [`IceError`] if it asks for half of one, or `condition` keeps it from being followed.
    pub(crate) fn restarts(&self, condition: &Condition, fragment: &Fragment) -> Result<bool, IceError> {
        let Credentials { ufrag, password } = &self.newest().theirs;
        let restarts = match &fragment.credentials {
            None => false,
            Some(said) if said.ufrag == *ufrag && said.password == *password => false,
            Some(said) if said.ufrag == *ufrag || said.password == *password => {
                return Err(IceError::HalfRestart);
            }
            Some(_) => true,
        };
        match condition {
            Condition::Any => {}
            Condition::Tags(tags) if tags.contains(&self.etag()) => {}
            Condition::Tags(_) => return Err(IceError::Stale),
            Condition::None if restarts => return Err(IceError::ConditionNeeded),
            Condition::None => {}
        }
        Ok(restarts)
    }

    /// Takes a client's fragment (RFC 9725, 4.3). `fresh` is for a new ICE session, should it be one; the name of one
    /// that was opened before and not used is returned to be forgotten.
    pub(crate) fn update(
        &mut self,
        condition: &Condition,
        fragment: &Fragment,
        fresh: Credentials,
        candidates: &str,
    ) -> Result<(IceUpdate, Option<String>), IceError> {
        let restarts = self.restarts(condition, fragment)?;
        let Some(theirs) = fragment.credentials.clone().filter(|_| restarts) else {
            return Ok((IceUpdate::Trickled, None));
        };
        let (kind, mid) = &self.section;
        let text = sdpfrag::write(&fresh, kind, mid, candidates);
        let before = self.opened.replace(Pairing { ours: fresh, theirs });
        let update = IceUpdate::Restarted { fragment: text, etag: self.etag() };
        Ok((update, before.map(|pairing| pairing.ours.ufrag)))
    }

    /// Where media goes, once known: whence the client last nominated.
    pub(crate) fn path(&self) -> Option<Route> {
        self.path.map(|(route, _)| route)
    }

    /// Takes an authentic check in the ICE session `ufrag`. If it nominates its path, media goes there from now on, in the
    /// old ICE session as well while a new one has no path yet; and if that is the new one, it takes the place of the old
    /// one, whose name is returned to be forgotten.
    pub(crate) fn checked(
        &mut self,
        now: Instant,
        from: Route,
        ufrag: &str,
        nominates: bool,
    ) -> Option<String> {
        let moves = self.path.is_some_and(|(route, checked)| {
            route == from || now.saturating_duration_since(checked) >= QUIET_PATH
        });
        if nominates || moves {
            self.path = Some((from, now));
        }
        let opened = self.opened.take_if(|opened| nominates && opened.ours.ufrag == ufrag)?;
        Some(std::mem::replace(&mut self.used, opened).ours.ufrag)
    }

    fn newest(&self) -> &Pairing {
        self.opened.as_ref().unwrap_or(&self.used)
    }
}

fn tag(ufrag: &str) -> String {
    format!("\"{ufrag}\"")
}

/// The kind and mid of the first section of an answer that is not turned down: the one that all share the transport of.
fn transport_section(answer: &str) -> (String, String) {
    let (mut kind, mut mid) = (None, "");
    for line in answer.lines() {
        if let Some(section) = line.strip_prefix("m=") {
            if kind.is_some() {
                break;
            }
            let mut words = section.split(' ');
            kind = words.next().filter(|_| words.next() != Some("0"));
        } else if let (Some(_), Some(value)) = (kind, line.strip_prefix("a=mid:")) {
            mid = value.trim_end();
        }
    }
    (kind.unwrap_or("video").to_owned(), mid.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\nm=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v0\r\n";

    fn credentials(name: &str) -> Credentials {
        Credentials { ufrag: name.to_owned(), password: format!("{name}-password-of-enough-length") }
    }

    fn ice() -> Ice {
        Ice::new(credentials("ours1"), credentials("theirs1"), ANSWER)
    }

    fn fragment(name: &str) -> Fragment {
        Fragment { credentials: Some(credentials(name)), candidates: 1 }
    }

    fn tags(names: &[&str]) -> Condition {
        Condition::Tags(names.iter().map(|name| tag(name)).collect())
    }

    fn route(port: u16) -> Route {
        Route::udp(([192, 0, 2, 1], port).into())
    }

    fn update(ice: &mut Ice, condition: Condition, said: &str, fresh: &str) -> Result<IceUpdate, IceError> {
        ice.update(&condition, &fragment(said), credentials(fresh), "").map(|(update, _)| update)
    }

    #[test]
    fn candidates_are_for_the_ice_session_that_is_named() {
        let mut ice = ice();
        assert_eq!(update(&mut ice, tags(&["ours1"]), "theirs1", "-"), Ok(IceUpdate::Trickled));
        assert_eq!(update(&mut ice, tags(&["other", "ours1"]), "theirs1", "-"), Ok(IceUpdate::Trickled));
        assert_eq!(update(&mut ice, Condition::Any, "theirs1", "-"), Ok(IceUpdate::Trickled));
        assert_eq!(update(&mut ice, Condition::None, "theirs1", "-"), Ok(IceUpdate::Trickled));
        assert_eq!(update(&mut ice, tags(&["other"]), "theirs1", "-"), Err(IceError::Stale));
        let bare = Fragment { credentials: None, candidates: 1 };
        let bare = ice.update(&tags(&["ours1"]), &bare, credentials("-"), "").unwrap();
        assert_eq!(bare, (IceUpdate::Trickled, None));
    }

    #[test]
    fn a_restart_opens_a_new_one_and_the_old_goes_on_until_a_path_is_nominated() {
        let mut ice = ice();
        let restarted = update(&mut ice, Condition::Any, "theirs2", "ours2").unwrap();
        let IceUpdate::Restarted { fragment, etag } = restarted else { panic!("{restarted:?}") };
        assert_eq!(etag, "\"ours2\"");
        assert!(fragment.contains("a=ice-ufrag:ours2\r\n"), "{fragment}");
        assert!(fragment.contains("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:a0\r\n"), "{fragment}");
        assert!(ice.password("ours1").is_some() && ice.password("ours2").is_some());
        let now = Instant::now();
        assert_eq!(ice.checked(now, route(1), "ours1", true), None);
        assert_eq!(ice.checked(now, route(2), "ours2", false), None);
        assert_eq!(ice.path(), Some(route(1)), "not nominated yet");
        assert_eq!(ice.checked(now, route(2), "ours2", true).as_deref(), Some("ours1"));
        assert_eq!(ice.path(), Some(route(2)));
        assert_eq!(ice.ufrags().collect::<Vec<_>>(), ["ours2"]);
        assert_eq!(ice.password("ours1"), None);
    }

    #[test]
    fn after_a_restart_the_former_tag_is_stale() {
        let mut ice = ice();
        update(&mut ice, Condition::Any, "theirs2", "ours2").unwrap();
        assert_eq!(update(&mut ice, tags(&["ours1"]), "theirs2", "-"), Err(IceError::Stale));
        assert_eq!(update(&mut ice, tags(&["ours1"]), "theirs3", "-"), Err(IceError::Stale));
        assert_eq!(update(&mut ice, tags(&["ours2"]), "theirs2", "-"), Ok(IceUpdate::Trickled));
    }

    #[test]
    fn a_second_restart_replaces_one_that_was_not_used() {
        let mut ice = ice();
        update(&mut ice, Condition::Any, "theirs2", "ours2").unwrap();
        let (_, forgotten) =
            ice.update(&Condition::Any, &fragment("theirs3"), credentials("ours3"), "").unwrap();
        assert_eq!(forgotten.as_deref(), Some("ours2"));
        assert_eq!(ice.ufrags().collect::<Vec<_>>(), ["ours1", "ours3"]);
        assert_eq!(ice.checked(Instant::now(), route(1), "ours2", true), None);
    }

    #[test]
    fn media_goes_where_the_client_nominates_or_where_it_alone_still_checks_from() {
        let (mut ice, start) = (ice(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        ice.checked(after(0), route(1), "ours1", false);
        assert_eq!(ice.path(), None);
        ice.checked(after(10), route(1), "ours1", true);
        ice.checked(after(20), route(2), "ours1", false);
        assert_eq!(ice.path(), Some(route(1)));
        ice.checked(after(30), route(2), "ours1", true);
        assert_eq!(ice.path(), Some(route(2)), "without a restart too");
        ice.checked(after(5_000), route(2), "ours1", false);
        ice.checked(after(11_000), route(3), "ours1", false);
        assert_eq!(ice.path(), Some(route(2)), "it was checked 6 s ago");
        ice.checked(after(12_000), route(3), "ours1", false);
        assert_eq!(ice.path(), Some(route(3)), "and now 7 s ago: the NAT has moved the client");
    }

    #[test]
    fn a_restart_must_say_which_session_it_follows_and_change_both_credentials() {
        let mut ice = ice();
        assert_eq!(update(&mut ice, Condition::None, "theirs2", "-"), Err(IceError::ConditionNeeded));
        let half = Credentials { ufrag: "theirs2".to_owned(), ..credentials("theirs1") };
        let half = Fragment { credentials: Some(half), candidates: 0 };
        let refused = ice.update(&Condition::Any, &half, credentials("-"), "");
        assert_eq!(refused, Err(IceError::HalfRestart));
        assert_eq!(ice.etag(), "\"ours1\"", "nothing changed");
    }
}
