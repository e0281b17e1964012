//! The task that owns a live whose room is this process' alone: it hands the stage what happens, and the members what the
//! stage says.

use std::sync::Arc;

use haul_media::{Delivery as Taken, RelayEvent, Sink, Subscription};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    desk::Desk,
    house::{House, Word},
    likes::LIKES_AFTER,
    live::{Command, Live, Post},
    now,
    requests::Asked,
    stage::Input,
};

/// The close code of a service that starts anew (RFC 6455's registry): connect again.
pub(crate) const RESTART: u16 = 1012;
/// Sleeps at most this long: a bound for a clock that was set while nothing happened.
const LONGEST_SLEEP: std::time::Duration = std::time::Duration::from_secs(5);

pub(crate) struct Owner {
    desk: Desk,
    live: Live,
    house: House,
    /// When to fetch the likes that have come.
    likes_at: Option<Instant>,
    /// Who waits for something to be done: told when what comes of it is on its way to be written.
    done: Vec<oneshot::Sender<()>>,
    /// Keeps the watch on the relay.
    _broadcasts: Subscription,
}

/// Tells the owner when the host's picture begins and ends, whatever protocol it comes by.
struct Broadcasts(mpsc::UnboundedSender<Post>);

impl Sink for Broadcasts {
    fn deliver(&self, event: RelayEvent) -> Taken {
        match event {
            RelayEvent::Started(broadcast) => {
                let _ = self.0.send(Input::Broadcasting(true).into());
                if broadcast.audio.as_ref().is_some_and(|audio| !audio.codec.is_of_webrtc()) {
                    let _ = self.0.send(Input::SoundByMoqOnly.into());
                }
            }
            RelayEvent::Ended => drop(self.0.send(Input::Broadcasting(false).into())),
            RelayEvent::Stalled(stalled) => drop(self.0.send(Input::Stalled(stalled).into())),
            RelayEvent::OutOfOrder => drop(self.0.send(Input::OutOfOrder.into())),
            RelayEvent::Frame(_) | RelayEvent::ClockMap(_) => {}
        }
        Taken::Taken
    }
}

/// Has the live's task told of the host's picture, until this is dropped.
pub(crate) fn watch_broadcasts(live: &Live, post: mpsc::UnboundedSender<Post>) -> Subscription {
    live.relay().subscribe(Arc::new(Broadcasts(post))).1
}

impl Owner {
    pub(crate) fn new(desk: Desk, live: Live, post: mpsc::UnboundedSender<Post>) -> Self {
        let broadcasts = watch_broadcasts(&live, post);
        Self {
            desk,
            live,
            house: House::default(),
            likes_at: None,
            done: Vec::new(),
            _broadcasts: broadcasts,
        }
    }

    /// Owns the live until the process ends.
    pub(crate) async fn run(mut self, mut asked: Asked, mut posted: mpsc::UnboundedReceiver<Post>) {
        let mut told = Vec::new();
        loop {
            let at = now();
            let wake = self.desk.stage.next_timeout(at).unwrap_or(at.instant + LONGEST_SLEEP);
            let likes_at = self.likes_at.map(Instant::into_std);
            let wake = [Some(at.instant + LONGEST_SLEEP), self.house.due(), likes_at]
                .into_iter()
                .flatten()
                .fold(wake, std::time::Instant::min);
            tokio::select! {
                biased;
                Some(post) = posted.recv() => self.posted(post),
                () = tokio::time::sleep_until(Instant::from_std(wake)) => self.timeout(),
                Some((command, _)) = asked.next() => self.command(command),
            }
            self.desk.carry_out(&mut told);
            for word in told.drain(..) {
                if let Word::Entering(word) = &word {
                    self.live.enters_with(word.clone());
                }
                self.house.play(word, self.live.metrics());
            }
            self.house.settle(Instant::now().into_std(), self.live.metrics());
            for done in self.done.drain(..) {
                let _ = done.send(());
            }
        }
    }

    fn timeout(&mut self) {
        if self.likes_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.desk.stage.handle(Input::Liked(self.live.take_likes()), now());
        }
        self.desk.stage.timeout(now());
    }

    fn posted(&mut self, post: Post) {
        let input = match post {
            Post::Join { member, id, viewer, locale, resume, outlet } => {
                self.house.enter(member, viewer.as_ref(), locale.clone(), outlet);
                Input::Join { member, id, viewer, locale, resume }
            }
            Post::Visit { member, viewer, outlet } => {
                self.house.visit(member, outlet);
                Input::Visit { member, viewer }
            }
            Post::Liked => {
                self.likes_at = Some(Instant::now() + LIKES_AFTER);
                return;
            }
            Post::HandOver(done) => {
                // There is nobody to hand it to, but a next start.
                self.desk.stage.keep_counted();
                self.done.push(done);
                return;
            }
            Post::Forget { buyer, done } => {
                self.done.push(done);
                Input::Forget { buyer }
            }
            Post::Input(input) => {
                if let Input::Leave { member } = &input {
                    self.house.leave(*member);
                }
                input
            }
        };
        self.desk.stage.handle(input, now());
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Request { member, id, request } => {
                self.desk.stage.handle(Input::Request { member, id, request: *request }, now());
            }
            Command::Look(answer) => drop(answer.send(self.desk.look())),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.house.end_all(RESTART);
    }
}
