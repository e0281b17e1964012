//! How everybody else reaches a shard: commands from the async side, frames from relays, wishes for its publishers.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use haul_media::{Delivery, Relay, RelayEvent, Sink};
use haul_model::{LiveId, SessionId};
use tokio::sync::oneshot;

use crate::{
    Answer, Condition, IceError, IceUpdate, OfferError, PreferError, Quality, Role, Seat, links::Arrival,
    sdpfrag::Fragment, slab::Key, stats::Counters,
};

/// The most commands that wait. A further offer is refused with [`OfferError::Full`], a fragment with
/// [`IceError::Busy`], and a TCP connection is closed. The others come whatever waits, and are bounded elsewhere: a
/// publisher has one wish for keyframes under way, and whoever ends a session or prefers a layer waits for the answer,
/// so that there are no more of them than HTTP connections.
pub(crate) const MAX_COMMANDS: usize = 1_024;
/// The most frames that wait: about a second of a hundred lives. A further one is dropped, and the relay lets its layer
/// go on at the next keyframe.
pub(crate) const MAX_FRAMES: usize = 4_096;

/// What a shard is told to do.
pub(crate) enum Command {
    Offer(Box<OfferCommand>, oneshot::Sender<Result<Answer, OfferError>>),
    /// A client has sent a fragment of SDP about its session's ICE.
    Ice(Box<IceCommand>),
    /// End a session; the reply says whether there was one.
    Close(SessionId, oneshot::Sender<bool>),
    /// End the session of a viewer who is most likely gone; the reply says whether there was one.
    MakeRoom(oneshot::Sender<bool>),
    /// A viewer asks for a layer by its name, or for none in particular; the reply says what it gets now.
    Prefer(SessionId, Option<String>, oneshot::Sender<Result<Quality, PreferError>>),
    /// End every session and take no more.
    Drain(oneshot::Sender<()>),
    /// A relay wishes for keyframes from a publisher; which ones, its source knows.
    Keyframes(Key),
    /// A TCP connection that names a session of this shard.
    Link(Box<Arrival>),
    /// Another publisher has taken a publisher's place.
    Replaced(Key),
    /// End every session, and the thread.
    Stop,
}

/// An offer to answer.
pub(crate) struct OfferCommand {
    pub(crate) role: Role,
    pub(crate) session: SessionId,
    pub(crate) live: LiveId,
    pub(crate) relay: Arc<Relay>,
    pub(crate) sdp: String,
    /// Its place, for its session to hold.
    pub(crate) seat: Seat,
    /// When the session ends at the latest.
    pub(crate) ends: Option<Instant>,
}

/// A fragment to follow.
pub(crate) struct IceCommand {
    pub(crate) session: SessionId,
    pub(crate) condition: Condition,
    pub(crate) fragment: Fragment,
    pub(crate) reply: oneshot::Sender<Result<IceUpdate, IceError>>,
}

/// Names a feed (one relay on one shard). Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FeedKey(pub(crate) u64);

/// A shard's mailbox.
pub(crate) struct Mailbox {
    /// A lock, because everybody writes and the order of a relay's events must hold. It is held to append one entry or
    /// to take all of them, and never while waiting.
    letters: Mutex<Letters>,
    waker: mio::Waker,
}

/// An offer, and where its answer goes.
pub(crate) type Asked = (Box<OfferCommand>, oneshot::Sender<Result<Answer, OfferError>>);

#[derive(Default)]
struct Letters {
    commands: VecDeque<Command>,
    /// Apart from the others, which are done sooner: answering takes long.
    offers: VecDeque<Asked>,
    events: VecDeque<(FeedKey, RelayEvent)>,
    /// The shard is about to wait, or waiting: whoever writes next must wake it. So a busy shard costs no system call.
    asleep: bool,
    /// The shard is gone.
    closed: bool,
    /// It was told to end.
    ending: bool,
}

impl Mailbox {
    pub(crate) fn new(waker: mio::Waker) -> Self {
        Self { letters: Mutex::default(), waker }
    }

    /// Leaves a command. False if the shard is gone, or the command is a client's and there are too many.
    pub(crate) fn command(&self, command: Command) -> bool {
        let mut letters = self.lock();
        let waiting = letters.commands.len() + letters.offers.len();
        let is_clients = matches!(command, Command::Offer(..) | Command::Ice(_) | Command::Link(_));
        letters.ending |= matches!(command, Command::Drain(_) | Command::Stop);
        if letters.closed || (waiting >= MAX_COMMANDS && is_clients) {
            return false;
        }
        match command {
            Command::Offer(offer, reply) => letters.offers.push_back((offer, reply)),
            other => letters.commands.push_back(other),
        }
        self.wake(letters);
        true
    }

