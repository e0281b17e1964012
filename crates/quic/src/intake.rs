//! How much a client may say beside media. MoQ keeps a message until all of it has come, and takes one for possible that is
//! 64 MiB long, on each of the streams that a client may open: whoever may watch could have us keep gigabytes.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::sync::watch;

/// So much may be said at once. What a client asks for are some hundred bytes, a broadcast that it announces no more.
const AT_ONCE_BYTES: f64 = (256 << 10) as f64;
/// And so much in a second, for as long as the session lasts.
const BYTES_A_SECOND: f64 = (4 << 10) as f64;

/// What one client has said.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Its streams that go one way carry media, of which there are limits elsewhere.
    sends_media: AtomicBool,
    /// What may still be said, and when that was so. A lock, since every stream is read by itself; it is held for a sum.
    left: Mutex<(f64, Instant)>,
    is_over: watch::Sender<bool>,
}

impl Intake {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            sends_media: AtomicBool::new(false),
            left: Mutex::new((AT_ONCE_BYTES, now)),
            is_over: watch::channel(false).0,
        }
    }

    /// Whoever may publish sends more on streams that go one way.
    pub(crate) fn expect_media(&self) {
        self.sends_media.store(true, Relaxed);
    }

    /// Something has come on a stream that goes one way, or both. Returns whether it may be taken.
    pub(crate) fn takes(&self, bytes: usize, is_one_way: bool, now: Instant) -> bool {
        if is_one_way && self.sends_media.load(Relaxed) {
            return true;
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(left.1).as_secs_f64();
        let may = (left.0 + since * BYTES_A_SECOND).min(AT_ONCE_BYTES) - bytes as f64;
        *left = (may, now);
        if may < 0.0 {
            self.is_over.send_replace(true);
        }
        may >= 0.0
    }

    /// More has come than may.
    pub(crate) fn is_over(&self) -> bool {
        *self.is_over.borrow()
    }

    /// Done when more has come than may.
    pub(crate) async fn over(&self) {
        // It fails where nobody is left to tell it, and that is us.
        let _ = self.is_over.subscribe().wait_for(|is_over| *is_over).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_asks_for_little_may_do_so_for_ever_and_who_says_much_is_stopped() {
        let began = Instant::now();
        let intake = Intake::new(began);
        for second in 0..100_000 {
            assert!(intake.takes(4 << 10, false, began + Duration::from_secs(second)));
        }
        let later = began + Duration::from_secs(100_000);
        assert!(intake.takes(100 << 10, true, later));
        assert!(intake.takes(100 << 10, false, later));
        assert!(!intake.is_over());
        assert!(!intake.takes(100 << 10, false, later), "of both kinds together");
        assert!(intake.is_over());
    }

    #[test]
    fn media_is_not_what_is_said() {
        let began = Instant::now();
        let intake = Intake::new(began);
        intake.expect_media();
        for _ in 0..1_000 {
            assert!(intake.takes(1 << 20, true, began));
        }
        assert!(!intake.takes(1 << 20, false, began));
    }
}
