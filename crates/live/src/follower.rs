//! The worker that carries out what follows from orders: bookings, milestones, follow-ups that are due.

use std::{sync::Arc, time::Duration};

use haul_commerce::{
    Storefront,
    buyers::Retention,
    follow::{Rules, Turn, follow},
};
use haul_model::UnixMillis;
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

/// How often it is looked whether a saved product is back in stock.
const STOCK_EVERY: Duration = Duration::from_secs(2);
/// Products looked at, and buyers told, at once; the rest has its turn with the next look.
const MAX_TOLD: u32 = 10_000;
/// How often what is older than it may be is forgotten.
const RETIRE_EVERY: Duration = Duration::from_secs(3_600);

/// How long what is personal is kept; `None`: for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Joins and clicks.
    pub touches: Option<Duration>,
    /// Contacts and addresses of orders.
    pub details: Option<Duration>,
}

/// Tells of saved products that are back in stock, and forgets what is too old. Runs until the process ends.
pub async fn look_after_buyers(storefront: Arc<dyn Storefront>, keep: Keep) {
    let mut stock = tokio::time::interval(STOCK_EVERY);
    let mut retire = tokio::time::interval(RETIRE_EVERY);
    stock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stock.tick() => match storefront.tell_back_in_stock(now().wall, MAX_TOLD).await {
                Ok(0) => {}
                Ok(told) => tracing::info!(told, "saved products are back in stock"),
                Err(error) => tracing::warn!(%error, "saved products were not looked at"),
            },
            _ = retire.tick() => {
                let wall = now().wall;
                let before = |keep: Option<Duration>| keep.map_or(UnixMillis(0), |keep| wall - keep);
                let retention =
                    Retention { touches_before: before(keep.touches), details_before: before(keep.details) };
                if let Err(error) = storefront.retire(retention).await {
                    tracing::warn!(%error, "what is too old is not forgotten yet");
                }
            }
        }
    }
}