    /// Takes everything but offers: events into `events`, which must be empty, and commands into `commands` if it is
    /// empty. Returns how many offers wait.
    pub(crate) fn take(
        &self,
        commands: &mut VecDeque<Command>,
        events: &mut VecDeque<(FeedKey, RelayEvent)>,
    ) -> usize {
        let mut letters = self.lock();
        if commands.is_empty() {
            std::mem::swap(&mut letters.commands, commands);
        }
        std::mem::swap(&mut letters.events, events);
        letters.asleep = false;
        letters.offers.len()
    }

    /// Takes the offer that has waited longest.
    pub(crate) fn take_offer(&self) -> Option<Asked> {
        self.lock().offers.pop_front()
    }

    /// Says that the shard is going to wait. False if there is something to do instead.
    pub(crate) fn sleep(&self) -> bool {
        let mut letters = self.lock();
        letters.asleep =
            letters.commands.is_empty() && letters.offers.is_empty() && letters.events.is_empty();
        letters.asleep
    }

    /// Whether the shard is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Says that the shard is there again. False if it was told to end, and is to stay away.
    pub(crate) fn open(&self) -> bool {
        let mut letters = self.lock();
        letters.closed = letters.ending;
        !letters.closed
    }

    /// Says that the shard is gone. What waits is dropped, and so are the replies it asks for.
    pub(crate) fn close(&self) {
        let mut letters = self.lock();
        letters.closed = true;
        let Letters { commands, offers, events, .. } = &mut *letters;
        let dropped = (std::mem::take(commands), std::mem::take(offers), std::mem::take(events));
        drop(letters);
        drop(dropped);
    }

    fn event(&self, feed: FeedKey, event: RelayEvent) -> Delivery {
        let mut letters = self.lock();
        let refusable = matches!(event, RelayEvent::Frame(_) | RelayEvent::ClockMap(_));
        if letters.closed || (refusable && letters.events.len() >= MAX_FRAMES) {
            return Delivery::Refused;
        }
        letters.events.push_back((feed, event));
        self.wake(letters);
        Delivery::Taken
    }

