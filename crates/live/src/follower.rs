//! The worker that carries out what follows from orders: bookings, milestones, follow-ups that are due.

use std::{sync::Arc, time::Duration};

use haul_commerce::{
    Storefront,
    follow::{Rules, Turn, follow},
};
use tokio::time::MissedTickBehavior;

use crate::now;

/// How often it looks; so late a badge or a notice may be.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Orders and timers taken at once; where there are more, it goes on without a pause.
const MAX_TURN: u32 = 256;

/// Runs until the process ends. What fails is taken up again at the next look: nothing is marked as done that is not.
pub async fn follow_orders(storefront: Arc<dyn Storefront>, rules: Rules) {
    let decide = |facts: &_| follow(facts, &rules);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        loop {
            match storefront.follow_orders(&decide, now().wall, MAX_TURN).await {
                Ok(Turn { orders, timers }) if orders == MAX_TURN || timers == MAX_TURN => {}
                Ok(Turn { orders, timers }) => {
                    if orders + timers > 0 {
                        tracing::debug!(orders, timers, "followed");
                    }
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "what follows from orders waits");
                    break;
                }
            }
        }
    }
}
