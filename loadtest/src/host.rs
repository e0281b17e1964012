//! The host of one live: on air, away because the network failed, or coming back.
//!
//! A broadcast that the server has ended is begun anew by itself, as encoders do it; so a server that was killed is found
//! again.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::{
    clip::LAYERS,
    moq_publisher,
    publisher::{self, PublishError, Terms, Told},
};

/// How long a host waits before trying again, where the server refuses or is not there.
const AGAIN: Duration = Duration::from_secs(1);

/// What all hosts have sent: payload bytes of each layer, over how long; and how often one had to begin anew.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) bytes: [u64; LAYERS.len()],
    pub(crate) time: Duration,
    pub(crate) returns: u64,
}

impl Sent {
    pub(crate) fn add(&mut self, other: Self) {
        for (mine, theirs) in self.bytes.iter_mut().zip(other.bytes) {
            *mine += theirs;
        }
        self.time += other.time;
        self.returns += other.returns;
    }

    /// Kilobits a second of a layer.
    pub(crate) fn kbps(&self, layer: usize) -> Option<f64> {
        let seconds = self.time.as_secs_f64();
        (seconds > 0.0 && self.bytes[layer] > 0).then(|| self.bytes[layer] as f64 * 8.0 / 1_000.0 / seconds)
    }
}

/// A broadcast, by either protocol.
enum Broadcast {
    /// Boxed: it is much larger than the other.
    Whip(Box<publisher::Broadcast>),
    Moq(moq_publisher::Broadcast),
}

impl Broadcast {
    async fn start(terms: Terms) -> Result<Self, PublishError> {
        Ok(match terms.moq.clone() {
            Some(door) => Self::Moq(moq_publisher::Broadcast::start(terms, door).await?),
            None => Self::Whip(Box::new(publisher::Broadcast::start(terms).await?)),
        })
    }

    fn told(&self) -> &Told {
        match self {
            Self::Whip(broadcast) => &broadcast.told,
            Self::Moq(broadcast) => &broadcast.told,
        }
    }

    fn vanish(self) {
        match self {
            Self::Whip(broadcast) => broadcast.vanish(),
            Self::Moq(broadcast) => broadcast.vanish(),
        }
    }

    async fn stop(self) {
        match self {
            Self::Whip(broadcast) => broadcast.stop().await,
            Self::Moq(broadcast) => broadcast.stop().await,
        }
    }
}

/// A host.
pub(crate) struct Host {
    terms: Terms,
    state: State,
    sent: Sent,
}

enum State {
    Away,
    /// Since then.
    OnAir(Broadcast, Instant),
    Coming(JoinHandle<Result<Broadcast, PublishError>>),
    /// Until then.
    Waiting(Instant),
}

impl Host {
    /// One who is not there yet.
    pub(crate) fn new(terms: Terms) -> Self {
        Self { terms, state: State::Away, sent: Sent::default() }
    }

    /// Goes on air, or says why not.
    pub(crate) async fn begin(&mut self) -> Result<(), PublishError> {
        let broadcast = Broadcast::start(self.terms.clone()).await?;
        self.state = State::OnAir(broadcast, Instant::now());
        Ok(())
    }

    /// Comes back, without being waited for; [`Host::look`] tells when it has.
    pub(crate) fn come(&mut self) {
        if matches!(self.state, State::Away | State::Waiting(_)) {
            self.state = State::Coming(tokio::spawn(Broadcast::start(self.terms.clone())));
        }
    }

    /// The network fails.
    pub(crate) fn vanish(&mut self) {
        match std::mem::replace(&mut self.state, State::Away) {
            State::OnAir(broadcast, since) => {
                self.count(&broadcast, since);
                tokio::task::block_in_place(|| broadcast.vanish());
            }
            State::Coming(task) => task.abort(),
            State::Away | State::Waiting(_) => {}
        }
    }

    /// Now and then: what has happened, if anything has.
    pub(crate) async fn look(&mut self) -> Option<Result<&'static str, String>> {
        match &mut self.state {
            State::OnAir(broadcast, _) if broadcast.told().ended.load(Ordering::Relaxed) => {
                self.vanish();
                self.come();
                Some(Err("the server ended the broadcast".to_owned()))
            }
            State::Coming(task) if task.is_finished() => match task.await {
                Ok(Ok(broadcast)) => {
                    self.sent.returns += 1;
                    self.state = State::OnAir(broadcast, Instant::now());
                    Some(Ok("the host is back"))
                }
                Ok(Err(error)) => {
                    self.state = State::Waiting(Instant::now() + AGAIN);
                    Some(Err(error.to_string()))
                }
                Err(error) => {
                    self.state = State::Waiting(Instant::now() + AGAIN);
                    Some(Err(format!("publishing: {error}")))
                }
            },
            State::Waiting(until) if *until <= Instant::now() => {
                self.come();
                None
            }
            _ => None,
        }
    }

    /// Says goodbye. Returns what was sent.
    pub(crate) async fn stop(mut self) -> Sent {
        match std::mem::replace(&mut self.state, State::Away) {
            State::OnAir(broadcast, since) => {
                self.count(&broadcast, since);
                broadcast.stop().await;
            }
            State::Coming(task) => task.abort(),
            State::Away | State::Waiting(_) => {}
        }
        self.sent
    }

    fn count(&mut self, broadcast: &Broadcast, since: Instant) {
        let bytes = broadcast.told().layer_bytes.each_ref().map(|bytes| bytes.load(Ordering::Relaxed));
        self.sent.add(Sent { bytes, time: since.elapsed(), returns: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_added_up_and_told_by_the_second() {
        let mut sent = Sent { bytes: [125_000, 0, 0], time: Duration::from_secs(1), returns: 1 };
        sent.add(Sent { bytes: [125_000, 1_000, 0], time: Duration::from_secs(1), returns: 0 });
        assert_eq!(
            (sent.kbps(0), sent.kbps(1), sent.kbps(2), sent.returns),
            (Some(1_000.0), Some(4.0), None, 1)
        );
        assert_eq!(Sent::default().kbps(0), None);
    }
}