    fn wake(&self, mut letters: MutexGuard<'_, Letters>) {
        let asleep = std::mem::take(&mut letters.asleep);
        drop(letters);
        if asleep {
            // Fails only if the shard's poll is gone, and then nobody is left to wake.
            let _: io::Result<()> = self.waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A shard as a relay sees it.
pub(crate) struct FeedSink {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) feed: FeedKey,
    pub(crate) counters: Arc<Counters>,
}

impl Sink for FeedSink {
    fn deliver(&self, event: RelayEvent) -> Delivery {
        let is_frame = matches!(event, RelayEvent::Frame(_));
        let delivery = self.mailbox.event(self.feed, event);
        if is_frame && delivery == Delivery::Refused {
            self.counters.queue_full_drops.add(1);
        }
        delivery
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::socket;

    fn mailbox() -> (mio::Poll, Mailbox) {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        (poll, Mailbox::new(waker))
    }

    fn woken(poll: &mut mio::Poll) -> bool {
        let mut events = mio::Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    }

    #[test]
    fn only_a_sleeping_shard_is_woken_and_once() {
        let (mut poll, mailbox) = mailbox();
        mailbox.event(FeedKey(1), RelayEvent::Ended);
        assert!(!woken(&mut poll), "it will look before it sleeps");
        assert!(!mailbox.sleep(), "there is something to do");
        mailbox.take(&mut VecDeque::new(), &mut VecDeque::new());
        assert!(mailbox.sleep());
        mailbox.event(FeedKey(1), RelayEvent::Ended);
        mailbox.event(FeedKey(1), RelayEvent::Ended);
        assert!(woken(&mut poll));
        assert!(!woken(&mut poll));
    }

    /// Whoever writes while the shard goes to sleep is the one who must wake it: before it sleeps, while it falls asleep,
    /// and while it sleeps.
    #[test]
    fn no_word_is_slept_through() {
        let (poll, mailbox) = mailbox();
        let (mut poll, mailbox) = (poll, Arc::new(mailbox));
        let (taken, rounds) = (Arc::new(std::sync::atomic::AtomicU32::new(0)), 20_000);
        let writer = std::thread::spawn({
            let (mailbox, taken) = (mailbox.clone(), taken.clone());
            move || {
                for round in 0..rounds {
                    mailbox.event(FeedKey(1), RelayEvent::Ended);
                    // Another round as soon as the last is seen, while the shard is about to sleep again.
                    let begun = Instant::now();
                    while taken.load(std::sync::atomic::Ordering::Acquire) <= round {
                        if begun.elapsed() > Duration::from_secs(20) {
                            return;
                        }
                        std::thread::yield_now();
                    }
                }
            }
        });
        let (mut events, mut ready) = (VecDeque::new(), mio::Events::with_capacity(4));
        let mut seen = 0;
        while seen < rounds {
            if mailbox.sleep() {
                let woken = socket::wait(std::iter::empty(), &poll, Duration::from_secs(10), |_| {});
                assert!(woken, "round {seen}");
                poll.poll(&mut ready, Some(Duration::ZERO)).unwrap();
            }
            mailbox.take(&mut VecDeque::new(), &mut events);
            seen += events.drain(..).count() as u32;
            taken.store(seen, std::sync::atomic::Ordering::Release);
        }
        writer.join().unwrap();
    }

    #[test]
    fn offers_wait_apart_in_their_order_and_keep_the_shard_awake() {
        let (_poll, mailbox) = mailbox();
        let mut answers = Vec::new();
        for number in 0..MAX_COMMANDS {
            let (reply, answer) = oneshot::channel();
            assert!(mailbox.command(Command::Offer(Box::new(offer(number)), reply)));
            answers.push(answer);
        }
        assert!(!mailbox.command(Command::Offer(Box::new(offer(0)), oneshot::channel().0)), "full");
        let (reply, _answer) = oneshot::channel();
        assert!(mailbox.command(Command::Close("s".parse().unwrap(), reply)), "it comes whatever waits");

        let mut commands = VecDeque::new();
        assert_eq!(mailbox.take(&mut commands, &mut VecDeque::new()), MAX_COMMANDS);
        assert!(matches!(commands.pop_front(), Some(Command::Close(..))), "before the offers");
        for number in 0..MAX_COMMANDS {
            assert!(!mailbox.sleep());
            assert_eq!(mailbox.take_offer().unwrap().0.session, offer(number).session);
        }
        assert!(mailbox.take_offer().is_none() && mailbox.sleep());
    }

    fn offer(number: usize) -> OfferCommand {
        OfferCommand {
            role: Role::Viewer,
            session: format!("s{number}").parse().unwrap(),
            live: "demo".parse().unwrap(),
            relay: Relay::new(),
            sdp: String::new(),
            seat: crate::quota::Quota::new(1, 0).take(None).unwrap(),
            ends: None,
        }
    }

    #[test]
    fn a_full_queue_refuses_frames_but_not_what_must_be_known() {
        let (_poll, mailbox) = mailbox();
        let map = RelayEvent::ClockMap(haul_media::ClockMap {
            kind: haul_model::Kind::Audio,
            layer: haul_model::Layer(0),
            ntp: 0,
            timestamp: 0,
            arrived: Instant::now(),
        });
        for _ in 0..MAX_FRAMES {
            assert_eq!(mailbox.event(FeedKey(1), map.clone()), Delivery::Taken);
        }
        assert_eq!(mailbox.event(FeedKey(1), map), Delivery::Refused);
        assert_eq!(mailbox.event(FeedKey(1), RelayEvent::Ended), Delivery::Taken);
    }

    #[test]
    fn a_closed_mailbox_drops_the_replies_it_owes() {
        let (_poll, mailbox) = mailbox();
        let (reply, mut answer) = oneshot::channel();
        mailbox.command(Command::Drain(reply));
        mailbox.close();
        assert!(answer.try_recv().is_err());
        assert!(mailbox.is_closed() && !mailbox.command(Command::Stop));
    }

    #[test]
    fn it_opens_again_unless_the_shard_was_told_to_end() {
        let (_poll, mailbox) = mailbox();
        mailbox.close();
        assert!(mailbox.open() && mailbox.command(Command::MakeRoom(oneshot::channel().0)));
        mailbox.close();
        assert!(!mailbox.command(Command::Stop), "there is nobody who could");
        assert!(!mailbox.open() && mailbox.is_closed());
    }
}
